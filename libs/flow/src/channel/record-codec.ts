/**
 * Records as a channel's log holds them: RecordBatch v2 with the stream id as the last header. The source position is
 * not stored: it has done its work at the put.
 */
import { invariant } from "@millrace/base";
import {
  BatchBuilder,
  batchHeaderBytes,
  decodeBatch,
  type Header,
  iterateBatches,
  type Record,
} from "@millrace/record";
import { type FlowRecord, type SinkRecord, streamHeader } from "../contract.ts";
import { batchBytesMax, batchBytesTarget } from "./limits.ts";

/** Framing counted per record beside its fields: about what a batch of one adds. */
const framingBytes = 64;
/** The same in a batch of many. */
const usualFramingBytes = 13;
/** Two lengths. */
const headerFramingBytes = 10;

/** What a record takes in a batch of its own, at most: its fields, its headers and framing. Limits are compared with it. */
export function recordSizeBytes(record: FlowRecord): number {
  let size = framingBytes + (record.key?.length ?? 0) + (record.value?.length ?? 0);
  for (const header of record.headers)
    size += header.key.length + (header.value?.length ?? 0) + headerFramingBytes;
  if (record.streamId !== undefined) size += record.streamId.length + streamHeader.length;
  return size;
}

/** Sum of {@link recordSizeBytes}. */
export function recordsSizeBytes(records: readonly FlowRecord[]): number {
  let size = 0;
  for (const record of records) size += recordSizeBytes(record);
  return size;
}

/**
 * Encodes records, in order, into batches of at most `bytesTarget`; a larger record has a batch of its own.
 * Throws RECORD_TOO_LARGE, INVALID_RECORD.
 */
export function encodeRecords(records: readonly FlowRecord[], bytesTarget = batchBytesTarget): Uint8Array[] {
  const batches: Uint8Array[] = [];
  let memory: BatchMemory | undefined;
  let builder: BatchBuilder | undefined;
  const finish = (): void => {
    if (builder === undefined || memory === undefined) return;
    batches.push(memory.fitted(builder.build()));
    builder = undefined;
  };
  for (const [index, record] of records.entries()) {
    const stored = toStored(record);
    const isLarge = recordSizeBytes(record) > bytesTarget;
    if (builder !== undefined && !isLarge && builder.append(stored)) continue;
    finish();
    const own = new BatchMemory(expectedBytes(records, index, bytesTarget));
    memory = own;
    const bytesMax = isLarge ? batchBytesMax : bytesTarget;
    builder = new BatchBuilder({ bytesMax, allocate: (bytesMin) => own.allocate(bytesMin) });
    invariant(builder.append(stored), "an empty batch takes a record");
    if (isLarge) finish();
  }
  finish();
  return batches;
}

/** About as many bytes as the batch takes that begins with the record at `first`. */
function expectedBytes(records: readonly FlowRecord[], first: number, bytesTarget: number): number {
  let bytes = batchHeaderBytes;
  for (let i = first; i < records.length; i++) {
    const size = recordSizeBytes(records[i] as FlowRecord) - framingBytes + usualFramingBytes;
    if (i > first && bytes + size > bytesTarget) break;
    bytes += size;
  }
  return bytes;
}

/** Memory of one batch: allocated once where the expectation holds. Small batches share blocks. */
class BatchMemory {
  readonly #expectedBytes: number;
  #bytes = 0;

  constructor(expectedBytes: number) {
    this.#expectedBytes = expectedBytes;
  }

  allocate(bytesMin: number): Buffer {
    this.#bytes = this.#bytes === 0 ? this.#expectedBytes : Math.max(bytesMin, this.#bytes * 2);
    return Buffer.allocUnsafe(this.#bytes);
  }

  /** The batch, copied when most of its memory is unused: the log keeps batches in memory for a while. */
  fitted(batch: Uint8Array): Uint8Array {
    return batch.byteLength * 2 > this.#bytes ? batch : new Uint8Array(batch);
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function toStored(record: FlowRecord): Record {
  if (record.streamId === undefined) return record;
  const header: Header = { key: streamHeader, value: encoder.encode(record.streamId) };
  return {
    key: record.key,
    value: record.value,
    headers: [...record.headers, header],
    timestampMs: record.timestampMs,
  };
}

/** A batch that does not decode: corruption of a channel's own data. */
export interface UndecodableBatch {
  readonly from: number;
  readonly to: number;
  readonly error: unknown;
}

/**
 * Appends the records of the whole batches in `bytes`, from sequence `from` on, to `into`. Stops at a batch that does
 * not decode and returns it.
 */
export function decodeRecords(
  bytes: Uint8Array,
  from: number,
  into: SinkRecord[],
): UndecodableBatch | undefined {
  for (const { position, header } of iterateBatches(bytes)) {
    if (header.lastOffset < from) continue;
    try {
      for (const record of decodeBatch(bytes, position)) {
        if (record.offset >= from) into.push(record.headers.length === 0 ? record : fromStored(record));
      }
    } catch (error) {
      return { from: header.baseOffset, to: header.nextOffset, error };
    }
  }
  return undefined;
}

function fromStored(record: SinkRecord): SinkRecord {
  const last = record.headers.at(-1);
  if (last?.key !== streamHeader) return record;
  return {
    offset: record.offset,
    key: record.key,
    value: record.value,
    headers: record.headers.slice(0, -1),
    timestampMs: record.timestampMs,
    streamId: last.value === null ? "" : decoder.decode(last.value),
  };
}
