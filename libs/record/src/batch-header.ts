/**
 * The 61-byte header of a RecordBatch v2 (kafka.md §4): reading it, finding batches in concatenated bytes, and
 * patching what a leader sets.
 *
 *   0 baseOffset i64 · 8 batchLength i32 · 12 leaderEpoch i32 · 16 magic i8 · 17 crc u32 (of 21..end) · 21 attributes i16
 *   23 lastOffsetDelta i32 · 27 baseTimestamp i64 · 35 maxTimestamp i64 · 43 producerId i64 · 51 producerEpoch i16
 *   53 baseSequence i32 · 57 recordCount i32 · 61 records
 *
 * Base offset and leader epoch lie outside the checksum, so a leader sets them without touching the rest.
 */
import { invariant } from "@millrace/base";
import { readInt16, readInt32, readInt64, writeInt16, writeInt32, writeInt64 } from "./bytes.ts";
import { crc32c } from "./crc32c.ts";
import { refuseBatch } from "./errors.ts";
import { batchHeaderBytes, batchPrefixBytes } from "./limits.ts";

/** Byte positions of the header's fields; internal to this library. */
export const field = {
  baseOffset: 0,
  batchLength: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  recordCount: 57,
} as const;

/** Bits of the attributes field; internal to this library. */
export const attribute = {
  codecMask: 0b111,
  logAppendTime: 1 << 3,
  transactional: 1 << 4,
  control: 1 << 5,
  deleteHorizon: 1 << 6,
  /** What may be set at all. */
  known: 0x7f,
} as const;

/** The magic byte of RecordBatch v2. */
export const batchMagic = 2;

/** A batch's header, decoded. */
export interface BatchHeader {
  /** Offset of the first record at the time of writing. */
  readonly baseOffset: number;
  /** The length field: bytes after it. */
  readonly batchLength: number;
  /** The whole batch: batchLength + 12. */
  readonly sizeBytes: number;
  /** -1 before a leader has set it. */
  readonly leaderEpoch: number;
  readonly magic: number;
  readonly crc: number;
  readonly attributes: number;
  /** Codec id: index into `compressionNames`. */
  readonly compression: number;
  readonly isControl: boolean;
  readonly isTransactional: boolean;
  /** With "append" every record's timestamp is maxTimestampMs. */
  readonly timestampType: "create" | "append";
  /** True when baseTimestampMs is the time from which a compacted batch's tombstones may go. */
  readonly hasDeleteHorizon: boolean;
  readonly lastOffsetDelta: number;
  /** Offset of the last record, kept through compaction. */
  readonly lastOffset: number;
  /** lastOffset + 1: where reading goes on. */
  readonly nextOffset: number;
  /** Epoch ms, clamped into the safe integers (the bytes stay as they are). */
  readonly baseTimestampMs: number;
  /** Epoch ms, clamped into the safe integers. */
  readonly maxTimestampMs: number;
  /** -1 = none. */
  readonly producerId: number;
  readonly producerEpoch: number;
  /** First wire sequence, -1 = none. */
  readonly baseSequence: number;
  /** 0 for the empty batch that compaction leaves. */
  readonly recordCount: number;
}

function clampToSafe(value: number): number {
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, value));
}

/**
 * Whole size of the batch that starts at `position`, or undefined when fewer than 12 bytes are there or the length is
 * nonsense. Nothing else is checked, and the batch may reach past the end of `bytes`.
 */
export function batchSizeAt(bytes: Uint8Array, position: number): number | undefined {
  if (position + batchPrefixBytes > bytes.length) return undefined;
  const sizeBytes = readInt32(bytes, position + field.batchLength) + batchPrefixBytes;
  return sizeBytes < batchHeaderBytes ? undefined : sizeBytes;
}

/**
 * The header at `position`; the records need not be there yet. Checks what makes a header a header: length, magic,
 * offsets and ids in range. Not the checksum: use {@link verifyBatch} on bytes that are not trusted.
 * Throws RECORD_CORRUPT.
 */
export function readBatchHeader(bytes: Uint8Array, position = 0): BatchHeader {
  const left = bytes.length - position;
  if (left < batchHeaderBytes) {
    refuseBatch("RECORD_CORRUPT", position, `${left} bytes are too few for a header of ${batchHeaderBytes}`);
  }
  const batchLength = readInt32(bytes, position + field.batchLength);
  const sizeBytes = batchLength + batchPrefixBytes;
  if (sizeBytes < batchHeaderBytes)
    refuseBatch("RECORD_CORRUPT", position, `its length field is ${batchLength}`);
  const magic = bytes[position + field.magic] as number;
  if (magic !== batchMagic)
    refuseBatch("RECORD_CORRUPT", position, `its magic byte is ${magic}, not ${batchMagic}`);
  const attributes = readInt16(bytes, position + field.attributes);
  const baseOffset = readInt64(bytes, position + field.baseOffset);
  const lastOffsetDelta = readInt32(bytes, position + field.lastOffsetDelta);
  const recordCount = readInt32(bytes, position + field.recordCount);
  const producerId = readInt64(bytes, position + field.producerId);
  const nextOffset = baseOffset + lastOffsetDelta + 1;
  if (baseOffset < 0 || lastOffsetDelta < 0 || recordCount < 0 || !Number.isSafeInteger(nextOffset)) {
    refuseBatch("RECORD_CORRUPT", position, "its offsets or record count are out of range");
  }
  if (!Number.isSafeInteger(producerId))
    refuseBatch("RECORD_CORRUPT", position, "its producer id is out of range");
  return {
    baseOffset,
    batchLength,
    sizeBytes,
    leaderEpoch: readInt32(bytes, position + field.leaderEpoch),
    magic,
    crc: readInt32(bytes, position + field.crc) >>> 0,
    attributes,
    compression: attributes & attribute.codecMask,
    isControl: (attributes & attribute.control) !== 0,
    isTransactional: (attributes & attribute.transactional) !== 0,
    timestampType: (attributes & attribute.logAppendTime) !== 0 ? "append" : "create",
    hasDeleteHorizon: (attributes & attribute.deleteHorizon) !== 0,
    lastOffsetDelta,
    lastOffset: nextOffset - 1,
    nextOffset,
    baseTimestampMs: clampToSafe(readInt64(bytes, position + field.baseTimestamp)),
    maxTimestampMs: clampToSafe(readInt64(bytes, position + field.maxTimestamp)),
    producerId,
    producerEpoch: readInt16(bytes, position + field.producerEpoch),
    baseSequence: readInt32(bytes, position + field.baseSequence),
    recordCount,
  };
}

/** A batch found by {@link iterateBatches}. */
export interface FoundBatch {
  readonly position: number;
  readonly header: BatchHeader;
}

/**
 * The batches of concatenated bytes, in order, without checking checksums. Ends before a partial last batch (a fetch
 * may cut one); throws RECORD_CORRUPT where bytes cannot be a batch.
 */
export function* iterateBatches(bytes: Uint8Array): Generator<FoundBatch, void, void> {
  let position = 0;
  while (bytes.length - position >= batchHeaderBytes) {
    const header = readBatchHeader(bytes, position);
    if (header.sizeBytes > bytes.length - position) return;
    yield { position, header };
    position += header.sizeBytes;
  }
}

/** Sets the base offset of the batch at `position` in place; the checksum does not cover it. */
export function setBaseOffset(bytes: Uint8Array, position: number, baseOffset: number): void {
  invariant(Number.isSafeInteger(baseOffset) && baseOffset >= 0, "a base offset is a safe integer from 0");
  writeInt64(bytes, position + field.baseOffset, baseOffset);
}

/** Sets the leader epoch of the batch at `position` in place; the checksum does not cover it. */
export function setLeaderEpoch(bytes: Uint8Array, position: number, leaderEpoch: number): void {
  invariant((leaderEpoch | 0) === leaderEpoch && leaderEpoch >= -1, "a leader epoch is an int32 from -1");
  writeInt32(bytes, position + field.leaderEpoch, leaderEpoch);
}

/** Who produced a batch: Kafka's idempotence fields, wire forms. -1 = none. */
export interface ProducerStamp {
  readonly producerId: number;
  readonly producerEpoch: number;
  /** Wire sequence of the first record, 0 .. 2^31-1. */
  readonly baseSequence: number;
}

/** Writes the producer's fields without the checksum; internal to this library. */
export function writeProducer(bytes: Uint8Array, position: number, stamp: ProducerStamp): void {
  const { producerId, producerEpoch, baseSequence } = stamp;
  invariant(Number.isSafeInteger(producerId) && producerId >= -1, "a producer id is a safe integer from -1");
  invariant(
    (producerEpoch << 16) >> 16 === producerEpoch && producerEpoch >= -1,
    "a producer epoch is an int16 from -1",
  );
  invariant((baseSequence | 0) === baseSequence && baseSequence >= -1, "a wire sequence is an int32 from -1");
  invariant(
    producerId === -1 || (producerEpoch >= 0 && baseSequence >= 0),
    "a producer has an epoch and a sequence",
  );
  writeInt64(bytes, position + field.producerId, producerId);
  writeInt16(bytes, position + field.producerEpoch, producerEpoch);
  writeInt32(bytes, position + field.baseSequence, baseSequence);
}

/** Computes and writes the checksum of the whole batch of `sizeBytes` at `position`; internal to this library. */
export function sealBatch(bytes: Uint8Array, position: number, sizeBytes: number): void {
  writeInt32(
    bytes,
    position + field.crc,
    crc32c(bytes.subarray(position + field.attributes, position + sizeBytes)),
  );
}

/**
 * Stamps a built batch with another producer identity (a new epoch, a trimmed or moved sequence) and sets its checksum
 * anew. The batch must be whole and trusted: what was wrong in it before is sealed too.
 */
export function setProducer(bytes: Uint8Array, position: number, stamp: ProducerStamp): void {
  const { sizeBytes } = readBatchHeader(bytes, position);
  invariant(position + sizeBytes <= bytes.length, "only a whole batch is stamped");
  writeProducer(bytes, position, stamp);
  sealBatch(bytes, position, sizeBytes);
}
