/** Test helper: assembles batches from raw parts, so that tests can write what the encoder never would. */
import { crc32c } from "../crc32c.ts";

/** Raw header fields; what is left out is a plain client batch's. */
export interface CraftedHeader {
  readonly baseOffset?: bigint;
  readonly batchLength?: number;
  readonly leaderEpoch?: number;
  readonly magic?: number;
  readonly crc?: number;
  readonly attributes?: number;
  readonly lastOffsetDelta?: number;
  readonly baseTimestamp?: bigint;
  readonly maxTimestamp?: bigint;
  readonly producerId?: bigint;
  readonly producerEpoch?: number;
  readonly baseSequence?: number;
  readonly recordCount?: number;
}

/** A batch of `block` (a records block, compressed or not) with a right length and checksum unless overridden. */
export function craftBatch(block: Uint8Array, header: CraftedHeader = {}): Buffer {
  const bytes = Buffer.alloc(61 + block.length);
  const recordCount = header.recordCount ?? 1;
  bytes.writeBigInt64BE(header.baseOffset ?? 0n, 0);
  bytes.writeInt32BE(header.batchLength ?? 49 + block.length, 8);
  bytes.writeInt32BE(header.leaderEpoch ?? -1, 12);
  bytes.writeUInt8(header.magic ?? 2, 16);
  bytes.writeUInt16BE(header.attributes ?? 0, 21);
  bytes.writeInt32BE(header.lastOffsetDelta ?? recordCount - 1, 23);
  bytes.writeBigInt64BE(header.baseTimestamp ?? 1_000n, 27);
  bytes.writeBigInt64BE(header.maxTimestamp ?? 1_000n, 35);
  bytes.writeBigInt64BE(header.producerId ?? -1n, 43);
  bytes.writeInt16BE(header.producerEpoch ?? -1, 51);
  bytes.writeInt32BE(header.baseSequence ?? -1, 53);
  bytes.writeInt32BE(recordCount, 57);
  bytes.set(block, 61);
  bytes.writeUInt32BE(header.crc ?? crc32c(bytes.subarray(21)), 17);
  return bytes;
}

/** Zig-zag varint of any int64, the slow obvious way. */
export function varint(value: number | bigint): number[] {
  let raw = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
  const bytes: number[] = [];
  for (; raw >= 0x80n; raw >>= 7n) bytes.push(Number(raw & 0x7fn) | 0x80);
  bytes.push(Number(raw));
  return bytes;
}

/** A record with its length in front of the raw body. */
export function withLength(body: readonly number[]): Buffer {
  return Buffer.from([...varint(body.length), ...body]);
}

/** Raw parts of a record; each is a list of bytes as they are to be written. */
export interface CraftedRecord {
  readonly attributes?: number;
  readonly timestampDelta?: readonly number[];
  readonly offsetDelta?: number;
  readonly key?: readonly number[];
  readonly value?: readonly number[];
  /** Header count and headers. */
  readonly headers?: readonly number[];
  readonly after?: readonly number[];
}

/** A record; what is left out: no key, value "v", no headers. */
export function craftRecord(parts: CraftedRecord = {}): Buffer {
  return withLength([
    parts.attributes ?? 0,
    ...(parts.timestampDelta ?? [0]),
    ...varint(parts.offsetDelta ?? 0),
    ...(parts.key ?? [1]),
    ...(parts.value ?? [2, 0x76]),
    ...(parts.headers ?? [0]),
    ...(parts.after ?? []),
  ]);
}
