/** Big-endian integers as the log's own formats have them; offsets are safe integers, checked when read. */

/** Writes a safe non-negative integer as u64. */
export function writeUint64(buffer: Buffer, at: number, value: number): void {
  buffer.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  buffer.writeUInt32BE(value >>> 0, at + 4);
}

/** Reads an u64; NaN when it is beyond the safe integers, so that every comparison with it fails. */
export function readUint64(buffer: Buffer, at: number): number {
  const high = buffer.readUInt32BE(at);
  return high > 0x1fffff ? Number.NaN : high * 2 ** 32 + buffer.readUInt32BE(at + 4);
}

/** A Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
