/**
 * One entry of a commit log (rule C2): what it says, its text on disk, and the checks when it is read back.
 *
 * On disk: one JSON object `{formatVersion, crc32c, body}`; the checksum is over the JSON text of `body`.
 */
import { AppError } from "@millrace/base";
import type { Origin } from "@millrace/flow";
import { crc32c } from "@millrace/record";

/** Version of the entry's form. A higher one is refused, never skipped. */
export const entryFormatVersion = 1;

/** Where a successor goes on: the lowest offset not in a listed file (C5), with the leader epoch before it (L4). */
export interface ResumePosition {
  /** Next offset wanted. */
  readonly offset: number;
  /** Leader epoch of the last batch below `offset`; -1 where there is none (agents, nothing delivered yet). */
  readonly leaderEpoch: number;
}

/** A data file that an entry publishes. */
export interface ListedFile {
  /** Final name in the directory. */
  readonly name: string;
  /** Name below the log's temporary folder until it is renamed. */
  readonly temporary: string;
  /** Bucket of its records; the one bucket of this sink is "". */
  readonly bucket: string;
  readonly firstOffset: number;
  readonly lastOffset: number;
  /** Records in it. */
  readonly count: number;
  readonly bytes: number;
  /** CRC-32C of the whole file. */
  readonly crc32c: number;
  /** Highest source position per source key that its records carry; absent when they carry none. */
  readonly positions?: Readonly<Record<string, number>>;
}

/** Everything ever published by this log; carried on so that old entries can go. */
export interface Totals {
  readonly files: number;
  readonly records: number;
  readonly bytes: number;
  /** Records refused for good and set aside as dead letters. */
  readonly refused: number;
}

/** What one entry says. */
export interface CommitEntry {
  /** Number in the log, from 1. */
  readonly number: number;
  readonly origin: Origin;
  /** Who delivers: id of the agent or of the connector (C9: a reset connector has another id, so another log). */
  readonly ownerId: string;
  /** Task epoch of its writer (C1). */
  readonly epoch: number;
  /** Random id of the writer's opening: recognises an own entry after an unknown outcome (C4). */
  readonly nonce: string;
  /** Configuration generation that the buckets belong to (C5). */
  readonly generation: number;
  /** Offset at which this log began; what is below was never its to deliver. */
  readonly begun: number;
  readonly resume: ResumePosition;
  readonly files: readonly ListedFile[];
  /** Committed-through offsets of buckets ahead of `resume` (C5); empty with one bucket. */
  readonly buckets: Readonly<Record<string, number>>;
  /** Entries below this number are finished: their renames are durable. */
  readonly floor: number;
  /** First part of the data files' names, and the label it was claimed for. */
  readonly stem: { readonly label: string; readonly name: string };
  readonly totals: Totals;
}

/** The bytes of an entry's file. */
export function encodeEntry(entry: CommitEntry): Uint8Array {
  const checksum = bodyChecksum(JSON.stringify(entry));
  return Buffer.from(
    `${JSON.stringify({ formatVersion: entryFormatVersion, crc32c: checksum, body: entry })}\n`,
  );
}

/** Reads an entry. Throws UNSUPPORTED_VERSION, or STORAGE_FAILED when it is damaged; both name `path`. */
export function decodeEntry(bytes: Uint8Array, path: string): CommitEntry {
  const found = parse(bytes, path);
  if (typeof found.formatVersion === "number" && found.formatVersion > entryFormatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} has format version ${found.formatVersion}; this version of Millrace knows ${entryFormatVersion}: use the newer Millrace that wrote it`,
      { metadata: { path } },
    );
  }
  if (
    found.formatVersion !== entryFormatVersion ||
    found.crc32c !== bodyChecksum(JSON.stringify(found.body))
  ) {
    throw damaged(path);
  }
  return found.body as CommitEntry;
}

interface Envelope {
  readonly formatVersion?: unknown;
  readonly crc32c?: unknown;
  readonly body?: unknown;
}

function parse(bytes: Uint8Array, path: string): Envelope {
  try {
    const found: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    if (typeof found === "object" && found !== null) return found;
  } catch (error) {
    throw damaged(path, error);
  }
  throw damaged(path);
}

function damaged(path: string, cause?: unknown): AppError {
  return new AppError(
    "STORAGE_FAILED",
    `${path} is damaged: this commit log cannot say what was published; restore the file, or move its folder away to deliver everything again`,
    { metadata: { path }, cause },
  );
}

function bodyChecksum(text: string | undefined): string {
  return crc32c(Buffer.from(text ?? ""))
    .toString(16)
    .padStart(8, "0");
}

const entryNameDigits = 20;

/** File name of entry `number`. */
export function entryFileName(number: number): string {
  return `${String(number).padStart(entryNameDigits, "0")}.json`;
}

/** Number of an entry's file name; undefined for any other name. */
export function entryNumber(name: string): number | undefined {
  const match = /^(\d{20})\.json$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}
