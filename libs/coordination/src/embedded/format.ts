/**
 * Bytes of the embedded log (all big-endian).
 *
 *   file    header, entries...            name: first sequence, 20 digits, `.log`
 *   header  magic 8, version u32, log id 22 ASCII, first sequence u64, previous hash 32 (zeros = none), crc32c u32
 *   entry   payload length u32, crc32c u32 over what follows, sequence u64, payload (a MetadataBatch)
 */
import { AppError } from "@millrace/base";
import { crc32c } from "@millrace/record";
import { batchBytesMax } from "../types.ts";

const magic = "MRMETLOG";
const formatVersion = 1;

/** Length of a file's header in bytes. */
export const headerBytes = 8 + 4 + 22 + 8 + 32 + 4;

/** Length of an entry's frame before the payload, in bytes. */
export const frameBytes = 4 + 4 + 8;

/** What a file's header says. */
export interface FileHeader {
  readonly logId: string;
  readonly firstSequence: number;
  /** Hexadecimal; empty before the first batch. */
  readonly previousHash: string;
}

/** A header's bytes. */
export function encodeHeader(header: FileHeader): Uint8Array {
  const bytes = Buffer.alloc(headerBytes);
  bytes.write(magic, 0, "latin1");
  bytes.writeUInt32BE(formatVersion, 8);
  bytes.write(header.logId, 12, 22, "latin1");
  bytes.writeBigUInt64BE(BigInt(header.firstSequence), 34);
  bytes.write(header.previousHash, 42, 32, "hex");
  bytes.writeUInt32BE(crc32c(bytes.subarray(0, headerBytes - 4)), headerBytes - 4);
  return bytes;
}

/** Reads a header; throws UNSUPPORTED_VERSION or RECORD_CORRUPT naming the file. */
export function decodeHeader(path: string, file: Uint8Array): FileHeader {
  const bytes = Buffer.from(file.buffer, file.byteOffset, Math.min(file.byteLength, headerBytes));
  if (bytes.byteLength < headerBytes || bytes.toString("latin1", 0, 8) !== magic) {
    throw corrupt(path, "its header is no header of a metadata log");
  }
  const version = bytes.readUInt32BE(8);
  if (version !== formatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} has format version ${version}, this version knows ${formatVersion}: start the version that wrote it`,
    );
  }
  if (bytes.readUInt32BE(headerBytes - 4) !== crc32c(bytes.subarray(0, headerBytes - 4))) {
    throw corrupt(path, "its header does not match its checksum");
  }
  const hash = bytes.toString("hex", 42, 74);
  return {
    logId: bytes.toString("latin1", 12, 34),
    firstSequence: Number(bytes.readBigUInt64BE(34)),
    previousHash: /^0+$/.test(hash) ? "" : hash,
  };
}

/** An entry's frame; the payload follows it. */
export function encodeFrame(sequence: number, payload: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(frameBytes);
  frame.writeUInt32BE(payload.byteLength, 0);
  frame.writeBigUInt64BE(BigInt(sequence), 8);
  frame.writeUInt32BE(crc32c(payload, crc32c(frame.subarray(8))), 4);
  return frame;
}

/** The payload of the entry at `position`, if a whole and matching one with that sequence is there. */
export function entryAt(file: Uint8Array, position: number, sequence: number): Uint8Array | undefined {
  if (position + frameBytes > file.byteLength) return undefined;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const length = view.getUint32(position);
  const end = position + frameBytes + length;
  if (length > batchBytesMax || end > file.byteLength) return undefined;
  if (view.getBigUint64(position + 8) !== BigInt(sequence)) return undefined;
  if (view.getUint32(position + 4) !== crc32c(file.subarray(position + 8, end))) return undefined;
  return file.subarray(position + frameBytes, end);
}

/** How far behind a damaged entry sequences are searched for. */
const searchSequencesMax = 1 << 20;

/**
 * True when what starts at `position` can be the torn end of the last append: not longer than one entry, and no whole
 * entry follows in it. Anything else is damage to entries that were durable.
 */
export function isTornTail(file: Uint8Array, position: number, sequence: number): boolean {
  if (file.byteLength - position > frameBytes + batchBytesMax) return false;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = position + 1; at + frameBytes <= file.byteLength; at++) {
    const found = view.getBigUint64(at + 8);
    const distance = found - BigInt(sequence);
    if (distance <= 0n || distance > BigInt(searchSequencesMax)) continue;
    if (entryAt(file, at, Number(found)) !== undefined) return false;
  }
  return true;
}

/** Damage to durable bytes: the process stops and says where. */
export function corrupt(path: string, what: string): AppError {
  return new AppError(
    "RECORD_LOST_ON_DISK",
    `${path} is damaged: ${what}. Nothing was changed; restore the metadata directory from a copy`,
    { metadata: { path } },
  );
}

/** The name of the log file that starts at a sequence. */
export function logFileName(firstSequence: number): string {
  return `${String(firstSequence).padStart(20, "0")}.log`;
}

/** The first sequence of a log file's name; undefined for other files. */
export function firstSequenceOf(name: string): number | undefined {
  return /^\d{20}\.log$/.test(name) ? Number(name.slice(0, 20)) : undefined;
}
