/**
 * The journal's bytes (J2): file header and entries, encode and decode, no I/O.
 *
 *   file  = header (64 bytes) entry*                            rest: zeros, or stale entries of an earlier use
 *   header= "MRJOURNL" · format version u32 · crc32c u32 of the rest · generation u64 · first entry number u64
 *           · directory id (22 ASCII) · zeros
 *   entry = length u32 (all that follows it) · crc32c u32 of all that follows it · generation u64 · entry number u64
 *           · durable through u64 · kind u8 · body
 *
 * `generation` is the file's number: a re-used file's old entries carry a lower one. Entry numbers are dense over
 * all files. `durable through` is the last entry known to be fsynced when this one was written: an intact entry
 * behind a damaged one proves by it whether the damage is a torn write (never acknowledged) or corruption.
 *
 * Kinds are for ever. 1 append (batches into one or several logs and state changes; a channel's put is one of
 * these), 3 truncate, 5 drop (segments below go), 7 state (the whole table, opens each file: J5).
 * Reserved: 2 direct (J3), 4 roll (an append names its segment, so nothing writes it), 6 put, 8 create.
 */
import { AppError } from "@millrace/base";
import { crc32c } from "@millrace/record";
import { asBuffer, readUint64, writeUint64 } from "./bytes.ts";
import type { StateChange } from "./types.ts";

/** Version of everything in `journal/`. */
export const journalFormatVersion = 1;
export const journalHeaderBytes = 64;
/** Bytes of an entry before its body. */
export const entryHeadBytes = 33;

export const entryKind = { append: 1, truncate: 3, drop: 5, state: 7 } as const;

const magic = Buffer.from("MRJOURNL");
const directoryIdBytes = 22;
const targetBytes = 28;
const appendHeadBytes = 6;

/** Header of a journal file. */
export interface JournalHeader {
  readonly formatVersion: number;
  readonly generation: number;
  readonly firstEntryNumber: number;
  readonly directoryId: string;
}

/** The 64 bytes a journal file begins with. */
export function encodeJournalHeader(header: Omit<JournalHeader, "formatVersion">): Buffer {
  const bytes = Buffer.alloc(journalHeaderBytes);
  magic.copy(bytes, 0);
  bytes.writeUInt32BE(journalFormatVersion, 8);
  writeUint64(bytes, 16, header.generation);
  writeUint64(bytes, 24, header.firstEntryNumber);
  bytes.write(header.directoryId, 32, directoryIdBytes, "latin1");
  bytes.writeUInt32BE(crc32c(bytes.subarray(16)), 12);
  return bytes;
}

/** The header, or undefined when the bytes are none (zeros of a new file, or torn). */
export function decodeJournalHeader(bytes: Buffer): JournalHeader | undefined {
  if (bytes.length < journalHeaderBytes || !bytes.subarray(0, 8).equals(magic)) return undefined;
  if (crc32c(bytes.subarray(16, journalHeaderBytes)) !== bytes.readUInt32BE(12)) return undefined;
  return {
    formatVersion: bytes.readUInt32BE(8),
    generation: readUint64(bytes, 16),
    firstEntryNumber: readUint64(bytes, 24),
    directoryId: bytes.toString("latin1", 32, 32 + directoryIdBytes),
  };
}

/** Where a batch goes: which log, which segment, where in it, under which offset and epoch. */
export interface EntryTarget {
  readonly logNumber: number;
  readonly segmentBase: number;
  readonly position: number;
  readonly baseOffset: number;
  readonly leaderEpoch: number;
}

/** One batch and its targets; replay patches offset and epoch of each target into the batch. */
export interface EntryAppend {
  readonly targets: readonly EntryTarget[];
  readonly batch: Uint8Array;
}

/** An entry's meaning. */
export type JournalEntry =
  | {
      readonly kind: typeof entryKind.append;
      readonly appends: readonly EntryAppend[];
      readonly state: readonly StateChange[];
    }
  | {
      readonly kind: typeof entryKind.truncate;
      readonly logNumber: number;
      readonly offset: number;
      readonly segmentBase: number;
      readonly position: number;
    }
  | {
      readonly kind: typeof entryKind.drop;
      readonly logNumber: number;
      readonly startOffset: number;
      /** Segments with a lower base are gone. */
      readonly firstSegmentBase: number;
    }
  | { readonly kind: typeof entryKind.state; readonly state: readonly StateChange[] };

/** Position of an entry in the journal's order. */
export interface EntryNumbers {
  readonly generation: number;
  readonly entryNumber: number;
  readonly durableThrough: number;
}

function stateBytes(state: readonly StateChange[]): number {
  let bytes = 4;
  for (const { key, value } of state) bytes += 6 + Buffer.byteLength(key) + (value?.length ?? 0);
  return bytes;
}

/** Bytes of an append entry: batches with the number of their targets, and state changes. */
export function appendEntryBytes(
  appends: readonly { readonly batch: Uint8Array; readonly targetCount: number }[],
  state: readonly StateChange[],
): number {
  let bytes = entryHeadBytes + 2 + stateBytes(state);
  for (const { batch, targetCount } of appends)
    bytes += appendHeadBytes + targetCount * targetBytes + batch.length;
  return bytes;
}

/** Bytes of a whole entry on disk. */
export function entryBytes(entry: JournalEntry): number {
  switch (entry.kind) {
    case entryKind.append:
      return appendEntryBytes(
        entry.appends.map(({ batch, targets }) => ({ batch, targetCount: targets.length })),
        entry.state,
      );
    case entryKind.truncate:
      return entryHeadBytes + 24;
    case entryKind.drop:
      return entryHeadBytes + 20;
    case entryKind.state:
      return entryHeadBytes + stateBytes(entry.state);
  }
}

/**
 * Writes all of an entry but its batches, which follow it on disk in order; returns the position after it.
 * The checksum covers the batches too.
 */
export function encodeEntryHead(
  into: Buffer,
  start: number,
  numbers: EntryNumbers,
  entry: JournalEntry,
): number {
  writeUint64(into, start + 8, numbers.generation);
  writeUint64(into, start + 16, numbers.entryNumber);
  writeUint64(into, start + 24, numbers.durableThrough);
  into[start + 32] = entry.kind;
  const end = encodeBody(into, start + entryHeadBytes, entry);
  let length = end - start - 4;
  let crc = crc32c(into.subarray(start + 8, end));
  if (entry.kind === entryKind.append) {
    for (const append of entry.appends) {
      length += append.batch.length;
      crc = crc32c(append.batch, crc);
    }
  }
  into.writeUInt32BE(length, start);
  into.writeUInt32BE(crc, start + 4);
  return end;
}

function encodeBody(into: Buffer, start: number, entry: JournalEntry): number {
  let at = start;
  switch (entry.kind) {
    case entryKind.append:
      at = into.writeUInt16BE(entry.appends.length, at);
      for (const append of entry.appends) {
        at = into.writeUInt16BE(append.targets.length, at);
        at = into.writeUInt32BE(append.batch.length, at);
        for (const target of append.targets) at = encodeTarget(into, at, target);
      }
      return encodeState(into, at, entry.state);
    case entryKind.truncate:
      at = into.writeUInt32BE(entry.logNumber, at);
      writeUint64(into, at, entry.offset);
      writeUint64(into, at + 8, entry.segmentBase);
      return into.writeUInt32BE(entry.position, at + 16);
    case entryKind.drop:
      at = into.writeUInt32BE(entry.logNumber, at);
      writeUint64(into, at, entry.startOffset);
      writeUint64(into, at + 8, entry.firstSegmentBase);
      return at + 16;
    case entryKind.state:
      return encodeState(into, at, entry.state);
  }
}

function encodeTarget(into: Buffer, at: number, target: EntryTarget): number {
  into.writeUInt32BE(target.logNumber, at);
  writeUint64(into, at + 4, target.segmentBase);
  into.writeUInt32BE(target.position, at + 12);
  writeUint64(into, at + 16, target.baseOffset);
  return into.writeInt32BE(target.leaderEpoch, at + 24);
}

function encodeState(into: Buffer, start: number, state: readonly StateChange[]): number {
  let at = into.writeUInt32BE(state.length, start);
  for (const { key, value } of state) {
    const keyBytes = into.write(key, at + 2);
    into.writeUInt16BE(keyBytes, at);
    at = into.writeInt32BE(value === null ? -1 : value.length, at + 2 + keyBytes);
    if (value !== null) {
      into.set(value, at);
      at += value.length;
    }
  }
  return at;
}

/** An intact entry found at a position. */
export interface FoundEntry extends EntryNumbers {
  readonly kind: number;
  readonly bodyStart: number;
  readonly end: number;
}

/** The entry at `position` if its length fits and its checksum holds; undefined for anything else. */
export function findEntry(bytes: Buffer, position: number): FoundEntry | undefined {
  if (position + entryHeadBytes > bytes.length) return undefined;
  const end = position + 4 + bytes.readUInt32BE(position);
  if (end < position + entryHeadBytes || end > bytes.length) return undefined;
  if (crc32c(bytes.subarray(position + 8, end)) !== bytes.readUInt32BE(position + 4)) return undefined;
  return {
    generation: readUint64(bytes, position + 8),
    entryNumber: readUint64(bytes, position + 16),
    durableThrough: readUint64(bytes, position + 24),
    kind: bytes[position + 32] as number,
    bodyStart: position + entryHeadBytes,
    end,
  };
}

/** Decodes the body of an intact entry. Batches are views. Throws UNSUPPORTED_VERSION for an unknown kind. */
export function decodeEntry(bytes: Buffer, found: FoundEntry, where: string): JournalEntry {
  const reader = new BodyReader(bytes, found.bodyStart, found.end, where);
  switch (found.kind) {
    case entryKind.append:
      return decodeAppend(reader);
    case entryKind.truncate:
      return {
        kind: entryKind.truncate,
        logNumber: reader.uint32(),
        offset: reader.uint64(),
        segmentBase: reader.uint64(),
        position: reader.uint32(),
      };
    case entryKind.drop:
      return {
        kind: entryKind.drop,
        logNumber: reader.uint32(),
        startOffset: reader.uint64(),
        firstSegmentBase: reader.uint64(),
      };
    case entryKind.state:
      return { kind: entryKind.state, state: reader.state() };
    default:
      throw new AppError(
        "UNSUPPORTED_VERSION",
        `${where} holds an entry of kind ${found.kind}, which this version does not know: start the version that wrote it`,
      );
  }
}

function decodeAppend(reader: BodyReader): JournalEntry {
  const heads: { targets: EntryTarget[]; bytes: number }[] = [];
  const appendCount = reader.uint16();
  for (let i = 0; i < appendCount; i++) {
    const targetCount = reader.uint16();
    const head = { targets: [] as EntryTarget[], bytes: reader.uint32() };
    for (let t = 0; t < targetCount; t++) {
      head.targets.push({
        logNumber: reader.uint32(),
        segmentBase: reader.uint64(),
        position: reader.uint32(),
        baseOffset: reader.uint64(),
        leaderEpoch: reader.int32(),
      });
    }
    heads.push(head);
  }
  const state = reader.state();
  const appends = heads.map(({ targets, bytes }) => ({ targets, batch: reader.take(bytes) }));
  return { kind: entryKind.append, appends, state };
}

/** Bounds-checked reading of a body; an intact checksum over nonsense is a bug of the writer and stops the open. */
class BodyReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #where: string;
  #at: number;

  constructor(bytes: Uint8Array, start: number, end: number, where: string) {
    this.#bytes = asBuffer(bytes);
    this.#at = start;
    this.#end = end;
    this.#where = where;
  }

  take(length: number): Buffer {
    const start = this.#at;
    if (start + length > this.#end) {
      throw new AppError(
        "RECORD_LOST_ON_DISK",
        `${this.#where} holds an entry whose parts do not fit its length`,
      );
    }
    this.#at += length;
    return this.#bytes.subarray(start, this.#at);
  }

  uint16(): number {
    return this.take(2).readUInt16BE(0);
  }

  uint32(): number {
    return this.take(4).readUInt32BE(0);
  }

  int32(): number {
    return this.take(4).readInt32BE(0);
  }

  uint64(): number {
    return readUint64(this.take(8), 0);
  }

  state(): StateChange[] {
    const count = this.uint32();
    const changes: StateChange[] = [];
    for (let i = 0; i < count; i++) {
      const key = this.take(this.uint16()).toString("utf8");
      const length = this.int32();
      // Copied: a view would keep the whole journal file in memory.
      changes.push({ key, value: length < 0 ? null : new Uint8Array(this.take(length)) });
    }
    return changes;
  }
}
