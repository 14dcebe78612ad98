/**
 * Reading the journal at start (J2): which entries count, where it ends, and whether something acknowledged is missing.
 *
 * Files are read in the order of their generations; within one, entries must be intact, of this generation and densely
 * numbered. The first that is not ends the file. That is the journal's end if nothing later proves otherwise: a later
 * file that goes on behind a gap, or an intact entry that was written when the missing one was already fsynced.
 */
import { AppError } from "@millrace/base";
import { type Disk, readWholeFile } from "@millrace/runtime";
import { asBuffer, readUint64, writeUint64 } from "./bytes.ts";
import { journalFilePath, listJournalFiles } from "./journal-files.ts";
import {
  decodeEntry,
  decodeJournalHeader,
  entryHeadBytes,
  type FoundEntry,
  findEntry,
  type JournalEntry,
  journalFormatVersion,
  journalHeaderBytes,
} from "./journal-format.ts";

/** A file with entries. */
export interface ScannedFile {
  readonly generation: number;
  readonly path: string;
  readonly firstEntry: number;
  readonly lastEntry: number;
}

/** The journal as found. */
export interface JournalScan {
  /** Files with entries that count, oldest first. */
  readonly used: readonly ScannedFile[];
  /** Files not begun (new, or re-used and stale), numbered upwards. */
  readonly spare: readonly number[];
  /** Number of the last entry, 0 when there is none. */
  readonly lastEntry: number;
  /** Where an entry stands that was begun and never finished: torn by a crash, told to nobody. */
  readonly tornAt: { readonly generation: number; readonly position: number } | undefined;
}

/** Sees each entry in order. */
export type EntryVisitor = (entry: JournalEntry, found: FoundEntry) => void;

/** Scans all files. `throughEntry`: entries up to it need not be there any more. */
export async function scanJournal(
  disk: Disk,
  journalPath: string,
  expected: { readonly directoryId: string; readonly throughEntry: number },
  visit: EntryVisitor,
): Promise<JournalScan> {
  const generations = await listJournalFiles(disk, journalPath);
  const used: ScannedFile[] = [];
  const spare: number[] = [];
  let tornAt: JournalScan["tornAt"];
  for (const [index, generation] of generations.entries()) {
    const path = journalFilePath(journalPath, generation);
    const before = generations[index - 1];
    if (before !== undefined && before + 1 !== generation) {
      throw lost(`the journal file ${journalFilePath(journalPath, before + 1)} is missing`);
    }
    const bytes = asBuffer((await readWholeFile(disk, path)) ?? new Uint8Array());
    const firstEntry = begunAt(bytes, generation, path, expected.directoryId);
    if (firstEntry === undefined) {
      spare.push(generation);
      continue;
    }
    if (spare.length > 0)
      throw lost(`${journalFilePath(journalPath, spare[0] as number)} has lost its header`);
    const last = used.at(-1);
    if (last !== undefined && firstEntry > Math.max(last.lastEntry, expected.throughEntry) + 1) {
      throw lost(
        `${last.path} is damaged: entries ${last.lastEntry + 1} to ${firstEntry - 1} are unreadable`,
      );
    }
    const { lastEntry, end } = scanFile(bytes, { generation, path, firstEntry }, visit);
    tornAt = isTornAt(bytes, end, generation) ? { generation, position: end } : undefined;
    used.push({ generation, path, firstEntry, lastEntry });
  }
  const first = used[0];
  if (first !== undefined && first.firstEntry > expected.throughEntry + 1) {
    throw lost(
      `journal entries ${expected.throughEntry + 1} to ${first.firstEntry - 1} are missing in ${journalPath}`,
    );
  }
  return { used, spare, lastEntry: used.at(-1)?.lastEntry ?? 0, tornAt };
}

/** Visits the entries of one scanned file again. */
export async function revisitFile(disk: Disk, file: ScannedFile, visit: EntryVisitor): Promise<void> {
  const bytes = asBuffer((await readWholeFile(disk, file.path)) ?? new Uint8Array());
  const { lastEntry } = scanFile(bytes, file, visit);
  if (lastEntry !== file.lastEntry) throw lost(`${file.path} reads differently the second time`);
}

/** Number of the file's first entry, or undefined when the file is not begun. */
function begunAt(bytes: Buffer, generation: number, path: string, directoryId: string): number | undefined {
  const header = decodeJournalHeader(bytes);
  if (header === undefined) return undefined;
  if (header.formatVersion > journalFormatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} has journal format ${header.formatVersion}, this version reads up to ${journalFormatVersion}: start the version that wrote it`,
    );
  }
  if (header.directoryId !== directoryId) {
    throw new AppError(
      "LINEAGE_REFUSED",
      `${path} belongs to data directory ${header.directoryId}, not to ${directoryId}`,
    );
  }
  return header.generation === generation ? header.firstEntryNumber : undefined;
}

function scanFile(
  bytes: Buffer,
  file: { readonly generation: number; readonly path: string; readonly firstEntry: number },
  visit: EntryVisitor,
): { lastEntry: number; end: number } {
  let position = journalHeaderBytes;
  let due = file.firstEntry;
  for (;;) {
    const found = findEntry(bytes, position);
    if (found === undefined || found.generation !== file.generation || found.entryNumber !== due) break;
    visit(decodeEntry(bytes, found, file.path), found);
    position = found.end;
    due++;
  }
  refuseProvenLoss(bytes, position, due, file);
  return { lastEntry: due - 1, end: position };
}

/** True when the head of an entry of this generation stands there, but not the whole of it. */
function isTornAt(bytes: Buffer, position: number, generation: number): boolean {
  if (position + entryHeadBytes > bytes.length) return false;
  return bytes.readUInt32BE(position) > 0 && readUint64(bytes, position + 8) === generation;
}

/** Looks behind the end for an entry written when entry `due` was already fsynced: then `due` is corrupt, not torn. */
function refuseProvenLoss(
  bytes: Buffer,
  from: number,
  due: number,
  file: { readonly generation: number; readonly path: string },
): void {
  const pattern = Buffer.alloc(8);
  writeUint64(pattern, 0, file.generation);
  for (let at = bytes.indexOf(pattern, from + 8); at >= 0; at = bytes.indexOf(pattern, at + 1)) {
    const start = at - 8;
    const isCandidate = start >= journalHeaderBytes && start + entryHeadBytes <= bytes.length;
    if (!isCandidate || bytes.readUInt32BE(start) > bytes.length) continue;
    const found = findEntry(bytes, start);
    if (found === undefined || found.entryNumber <= due || found.durableThrough < due) continue;
    throw lost(
      `${file.path} is damaged at byte ${from}: entry ${due} was durable (entry ${found.entryNumber} proves it) and is unreadable`,
    );
  }
}

function lost(text: string): AppError {
  return new AppError(
    "RECORD_LOST_ON_DISK",
    `${text}: records that were acknowledged may be missing; restore the directory from a copy or replica, or give up what it holds by using a new one`,
  );
}
