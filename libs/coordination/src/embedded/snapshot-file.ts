/**
 * Snapshot files of the embedded log: `<sequence, 20 digits>.snapshot`, written whole and renamed into place.
 *
 *   magic 8 "MRMETSNP", then frames {length u32, crc32c u32, bytes}: one SnapshotHeader, then its chunks
 *
 * A file that does not match its checksums is not used: the older one and the log behind it are.
 */
import { AppError } from "@millrace/base";
import type { MetadataRecord } from "@millrace/controller";
import { SnapshotChunk, SnapshotHeader } from "@millrace/proto/metadatalog";
import { crc32c } from "@millrace/record";
import { planChange } from "../batch-codec.ts";
import { fromEntry, toEntry } from "../record-codec.ts";
import type { LogSnapshot } from "../types.ts";

const magic = Buffer.from("MRMETSNP", "latin1");
const formatVersion = 1;

/** A snapshot file's bytes. */
export function encodeSnapshot(logId: string, snapshot: LogSnapshot): Uint8Array {
  const chunks = planChange(snapshot.records).map((part) =>
    SnapshotChunk.encode({ records: part.records.map(toEntry) }).finish(),
  );
  const header = SnapshotHeader.encode({
    formatVersion,
    logId,
    sequence: snapshot.position.sequence,
    hash: Buffer.from(snapshot.position.hash, "hex"),
    chunkCount: chunks.length,
  }).finish();
  return Buffer.concat([magic, ...[header, ...chunks].flatMap((bytes) => [frame(bytes), bytes])]);
}

/** The snapshot in a file of log `logId`; undefined when it is damaged. Throws when it is of a newer version or another log. */
export function decodeSnapshot(logId: string, path: string, file: Uint8Array): LogSnapshot | undefined {
  const frames = readFrames(file);
  const [headerFrame, ...chunks] = frames ?? [];
  if (headerFrame === undefined) return undefined;
  const header = SnapshotHeader.decode(headerFrame);
  if (header.formatVersion !== formatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} has format version ${header.formatVersion}, this version knows ${formatVersion}: start the version that wrote it`,
    );
  }
  if (header.logId !== logId) {
    throw new AppError("HISTORY_MISMATCH", `${path} is of metadata log ${header.logId}, not of ${logId}`);
  }
  if (chunks.length !== header.chunkCount) return undefined;
  const records: MetadataRecord[] = [];
  for (const chunk of chunks) records.push(...SnapshotChunk.decode(chunk).records.map(fromEntry));
  return {
    position: { sequence: header.sequence, hash: Buffer.from(header.hash).toString("hex") },
    records,
  };
}

/** The name of the snapshot at a sequence. */
export function snapshotFileName(sequence: number): string {
  return `${String(sequence).padStart(20, "0")}.snapshot`;
}

/** The sequence of a snapshot file's name; undefined for other files. */
export function snapshotSequenceOf(name: string): number | undefined {
  return /^\d{20}\.snapshot$/.test(name) ? Number(name.slice(0, 20)) : undefined;
}

function frame(bytes: Uint8Array): Uint8Array {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(bytes.byteLength, 0);
  head.writeUInt32BE(crc32c(bytes), 4);
  return head;
}

function readFrames(file: Uint8Array): Uint8Array[] | undefined {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (!bytes.subarray(0, magic.byteLength).equals(magic)) return undefined;
  const frames: Uint8Array[] = [];
  let at = magic.byteLength;
  while (at < bytes.byteLength) {
    if (at + 8 > bytes.byteLength) return undefined;
    const end = at + 8 + bytes.readUInt32BE(at);
    if (end > bytes.byteLength) return undefined;
    const body = bytes.subarray(at + 8, end);
    if (crc32c(body) !== bytes.readUInt32BE(at + 4)) return undefined;
    frames.push(body);
    at = end;
  }
  return frames;
}
