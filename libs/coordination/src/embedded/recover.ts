/**
 * Opening the files of the embedded log: check every entry and the chain, cut the torn end of the last append.
 *
 * What was durable is never cut: only beyond the last valid entry of the last file, only what one append can have left
 * there, and never below a position that a snapshot or a clean close proves durable.
 */
import { join } from "node:path";
import { type Disk, type DiskFile, readWholeFile } from "@millrace/runtime";
import { decodeBatch } from "../batch-codec.ts";
import { type LoggedBatch, type LogPosition, logStart } from "../types.ts";
import {
  corrupt,
  decodeHeader,
  entryAt,
  type FileHeader,
  firstSequenceOf,
  frameBytes,
  headerBytes,
  isTornTail,
  logFileName,
} from "./format.ts";

/** A checked log file. */
export interface CheckedFile {
  readonly name: string;
  readonly header: FileHeader;
  /** Bytes of header and valid entries. */
  sizeBytes: number;
  /** Position of the last entry in it, or the one before its first. */
  end: LogPosition;
}

/** What opening found. */
export interface RecoveredLog {
  readonly logId: string;
  /** Ascending; the last one takes appends. */
  readonly files: CheckedFile[];
  /** Bytes of a torn append that were cut. */
  readonly tornBytes: number;
}

/** Calls `visit` for each valid entry of a file's bytes; returns where the first invalid one starts. */
export function walkEntries(
  bytes: Uint8Array,
  header: FileHeader,
  visit: (batch: LoggedBatch) => void,
): { readonly position: number; readonly end: LogPosition } {
  let end: LogPosition = { sequence: header.firstSequence - 1, hash: header.previousHash };
  let position = headerBytes;
  for (;;) {
    const payload = entryAt(bytes, position, end.sequence + 1);
    if (payload === undefined) return { position, end };
    const batch = decodeBatch(header.logId, end, payload);
    visit(batch);
    end = batch.position;
    position += frameBytes + payload.byteLength;
  }
}

/** Checks all files of `directory`; undefined when there is no log yet. `durableThrough`: proven elsewhere. */
export async function recoverLog(
  disk: Disk,
  directory: string,
  durableThrough: number,
): Promise<RecoveredLog | undefined> {
  const names = (await disk.list(directory)).filter((name) => firstSequenceOf(name) !== undefined);
  const files: CheckedFile[] = [];
  let tornBytes = 0;
  for (const [index, name] of names.entries()) {
    const isLast = index === names.length - 1;
    const path = join(directory, name);
    const bytes = await readWholeFile(disk, path);
    if (bytes === undefined) throw corrupt(path, "it went away");
    const header = decodeHeader(path, bytes);
    checkFollows(path, header, files.at(-1));
    const { position, end } = walkEntries(bytes, header, () => {});
    if (position < bytes.byteLength) {
      if (!isLast || !isTornTail(bytes, position, end.sequence)) {
        throw corrupt(
          path,
          `batch ${end.sequence + 1} at byte ${position} does not match its checksum, and others follow`,
        );
      }
      if (end.sequence < durableThrough) throw corrupt(path, lostTail(end.sequence, durableThrough));
      await cut(disk, path, position);
      tornBytes = bytes.byteLength - position;
    }
    files.push({ name, header, sizeBytes: position, end });
  }
  const last = files.at(-1);
  if (last === undefined) return undefined;
  if (last.end.sequence < durableThrough) {
    throw corrupt(join(directory, last.name), lostTail(last.end.sequence, durableThrough));
  }
  return { logId: last.header.logId, files, tornBytes };
}

function lostTail(sequence: number, durableThrough: number): string {
  return `it ends at batch ${sequence}, and batches through ${durableThrough} were durable`;
}

function checkFollows(path: string, header: FileHeader, before: CheckedFile | undefined): void {
  if (firstSequenceOf(path.slice(-24)) !== header.firstSequence) {
    throw corrupt(path, `its header says that it starts at batch ${header.firstSequence}`);
  }
  if (before === undefined) return;
  const expected = before.end;
  if (header.logId !== before.header.logId)
    throw corrupt(path, `it is of log ${header.logId}, not ${before.header.logId}`);
  if (header.firstSequence !== expected.sequence + 1 || header.previousHash !== expected.hash) {
    throw corrupt(path, `it does not follow batch ${expected.sequence}, the last one before it`);
  }
}

async function cut(disk: Disk, path: string, position: number): Promise<void> {
  const file: DiskFile = await disk.open(path, "write");
  try {
    await file.truncate(position);
    await file.dataSync();
  } finally {
    await file.close();
  }
}

/** The name and header of the file that follows `end`. */
export function nextFile(logId: string, end: LogPosition = logStart): { name: string; header: FileHeader } {
  const firstSequence = end.sequence + 1;
  return { name: logFileName(firstSequence), header: { logId, firstSequence, previousHash: end.hash } };
}
