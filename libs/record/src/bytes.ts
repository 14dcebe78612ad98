/**
 * Big-endian integers and Kafka's varints (zig-zag, little-endian groups of 7 bits), on plain byte arrays.
 * Written out by hand because DataView and BigInt cost an allocation or a call per field on the hot path.
 */

/** Signed int16 at `at`. */
export function readInt16(bytes: Uint8Array, at: number): number {
  return (((bytes[at] as number) << 24) >> 16) | (bytes[at + 1] as number);
}

/** Signed int32 at `at`. */
export function readInt32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

/** Signed int64 at `at` as a number: exact when safe, otherwise some unsafe number of the same sign. */
export function readInt64(bytes: Uint8Array, at: number): number {
  return readInt32(bytes, at) * 2 ** 32 + (readInt32(bytes, at + 4) >>> 0);
}

/** Signed int64 at `at`, exact. */
export function readBigInt64(bytes: Uint8Array, at: number): bigint {
  return (BigInt(readInt32(bytes, at)) << 32n) | BigInt(readInt32(bytes, at + 4) >>> 0);
}

/** Writes the low 16 bits of `value`. */
export function writeInt16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes the low 32 bits of `value`. */
export function writeInt32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes a safe integer as int64. */
export function writeInt64(bytes: Uint8Array, at: number, value: number): void {
  writeInt32(bytes, at, Math.floor(value / 2 ** 32));
  writeInt32(bytes, at + 4, (value % 2 ** 32) | 0);
}

/** Bytes of the zig-zag varint of an int32. */
export function varintBytes(value: number): number {
  const raw = ((value << 1) ^ (value >> 31)) >>> 0;
  if (raw < 0x80) return 1;
  if (raw < 0x4000) return 2;
  if (raw < 0x20_0000) return 3;
  return raw < 0x1000_0000 ? 4 : 5;
}

/** Writes the zig-zag varint of an int32; returns the position after it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let raw = ((value << 1) ^ (value >> 31)) >>> 0;
  let next = at;
  while (raw >= 0x80) {
    bytes[next++] = (raw & 0x7f) | 0x80;
    raw >>>= 7;
  }
  bytes[next++] = raw;
  return next;
}

/** True when `value` can take the int32 path of varints. */
function isInt32(value: number): boolean {
  return (value | 0) === value;
}

/** Zig-zag of an int64, as unsigned. */
function zigZag64(value: bigint): bigint {
  return BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
}

/** Difference `value - base` of two safe integers as a varlong argument: a number when safe, otherwise exact as bigint. */
export function exactDelta(value: number, base: number): number | bigint {
  const delta = value - base;
  return Number.isSafeInteger(delta) ? delta : BigInt(value) - BigInt(base);
}

/** Bytes of the zig-zag varlong of an int64. */
export function varlongBytes(value: number | bigint): number {
  if (typeof value === "number" && isInt32(value)) return varintBytes(value);
  let raw = zigZag64(BigInt(value));
  let count = 1;
  for (; raw >= 0x80n; raw >>= 7n) count++;
  return count;
}

/** Writes the zig-zag varlong of an int64; returns the position after it. */
export function writeVarlong(bytes: Uint8Array, at: number, value: number | bigint): number {
  if (typeof value === "number" && isInt32(value)) return writeVarint(bytes, at, value);
  let next = at;
  let raw = zigZag64(BigInt(value));
  for (; raw >= 0x80n; raw >>= 7n) bytes[next++] = Number(raw & 0x7fn) | 0x80;
  bytes[next++] = Number(raw);
  return next;
}
