/**
 * `DIR/meta`: whose directory this is (J1) and its start history (L1). JSON, replaced as a whole.
 *
 * Every open appends a random start id durably before anything is told to anybody. A directory that is not ours, of another
 * role, cluster or node, or written by a newer version is refused with one sentence before anything in it is touched.
 */
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { type Disk, isId, randomId, readWholeFile, replaceFile } from "@millrace/runtime";
import { startsMax } from "./limits.ts";
import type { DirectoryIdentity, DirectoryMeta } from "./types.ts";

/** Version of the directory as a whole: layout, meta, checkpoint. */
export const directoryFormatVersion = 1;

const metaName = "meta";
/** Names that may stand in a directory before its first meta: the lock's own files. */
const lockNames = /^\.lock(\.owner|-journal)?$/;
const temporaryName = /^meta\.[A-Za-z0-9_-]{22}\.tmp$/;

/** Opens or creates `meta`: checks identity and version, appends this start, returns what is on disk now. */
export async function openMeta(
  disk: Disk,
  path: string,
  identity: DirectoryIdentity,
): Promise<DirectoryMeta> {
  const bytes = await readWholeFile(disk, join(path, metaName));
  const known = bytes === undefined ? await firstMeta(disk, path, identity) : parseMeta(path, bytes);
  checkIdentity(path, known, identity);
  const meta: DirectoryMeta = {
    ...known,
    clusterId: known.clusterId ?? identity.clusterId ?? null,
    nodeId: known.nodeId ?? identity.nodeId ?? null,
    starts: [...known.starts, randomId()].slice(-startsMax),
  };
  await writeMeta(disk, path, meta);
  return meta;
}

/** Another id, no history; the journal keeps the id it was written under. Only for a directory that has a meta file. */
export async function renewMeta(
  disk: Disk,
  path: string,
  role: DirectoryIdentity["role"],
): Promise<DirectoryMeta> {
  const bytes = await readWholeFile(disk, join(path, metaName));
  if (bytes === undefined)
    throw new AppError("INVALID_CONFIG", `${path} is no Millrace data directory: it has no meta file`);
  const known = parseMeta(path, bytes);
  checkIdentity(path, known, { role });
  const journalId = known.journalId ?? known.directoryId;
  const meta: DirectoryMeta = { ...known, directoryId: randomId(), journalId, nodeId: null, starts: [] };
  await writeMeta(disk, path, meta);
  return meta;
}

/** Writes the identity learnt at registration; CLUSTER_MISMATCH when the directory has another. */
export async function identifyMeta(
  disk: Disk,
  path: string,
  meta: DirectoryMeta,
  identity: { clusterId: string; nodeId: string },
): Promise<DirectoryMeta> {
  checkIdentity(path, meta, { role: meta.role, ...identity });
  if (meta.clusterId === identity.clusterId && meta.nodeId === identity.nodeId) return meta;
  const named = { ...meta, ...identity };
  await writeMeta(disk, path, named);
  return named;
}

async function writeMeta(disk: Disk, path: string, meta: DirectoryMeta): Promise<void> {
  await replaceFile(disk, join(path, metaName), Buffer.from(`${JSON.stringify(meta, null, 2)}\n`));
}

async function firstMeta(disk: Disk, path: string, identity: DirectoryIdentity): Promise<DirectoryMeta> {
  for (const name of await disk.list(path)) {
    if (temporaryName.test(name)) await disk.removeFile(join(path, name));
    else if (!lockNames.test(name)) {
      throw new AppError(
        "INVALID_CONFIG",
        `${path} is no Millrace data directory (it holds "${name}" and no meta file): choose an empty or new directory`,
        { metadata: { directory: path } },
      );
    }
  }
  return {
    formatVersion: directoryFormatVersion,
    role: identity.role,
    clusterId: null,
    nodeId: null,
    directoryId: randomId(),
    starts: [],
  };
}

function parseMeta(path: string, bytes: Uint8Array): DirectoryMeta {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    parsed = undefined;
  }
  const version = field(parsed, "formatVersion");
  if (typeof version === "number" && version > directoryFormatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} was written by a newer version (format ${version}, this one reads up to ${directoryFormatVersion}): start that version`,
    );
  }
  if (version !== directoryFormatVersion || !isMeta(parsed)) {
    throw new AppError(
      "INVALID_CONFIG",
      `${join(path, metaName)} is damaged or no Millrace meta file: restore it`,
    );
  }
  return parsed;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

function isMeta(value: unknown): value is DirectoryMeta {
  const starts = field(value, "starts");
  const directoryId = field(value, "directoryId");
  const role = field(value, "role");
  const isTextOrNull = (name: string): boolean => {
    const text = field(value, name);
    return text === null || typeof text === "string";
  };
  return (
    typeof directoryId === "string" &&
    isId(directoryId) &&
    typeof role === "string" &&
    isTextOrNull("clusterId") &&
    isTextOrNull("nodeId") &&
    Array.isArray(starts) &&
    starts.every((start) => typeof start === "string")
  );
}

function checkIdentity(path: string, meta: DirectoryMeta, identity: DirectoryIdentity): void {
  if (meta.role !== identity.role) {
    throw new AppError(
      "INVALID_CONFIG",
      `${path} is the data directory of role ${meta.role}, not of ${identity.role}: choose another directory`,
    );
  }
  if (meta.clusterId !== null && identity.clusterId !== undefined && meta.clusterId !== identity.clusterId) {
    throw new AppError(
      "CLUSTER_MISMATCH",
      `${path} belongs to cluster ${meta.clusterId}, not to ${identity.clusterId}: use that cluster or another directory`,
    );
  }
  if (meta.nodeId !== null && identity.nodeId !== undefined && meta.nodeId !== identity.nodeId) {
    throw new AppError(
      "CLUSTER_MISMATCH",
      `${path} belongs to node ${meta.nodeId}, not to ${identity.nodeId}: start it under that id, or choose another directory`,
    );
  }
}
