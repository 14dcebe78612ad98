/**
 * From a batch's bytes to records.
 *
 * Keys and values are views: into the batch when it is not compressed, else into its inflated block. So a record kept
 * keeps the whole block alive; who keeps a few for long copies them. A batch that does not decode is one poison unit
 * (design §3): this throws, and the caller sets the whole batch aside with its bytes.
 */
import { type BatchHeader, field } from "./batch-header.ts";
import { readBigInt64, readInt64 } from "./bytes.ts";
import { codecById, inflateRecords } from "./codecs.ts";
import { Cursor } from "./cursor.ts";
import { batchHeaderBytes, inflatedBytesMaxDefault } from "./limits.ts";
import { type DecodedRecord, type Header, noHeaders } from "./types.ts";
import { checkRecordCount, enterRecord, leaveRecord, readHeaderCount, verifyBatch } from "./validate.ts";

/** What a reader allows. */
export interface DecodeLimits {
  /** Largest whole batch; default: what the format can say. */
  readonly bytesMax?: number;
  /** Largest records block after decompression; default 64 MiB. */
  readonly inflatedBytesMax?: number;
}

/**
 * The records of the batch at `position`, with absolute offsets (gaps after compaction are kept). The checksum is
 * verified first. A control batch carries no data: it gives no records; go on at its header's nextOffset, as after any
 * batch. Throws RECORD_CORRUPT, RECORD_TOO_LARGE, UNSUPPORTED_VERSION, UNSUPPORTED_COMPRESSION, and INVALID_RECORD
 * also for a timestamp beyond 2^53 (legal in Kafka, not here).
 */
export function decodeBatch(bytes: Uint8Array, position = 0, limits: DecodeLimits = {}): DecodedRecord[] {
  const header = verifyBatch(
    bytes,
    position,
    limits.bytesMax === undefined ? undefined : { bytesMax: limits.bytesMax },
  );
  if (header.isControl) return [];
  const codec = codecById(header.compression, position);
  let block = bytes;
  let from = position + batchHeaderBytes;
  let end = position + header.sizeBytes;
  if (header.compression !== 0) {
    if (header.recordCount === 0) return [];
    const inflatedBytesMax = limits.inflatedBytesMax ?? inflatedBytesMaxDefault;
    checkRecordCount(header, inflatedBytesMax, position);
    block = inflateRecords(codec, bytes.subarray(from, end), inflatedBytesMax, position);
    from = 0;
    end = block.length;
  }
  checkRecordCount(header, end - from, position);
  const base = exactInt64(bytes, position + field.baseTimestamp);
  const appendTime =
    header.timestampType === "append" ? exactInt64(bytes, position + field.maxTimestamp) : undefined;
  return new RecordsReader(header, { base, appendTime }, new Cursor(block, from, end, position)).readAll();
}

/** An int64 of the header: a number when it is safe, else exact as bigint. */
function exactInt64(bytes: Uint8Array, at: number): number | bigint {
  const value = readInt64(bytes, at);
  return Number.isSafeInteger(value) ? value : readBigInt64(bytes, at);
}

/** Where records get their time from. */
interface BatchTime {
  /** Epoch ms; the records' deltas are relative to it. */
  readonly base: number | bigint;
  /** Epoch ms of every record of a batch with the append-time bit. */
  readonly appendTime: number | bigint | undefined;
}

/** Reads the records of one block, in order. */
class RecordsReader {
  readonly #header: BatchHeader;
  readonly #time: BatchTime;
  readonly #cursor: Cursor;
  readonly #blockEnd: number;

  constructor(header: BatchHeader, time: BatchTime, cursor: Cursor) {
    this.#header = header;
    this.#time = time;
    this.#cursor = cursor;
    this.#blockEnd = cursor.end;
  }

  readAll(): DecodedRecord[] {
    const records: DecodedRecord[] = [];
    const { recordCount } = this.#header;
    let lastDelta = -1;
    for (let i = 0; i < recordCount; i++) {
      this.#cursor.recordIndex = i;
      const record = this.#readRecord(lastDelta);
      lastDelta = record.offset - this.#header.baseOffset;
      records.push(record);
    }
    if (this.#cursor.at !== this.#blockEnd)
      this.#cursor.fail(`${this.#blockEnd - this.#cursor.at} bytes follow the last record`);
    return records;
  }

  #readRecord(lastDelta: number): DecodedRecord {
    const cursor = this.#cursor;
    const recordEnd = enterRecord(cursor);
    const timestampMs = this.#timestamp(cursor.varlong());
    const delta = cursor.varint();
    if (delta <= lastDelta || delta > this.#header.lastOffsetDelta) {
      cursor.fail(
        `its offset delta is ${delta}, after ${lastDelta} and with ${this.#header.lastOffsetDelta} as the last`,
      );
    }
    const key = this.#readField();
    const value = this.#readField();
    const headers = this.#readHeaders();
    leaveRecord(cursor, recordEnd, this.#blockEnd);
    return { key, value, headers, timestampMs, offset: this.#header.baseOffset + delta };
  }

  /** A timestamp beyond 2^53 makes the batch a poison unit (design §11). */
  #timestamp(delta: number | bigint): number {
    const { base, appendTime } = this.#time;
    let timestampMs: number;
    if (appendTime !== undefined) timestampMs = Number(appendTime);
    else if (typeof base === "number" && typeof delta === "number") timestampMs = base + delta;
    else timestampMs = Number(BigInt.asIntN(64, BigInt(base) + BigInt(delta)));
    if (!Number.isSafeInteger(timestampMs)) this.#cursor.fail("its timestamp is beyond 2^53 ms");
    return timestampMs;
  }

  #readField(): Uint8Array | null {
    const cursor = this.#cursor;
    const length = cursor.length(true);
    if (length < 0) return null;
    const from = cursor.at;
    cursor.at = from + length;
    return cursor.bytes.subarray(from, from + length);
  }

  #readHeaders(): readonly Header[] {
    const count = readHeaderCount(this.#cursor);
    if (count === 0) return noHeaders;
    const headers: Header[] = [];
    for (let h = 0; h < count; h++) {
      const key = this.#cursor.text(this.#cursor.length(false));
      headers.push({ key, value: this.#readField() });
    }
    return headers;
  }
}
