/**
 * The metadata service's data directory: lock, `meta`, and the folder of the embedded log.
 *
 * `meta` has the form of every Millrace data directory (JSON, format version first). Each start appends a random id to
 * the start history durably before anything else is done (L1).
 */
import { join } from "node:path";
import { AppError } from "@millrace/base";
import {
  type Disk,
  directoryError,
  isId,
  lockDirectory,
  randomId,
  readWholeFile,
  replaceFile,
} from "@millrace/runtime";

const formatVersion = 1;

/** Starts kept in the history. */
const startsKept = 64;

/** What `meta` holds. */
export interface MetadataMeta {
  readonly formatVersion: number;
  readonly role: "metadata";
  readonly clusterId: string | null;
  readonly nodeId: string;
  readonly directoryId: string;
  /** Oldest first; the last entry is this start. */
  readonly starts: readonly string[];
}

/** An opened data directory. */
export interface MetadataDirectory {
  readonly meta: MetadataMeta;
  /** Folder of the embedded log. */
  readonly logPath: string;
  /** Writes down the cluster; throws CLUSTER_MISMATCH when another one is noted. */
  setClusterId(clusterId: string): Promise<void>;
  close(): void;
}

/** Opens or makes the directory at `path` under its lock. */
export async function openMetadataDirectory(
  disk: Disk,
  path: string,
  nodeId: string,
): Promise<MetadataDirectory> {
  try {
    return await openLocked(disk, path, nodeId);
  } catch (error) {
    throw directoryError(path, error);
  }
}

async function openLocked(disk: Disk, path: string, nodeId: string): Promise<MetadataDirectory> {
  await disk.makeDirectory(path);
  const lock = lockDirectory(path);
  try {
    const metaPath = join(path, "meta");
    const found = await readMeta(disk, metaPath);
    if (found !== undefined && found.nodeId !== nodeId) {
      throw new AppError(
        "INVALID_CONFIG",
        `${path} belongs to metadata node ${found.nodeId}: start it under that id, or choose another directory`,
      );
    }
    const start = randomId();
    let meta: MetadataMeta = {
      formatVersion,
      role: "metadata",
      clusterId: found?.clusterId ?? null,
      nodeId,
      directoryId: found?.directoryId ?? randomId(),
      starts: [...(found?.starts ?? []), start].slice(-startsKept),
    };
    const save = (): Promise<void> =>
      replaceFile(disk, metaPath, Buffer.from(`${JSON.stringify(meta, null, 2)}\n`));
    await save();
    return {
      meta,
      logPath: join(path, "metadata"),
      setClusterId: async (clusterId) => {
        if (meta.clusterId === clusterId) return;
        if (meta.clusterId !== null) {
          throw new AppError(
            "CLUSTER_MISMATCH",
            `${metaPath} names cluster ${meta.clusterId}, its metadata log is of cluster ${clusterId}: restore the directory from one copy`,
          );
        }
        meta = { ...meta, clusterId };
        await save();
      },
      close: () => lock.release(),
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function readMeta(disk: Disk, path: string): Promise<MetadataMeta | undefined> {
  const bytes = await readWholeFile(disk, path);
  if (bytes === undefined) return undefined;
  let meta: Partial<MetadataMeta>;
  try {
    meta = JSON.parse(Buffer.from(bytes).toString("utf8")) as Partial<MetadataMeta>;
  } catch (error) {
    throw new AppError("RECORD_LOST_ON_DISK", `${path} is no JSON: restore the directory from a copy`, {
      cause: error,
    });
  }
  if (meta.formatVersion !== formatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} has format version ${String(meta.formatVersion)}, this version knows ${formatVersion}: start the version that wrote it`,
    );
  }
  const isWhole =
    meta.role === "metadata" &&
    typeof meta.nodeId === "string" &&
    typeof meta.directoryId === "string" &&
    isId(meta.directoryId) &&
    Array.isArray(meta.starts);
  if (!isWhole) {
    throw new AppError(
      "INVALID_CONFIG",
      `${path} is not of a metadata directory (role ${String(meta.role)}): choose another directory`,
    );
  }
  return meta as MetadataMeta;
}
