/**
 * The small files beside the data.
 *
 * `journal/checkpoint` is ours and decides: through which entry everything is in fsynced segment files, and each log's
 * flushed-through mark (J4). The text files in `topics/` are Kafka's (kafka.md §3.1-3.2): written so that Kafka's tools and a
 * broker find what they expect; only the leader epochs are read back.
 */
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { crc32c } from "@millrace/record";
import { type Disk, readWholeFile, replaceFile } from "@millrace/runtime";
import type { EpochHistory, EpochStart } from "./epoch-history.ts";

/** What a checkpoint says of one log. */
export interface LogMark {
  /** Everything below is in fsynced segment files: the flushed-through mark (J4). */
  readonly recoveryPoint: number;
  readonly startOffset: number;
  /** Segments with a lower base are gone. */
  readonly firstSegmentBase: number;
}

/** `journal/checkpoint`. */
export interface JournalCheckpoint {
  /** Effects of all entries up to this one are durable in segment files; their journal files may go. */
  readonly throughEntry: number;
  /** Written by a close after which nothing was appended. */
  readonly isClean: boolean;
  readonly marks: ReadonlyMap<number, LogMark>;
}

const checkpointVersion = 1;
const checkpointName = "checkpoint";

/** Bytes of `journal/checkpoint`: a line of JSON and a line with its CRC-32C. */
export function encodeCheckpoint(checkpoint: JournalCheckpoint): Buffer {
  const { throughEntry, isClean } = checkpoint;
  const logs = [...checkpoint.marks].map(([number, mark]) => [
    number,
    mark.recoveryPoint,
    mark.startOffset,
    mark.firstSegmentBase,
  ]);
  const line = JSON.stringify({ formatVersion: checkpointVersion, throughEntry, isClean, logs });
  return Buffer.from(`${line}\n${crc32c(Buffer.from(line)).toString(16)}\n`);
}

/** The checkpoint, or undefined when the bytes are damaged. Throws UNSUPPORTED_VERSION for a newer one. */
export function decodeCheckpoint(bytes: Uint8Array): JournalCheckpoint | undefined {
  const [line, crc] = Buffer.from(bytes).toString("utf8").split("\n");
  if (line === undefined || crc !== crc32c(Buffer.from(line)).toString(16)) return undefined;
  const parsed = JSON.parse(line) as {
    formatVersion: number;
    throughEntry: number;
    isClean: boolean;
    logs: [number, number, number, number][];
  };
  if (parsed.formatVersion > checkpointVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `the journal checkpoint has format ${parsed.formatVersion}, this version reads up to ${checkpointVersion}: start the version that wrote it`,
    );
  }
  const marks = new Map<number, LogMark>();
  for (const [number, recoveryPoint, startOffset, firstSegmentBase] of parsed.logs) {
    marks.set(number, { recoveryPoint, startOffset, firstSegmentBase });
  }
  return { throughEntry: parsed.throughEntry, isClean: parsed.isClean, marks };
}

/** Writes `journal/checkpoint`, durably and at once. */
export async function writeCheckpoint(
  disk: Disk,
  journalPath: string,
  checkpoint: JournalCheckpoint,
): Promise<void> {
  await replaceFile(disk, join(journalPath, checkpointName), encodeCheckpoint(checkpoint));
}

/** Reads it; an empty one when there is none yet. A damaged one stops the open: without marks J4 cannot be told. */
export async function readCheckpoint(disk: Disk, journalPath: string): Promise<JournalCheckpoint> {
  const path = join(journalPath, checkpointName);
  const bytes = await readWholeFile(disk, path);
  if (bytes === undefined) return { throughEntry: 0, isClean: false, marks: new Map() };
  const checkpoint = decodeCheckpoint(bytes);
  if (checkpoint === undefined) {
    throw new AppError(
      "RECORD_LOST_ON_DISK",
      `${path} is damaged: what was flushed and what was not can no longer be told apart; restore the file, or the directory from a replica`,
    );
  }
  return checkpoint;
}

/** A row of Kafka's offset checkpoint files. */
export interface OffsetCheckpointRow {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

/** Text of Kafka's `recovery-point-offset-checkpoint`, `log-start-offset-checkpoint`, `replication-offset-checkpoint`. */
export function formatOffsetCheckpoint(rows: readonly OffsetCheckpointRow[]): string {
  const lines = rows.map(({ topic, partition, offset }) => `${topic} ${partition} ${offset}\n`);
  return `0\n${rows.length}\n${lines.join("")}`;
}

/** Text of Kafka's `leader-epoch-checkpoint`. */
export function formatEpochs(epochs: readonly EpochStart[]): string {
  return `0\n${epochs.length}\n${epochs.map(({ epoch, startOffset }) => `${epoch} ${startOffset}\n`).join("")}`;
}

/** The epochs of that text, or undefined when it is damaged (they are then taken from the batches). */
export function parseEpochs(text: string): EpochStart[] | undefined {
  const lines = text.split("\n");
  if (lines[0] !== "0" || !/^\d{1,9}$/.test(lines[1] ?? "")) return undefined;
  const rows = lines.slice(2, 2 + Number(lines[1]));
  if (rows.length !== Number(lines[1])) return undefined;
  const epochs: EpochStart[] = [];
  for (const row of rows) {
    const match = /^(\d{1,10}) (\d{1,16})$/.exec(row);
    const epoch = Number(match?.[1]);
    const startOffset = Number(match?.[2]);
    const before = epochs.at(-1);
    const isAscending = before === undefined || (before.epoch < epoch && before.startOffset < startOffset);
    if (match === null || !Number.isSafeInteger(startOffset) || !isAscending) return undefined;
    epochs.push({ epoch, startOffset });
  }
  return epochs;
}

const epochFileName = "leader-epoch-checkpoint";

/** Writes a log's epochs, durably. */
export async function writeEpochHistory(disk: Disk, directory: string, epochs: EpochHistory): Promise<void> {
  await replaceFile(disk, join(directory, epochFileName), Buffer.from(formatEpochs(epochs.entries)));
}

/** Reads a log's epochs; undefined when absent or damaged. */
export async function readEpochs(disk: Disk, directory: string): Promise<EpochStart[] | undefined> {
  const bytes = await readWholeFile(disk, join(directory, epochFileName));
  return bytes === undefined ? undefined : parseEpochs(Buffer.from(bytes).toString("latin1"));
}
