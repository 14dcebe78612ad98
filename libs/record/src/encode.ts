/**
 * From records to a batch's bytes.
 *
 * A BatchBuilder encodes each record at once into one growing buffer and keeps nothing else of it. The header's
 * place is left free and filled in at build(), when the sequence to send under is known.
 */
import { AppError, invariant } from "@millrace/base";
import {
  attribute,
  batchMagic,
  field,
  sealBatch,
  setBaseOffset,
  setLeaderEpoch,
  writeProducer,
} from "./batch-header.ts";
import {
  exactDelta,
  varintBytes,
  varlongBytes,
  writeInt16,
  writeInt32,
  writeInt64,
  writeVarint,
  writeVarlong,
} from "./bytes.ts";
import { type CompressionName, codecByName } from "./codecs.ts";
import { fieldBytes, headersBytes, writeField, writeHeaders } from "./fields.ts";
import {
  batchBytesHardMax,
  batchBytesMaxDefault,
  batchHeaderBytes,
  batchPrefixBytes,
  builderBytesInitial,
  headersPerRecordMax,
  recordsPerBatchMax,
} from "./limits.ts";
import type { Record } from "./types.ts";

/** Header fields of a batch to be written. What is left out has Kafka's "none". */
export interface EncodeOptions {
  /** Default 0: the leader sets it. */
  readonly baseOffset?: number;
  /** Default -1: the leader sets it. */
  readonly leaderEpoch?: number;
  readonly producerId?: number;
  readonly producerEpoch?: number;
  /** Wire sequence of the first record. */
  readonly baseSequence?: number;
  /** Default "none". */
  readonly compression?: CompressionName;
  readonly isTransactional?: false;
}

/** Options of a builder. */
export interface BatchBuilderOptions extends EncodeOptions {
  /** Largest whole batch before compression, header included; default Kafka's 1 MiB. A built batch is never larger. */
  readonly bytesMax?: number;
  /**
   * Gives the memory to build in, at least `bytesMin` long; asked at the start and whenever more is needed. What it gave
   * before is copied and not used again. Default: fresh memory that doubles. For callers that use memory again.
   */
  readonly allocate?: (bytesMin: number) => Buffer;
}

/**
 * One batch with these records, checksum set. Throws RECORD_TOO_LARGE when they do not fit one batch, INVALID_RECORD
 * for none or one that the format cannot hold, UNSUPPORTED_COMPRESSION.
 */
export function encodeBatch(records: readonly Record[], options: EncodeOptions = {}): Uint8Array {
  const builder = new BatchBuilder({ ...options, bytesMax: batchBytesHardMax });
  for (const record of records) {
    if (builder.append(record)) continue;
    throw new AppError(
      "RECORD_TOO_LARGE",
      `${records.length} records do not fit one batch (at most ${recordsPerBatchMax} records, ${batchBytesHardMax} bytes)`,
    );
  }
  return builder.build();
}

/** Builds one batch, record by record. */
export class BatchBuilder {
  readonly #options: BatchBuilderOptions;
  readonly #bytesMax: number;
  #buffer: Buffer;
  #end = batchHeaderBytes;
  #count = 0;
  #baseTimestampMs = 0;
  #maxTimestampMs = 0;
  #isBuilt = false;

  constructor(options: BatchBuilderOptions = {}) {
    this.#options = options;
    this.#bytesMax = options.bytesMax ?? batchBytesMaxDefault;
    invariant(this.#bytesMax <= batchBytesHardMax, `a batch has at most ${batchBytesHardMax} bytes`);
    codecByName(options.compression ?? "none");
    this.#buffer = (options.allocate ?? allocateFresh)(builderBytesInitial);
  }

  /** Size of the batch so far, header included, before compression. */
  get sizeBytes(): number {
    return this.#end;
  }

  /** Records so far. */
  get count(): number {
    return this.#count;
  }

  /** Largest timestamp so far, epoch ms; undefined while empty. */
  get maxTimestampMs(): number | undefined {
    return this.#count === 0 ? undefined : this.#maxTimestampMs;
  }

  /**
   * Adds a record. False, with nothing changed, when the batch would pass its limit: build this one and start another.
   * Throws RECORD_TOO_LARGE when the record would not fit an empty batch either, INVALID_RECORD when the format cannot
   * hold it (timestamp not a safe integer, too many headers, a header key that is no well-formed text).
   */
  append(record: Record): boolean {
    invariant(!this.#isBuilt, "a built batch takes no more records");
    const { key, value, headers, timestampMs } = record;
    checkRecord(record);
    if (this.#count === recordsPerBatchMax) return false;
    const baseTimestampMs = this.#count === 0 ? timestampMs : this.#baseTimestampMs;
    const timestampDelta = exactDelta(timestampMs, baseTimestampMs);
    const bodyBytes =
      1 +
      varlongBytes(timestampDelta) +
      varintBytes(this.#count) +
      fieldBytes(key) +
      fieldBytes(value) +
      (headers.length === 0 ? 1 : headersBytes(headers));
    const recordBytes = varintBytes(bodyBytes) + bodyBytes;
    if (this.#end + recordBytes > this.#bytesMax) {
      if (this.#count === 0) refuseTooLarge(recordBytes, this.#bytesMax);
      return false;
    }
    this.#reserve(recordBytes);
    const buffer = this.#buffer;
    let at = writeVarint(buffer, this.#end, bodyBytes);
    buffer[at++] = 0;
    at = writeVarlong(buffer, at, timestampDelta);
    at = writeVarint(buffer, at, this.#count);
    at = writeField(buffer, at, key);
    at = writeField(buffer, at, value);
    at = writeHeaders(buffer, at, headers);
    invariant(at === this.#end + recordBytes, "a record has the size computed for it");
    this.#end = at;
    this.#maxTimestampMs = this.#count === 0 ? timestampMs : Math.max(this.#maxTimestampMs, timestampMs);
    this.#baseTimestampMs = baseTimestampMs;
    this.#count++;
    return true;
  }

  /**
   * The finished batch; the builder is used up. `late` overrides options that are known only now (the sequence to send
   * under). Records that compression would enlarge stay uncompressed, so the limit holds. Throws INVALID_RECORD when empty.
   */
  build(late: Omit<EncodeOptions, "compression"> = {}): Uint8Array {
    invariant(!this.#isBuilt, "a batch is built once");
    if (this.#count === 0) throw new AppError("INVALID_RECORD", "a batch needs at least one record");
    this.#isBuilt = true;
    const options = { ...this.#options, ...late };
    const { bytes, codecId } = this.#compressed();
    setBaseOffset(bytes, 0, options.baseOffset ?? 0);
    writeInt32(bytes, field.batchLength, bytes.length - batchPrefixBytes);
    setLeaderEpoch(bytes, 0, options.leaderEpoch ?? -1);
    bytes[field.magic] = batchMagic;
    writeInt16(bytes, field.attributes, codecId & attribute.codecMask);
    writeInt32(bytes, field.lastOffsetDelta, this.#count - 1);
    writeInt64(bytes, field.baseTimestamp, this.#baseTimestampMs);
    writeInt64(bytes, field.maxTimestamp, this.#maxTimestampMs);
    writeProducer(bytes, 0, {
      producerId: options.producerId ?? -1,
      producerEpoch: options.producerEpoch ?? -1,
      baseSequence: options.baseSequence ?? -1,
    });
    writeInt32(bytes, field.recordCount, this.#count);
    sealBatch(bytes, 0, bytes.length);
    return bytes;
  }

  /** Header space and records block, compressed when that makes it smaller. */
  #compressed(): { bytes: Uint8Array; codecId: number } {
    const plain = this.#buffer.subarray(0, this.#end);
    const codec = codecByName(this.#options.compression ?? "none");
    if (codec.id === 0) return { bytes: plain, codecId: 0 };
    const block = codec.compress(plain.subarray(batchHeaderBytes));
    if (batchHeaderBytes + block.length >= this.#end) return { bytes: plain, codecId: 0 };
    const bytes = Buffer.allocUnsafeSlow(batchHeaderBytes + block.length);
    bytes.set(block, batchHeaderBytes);
    return { bytes, codecId: codec.id };
  }

  #reserve(recordBytes: number): void {
    const needed = this.#end + recordBytes;
    if (needed <= this.#buffer.length) return;
    const doubled = Math.min(this.#buffer.length * 2, this.#bytesMax);
    const { allocate } = this.#options;
    const grown = allocate === undefined ? allocateFresh(Math.max(needed, doubled)) : allocate(needed);
    invariant(grown.length >= needed, "the memory given is as long as asked for");
    this.#buffer.copy(grown, 0, 0, this.#end);
    this.#buffer = grown;
  }
}

function allocateFresh(bytes: number): Buffer {
  return Buffer.allocUnsafeSlow(bytes);
}

function refuseTooLarge(recordBytes: number, bytesMax: number): never {
  throw new AppError(
    "RECORD_TOO_LARGE",
    `a record of ${recordBytes} bytes does not fit a batch of at most ${bytesMax} bytes (${batchHeaderBytes} of them header)`,
    { metadata: { recordBytes: String(recordBytes), bytesMax: String(bytesMax) } },
  );
}

function checkRecord(record: Record): void {
  if (!Number.isSafeInteger(record.timestampMs)) {
    throw new AppError(
      "INVALID_RECORD",
      `a record's timestamp must be whole milliseconds below 2^53, not ${record.timestampMs}`,
    );
  }
  if (record.headers.length > headersPerRecordMax) {
    throw new AppError(
      "INVALID_RECORD",
      `a record has ${record.headers.length} headers, the limit is ${headersPerRecordMax}`,
    );
  }
}
