/**
 * Kafka's `.snapshot` file (kafka.md §3.2): producer state before the offset in its name.
 *
 *   version i16 = 1 · crc32c u32 of the rest · count i32 · per producer: id i64, epoch i16, last sequence i32,
 *   last offset i64, offset delta i32, timestamp i64, coordinator epoch i32, transaction's first offset i64 (-1)
 */
import { crc32c } from "@millrace/record";
import { asBuffer } from "./bytes.ts";
import type { ProducerSnapshotEntry } from "./producer-state.ts";

const version = 1;
const headBytes = 10;
const entrySize = 46;

/** The file's bytes. */
export function encodeProducerSnapshot(entries: readonly ProducerSnapshotEntry[]): Buffer {
  const bytes = Buffer.alloc(headBytes + entries.length * entrySize);
  bytes.writeInt16BE(version, 0);
  bytes.writeInt32BE(entries.length, 6);
  let at = headBytes;
  for (const entry of entries) {
    at = bytes.writeBigInt64BE(BigInt(entry.producerId), at);
    at = bytes.writeInt16BE(entry.producerEpoch, at);
    at = bytes.writeInt32BE(entry.lastSequence, at);
    at = bytes.writeBigInt64BE(BigInt(entry.lastOffset), at);
    at = bytes.writeInt32BE(entry.offsetDelta, at);
    at = bytes.writeBigInt64BE(BigInt(entry.lastTimestampMs), at);
    at = bytes.writeInt32BE(-1, at);
    at = bytes.writeBigInt64BE(-1n, at);
  }
  bytes.writeUInt32BE(crc32c(bytes.subarray(6)), 2);
  return bytes;
}

/** The entries, or undefined when the bytes are not an intact snapshot of this version (it is then rebuilt). */
export function decodeProducerSnapshot(file: Uint8Array): ProducerSnapshotEntry[] | undefined {
  const bytes = asBuffer(file);
  if (bytes.length < headBytes || bytes.readInt16BE(0) !== version) return undefined;
  if (crc32c(bytes.subarray(6)) !== bytes.readUInt32BE(2)) return undefined;
  const count = bytes.readInt32BE(6);
  if (bytes.length !== headBytes + count * entrySize) return undefined;
  const entries: ProducerSnapshotEntry[] = [];
  for (let at = headBytes; at < bytes.length; at += entrySize) {
    entries.push({
      producerId: Number(bytes.readBigInt64BE(at)),
      producerEpoch: bytes.readInt16BE(at + 8),
      lastSequence: bytes.readInt32BE(at + 10),
      lastOffset: Number(bytes.readBigInt64BE(at + 14)),
      offsetDelta: bytes.readInt32BE(at + 22),
      lastTimestampMs: Number(bytes.readBigInt64BE(at + 26)),
    });
  }
  return entries;
}
