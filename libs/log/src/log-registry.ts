/**
 * Which logs a directory has (J1): kept in the state table under internal keys, so that the journal's checksums
 * and atomicity hold for it too; and the folders that belong to them.
 *
 *   topics/<topic>-<p>/       partition.metadata (Kafka's), identity is the topic id (L3)
 *   channels/<channel id>/
 *
 * A log's number is what journal entries call it by; numbers are never given twice.
 */
import { join } from "node:path";
import { AppError, invariant } from "@millrace/base";
import { type Disk, randomId, readWholeFile, replaceFile } from "@millrace/runtime";
import { internalKeyPrefix, type StateTable } from "./state-table.ts";
import type { LogConfig, LogId, StateChange } from "./types.ts";

const logKeyPrefix = `${internalKeyPrefix}log/`;
const nextNumberKey = `${internalKeyPrefix}next-log`;
const formatVersion = 1;
const partitionMetadataName = "partition.metadata";

/** Folder names of a log being removed end so; recovery finishes the removal. */
export const deletedSuffix = "-delete";
/** Folder names of data that no log claims end so; they are left to the operator. */
export const straySuffix = "-stray";

/** A log as the registry knows it. */
export interface RegisteredLog {
  readonly number: number;
  readonly id: LogId;
  readonly config: LogConfig;
  readonly isDeleted: boolean;
}

/** Text that is equal for equal logs. */
export function logIdKey(id: LogId): string {
  return id.kind === "topic" ? `topic/${id.topicId}/${id.partition}` : `channel/${id.channelId}`;
}

/** The folder of a log, relative to the data directory. */
export function logFolder(id: LogId): string {
  return id.kind === "topic"
    ? join("topics", `${id.topicName}-${id.partition}`)
    : join("channels", id.channelId);
}

/** The change that writes a log's registration. */
export function registrationChange(log: RegisteredLog): StateChange {
  const { id, config, isDeleted } = log;
  const value = Buffer.from(JSON.stringify({ formatVersion, id, config, isDeleted }));
  return { key: `${logKeyPrefix}${log.number}`, value };
}

/** The change that removes it. */
export function unregistrationChange(number: number): StateChange {
  return { key: `${logKeyPrefix}${number}`, value: null };
}

/** A number never given before, and the change that says so. */
export function takeLogNumber(state: StateTable): { number: number; change: StateChange } {
  const known = state.get(nextNumberKey);
  const number = known === undefined ? 1 : Number(Buffer.from(known).toString("latin1"));
  invariant(Number.isSafeInteger(number) && number < 2 ** 32, "a log number is a u32");
  return { number, change: { key: nextNumberKey, value: Buffer.from(String(number + 1)) } };
}

/** All registrations, by number. */
export function registeredLogs(state: StateTable): RegisteredLog[] {
  return state
    .keys(logKeyPrefix)
    .map((key) => parseRegistration(Number(key.slice(logKeyPrefix.length)), state.get(key) as Uint8Array))
    .sort((a, b) => a.number - b.number);
}

function parseRegistration(number: number, value: Uint8Array): RegisteredLog {
  const parsed = JSON.parse(Buffer.from(value).toString("utf8")) as {
    formatVersion: number;
    id: LogId;
    config: LogConfig;
    isDeleted: boolean;
  };
  if (parsed.formatVersion > formatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `log ${number} is registered in format ${parsed.formatVersion}, this version reads up to ${formatVersion}: start the version that wrote it`,
    );
  }
  return { number, id: parsed.id, config: parsed.config, isDeleted: parsed.isDeleted };
}

/** Makes a log's folder, empty but for its identity; whatever stood under the name is moved aside. Durable. */
export async function createLogFolder(
  disk: Disk,
  directory: string,
  id: LogId,
): Promise<{ strayPath: string | undefined }> {
  const path = join(directory, logFolder(id));
  const strayPath =
    (await disk.stat(path)) === undefined ? undefined : await setAside(disk, path, straySuffix);
  await disk.makeDirectory(path);
  if (id.kind === "topic") {
    const text = `version: 0\ntopic_id: ${id.topicId}\n`;
    await replaceFile(disk, join(path, partitionMetadataName), Buffer.from(text));
  }
  return { strayPath };
}

/** Renames a folder out of the way (J1: before a namesake is made); durable. Kafka's names: `<name>.<uuid><suffix>`. */
export async function setAside(disk: Disk, path: string, suffix: string): Promise<string> {
  const aside = `${path}.${randomId()}${suffix}`;
  await disk.rename(path, aside);
  await disk.syncDirectory(join(path, ".."));
  return aside;
}

/** The topic id in a folder's `partition.metadata`; undefined when there is none. */
export async function folderTopicId(disk: Disk, path: string): Promise<string | undefined> {
  const bytes = await readWholeFile(disk, join(path, partitionMetadataName));
  const text = bytes === undefined ? "" : Buffer.from(bytes).toString("latin1");
  return /^topic_id: (\S+)$/m.exec(text)?.[1];
}
