/**
 * Decoded records of a channel's log, read in pieces of about `readAheadBytes` and cut into takes.
 * Records are views into the bytes read. What cannot be read any more is returned as a lost range, never thrown.
 */
import { AppError, invariant } from "@millrace/base";
import type { Log } from "@millrace/log";
import { iterateBatches } from "@millrace/record";
import type { SinkRecord } from "../contract.ts";
import { readAheadBytes } from "./limits.ts";
import { decodeRecords, recordSizeBytes } from "./record-codec.ts";
import type { Take } from "./types.ts";

/** Sequences that cannot be read, and why. */
export interface LostRange {
  readonly from: number;
  readonly to: number;
  readonly error: unknown;
}

/** The read-ahead of one log. */
export class ReadAhead {
  readonly #log: Log;
  /** Dense: record i has sequence `#from + i`. */
  #records: readonly SinkRecord[] = [];
  #from = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** A take of [from, to) as far as it is read: at least one record, about `bytesMax`; undefined when `from` is not there. */
  cut(from: number, to: number, bytesMax: number): Take | undefined {
    const first = from - this.#from;
    const available = this.#records.length;
    if (first < 0 || first >= available) return undefined;
    const last = Math.min(to - this.#from, available);
    let sizeBytes = 0;
    let index = first;
    while (index < last && (index === first || sizeBytes < bytesMax)) {
      sizeBytes += recordSizeBytes(this.#records[index++] as SinkRecord);
    }
    const isWhole = first === 0 && index === available;
    const records = isWhole ? this.#records : this.#records.slice(first, index);
    if (index === available) this.#records = [];
    return { from, to: this.#from + index, records, sizeBytes };
  }

  /** Reads on from `from`, which is durable. */
  async fill(from: number): Promise<LostRange | undefined> {
    let chunks: Uint8Array[];
    try {
      chunks = await this.#log.read(from, readAheadBytes, "durable");
    } catch (error) {
      const lost = lostRange(error, from);
      if (lost === undefined) throw error;
      return lost;
    }
    const records: SinkRecord[] = [];
    for (const chunk of chunks) {
      const bad = decodeRecords(chunk, from, records);
      if (bad === undefined) continue;
      if (records.length === 0) return { ...bad, from: Math.max(from, bad.from) };
      break;
    }
    invariant(records.length > 0, `${this.#log.label}: what is durable can be read at ${from}`);
    const last = records[records.length - 1] as SinkRecord;
    invariant(
      records[0]?.offset === from && last.offset === from + records.length - 1,
      `${this.#log.label}: sequences from ${from} are dense`,
    );
    this.#records = records;
    this.#from = from;
    return undefined;
  }
}

/** Bytes of the batches from sequence `at` to the log's end. Lost ranges count nothing. */
export async function countBytes(log: Log, at: number): Promise<number> {
  let bytes = 0;
  let next = at;
  while (next < log.endOffset) {
    try {
      const chunks = await log.read(next, readAheadBytes, "end");
      const before = next;
      for (const chunk of chunks) {
        bytes += chunk.byteLength;
        for (const { header } of iterateBatches(chunk)) next = header.nextOffset;
      }
      if (next <= before) return bytes;
    } catch (error) {
      const lost = lostRange(error, next);
      if (lost === undefined) throw error;
      next = lost.to;
    }
  }
  return bytes;
}

/** The range that a RECORD_LOST_ON_DISK names, from `from` on. */
function lostRange(error: unknown, from: number): LostRange | undefined {
  if (!(error instanceof AppError) || error.reason !== "RECORD_LOST_ON_DISK") return undefined;
  const to = Number(error.metadata["nextOffset"]);
  if (!Number.isSafeInteger(to) || to <= from) return undefined;
  return { from: Math.max(from, Number(error.metadata["fromOffset"] ?? from)), to, error };
}
