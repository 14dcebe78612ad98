/**
 * A batch as bytes, its hash, and the cutting of a large change into several batches. Shared by all engines: what is
 * hashed and chained is the same everywhere, so a log can move from one engine to another.
 */
import { createHash } from "node:crypto";
import { AppError } from "@millrace/base";
import type { MetadataRecord } from "@millrace/controller";
import { MetadataBatch } from "@millrace/proto/metadatalog";
import { randomId } from "@millrace/runtime";
import { entryBytes, fromEntry, toEntry } from "./record-codec.ts";
import { batchBytesMax, type LoggedBatch, type LogPosition, type NewBatch } from "./types.ts";

/** Version of the batch format that this code writes and reads. */
export const batchFormatVersion = 1;

/** Bytes of a batch beside its records: ids, hash, counts. */
const batchOverheadBytes = 256;

/** A batch's bytes, chained to its predecessor. Throws LIMIT_EXCEEDED beyond {@link batchBytesMax}. */
export function encodeBatch(logId: string, previous: LogPosition, batch: NewBatch): Uint8Array {
  const bytes = MetadataBatch.encode({
    formatVersion: batchFormatVersion,
    logId,
    previousHash: hexToBytes(previous.hash),
    batchId: batch.batchId,
    changeId: batch.changeId,
    part: batch.part,
    partCount: batch.partCount,
    records: batch.records.map(toEntry),
  }).finish();
  if (bytes.byteLength > batchBytesMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `a metadata batch of ${bytes.byteLength} bytes is over the limit of ${batchBytesMax}`,
    );
  }
  return bytes;
}

/** SHA-256 of a batch's bytes, hexadecimal. */
export function batchHash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A batch after `previous`. Throws HISTORY_MISMATCH when it does not follow it, UNSUPPORTED_VERSION when it is newer. */
export function decodeBatch(logId: string, previous: LogPosition, bytes: Uint8Array): LoggedBatch {
  const stored = MetadataBatch.decode(bytes);
  if (stored.formatVersion !== batchFormatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `batch ${previous.sequence + 1} of the metadata log has format version ${stored.formatVersion}, this version knows ${batchFormatVersion}: start the version that wrote it`,
    );
  }
  if (stored.logId !== logId || Buffer.from(stored.previousHash).toString("hex") !== previous.hash) {
    throw new AppError(
      "HISTORY_MISMATCH",
      `batch ${previous.sequence + 1} does not follow batch ${previous.sequence} of metadata log ${logId}: it belongs to another history`,
    );
  }
  return {
    position: { sequence: previous.sequence + 1, hash: batchHash(bytes) },
    batchId: stored.batchId,
    changeId: stored.changeId,
    part: stored.part,
    partCount: stored.partCount,
    records: stored.records.map(fromEntry),
  };
}

/** The batches of one change: as many as its size needs, to be appended one after another. */
export function planChange(records: readonly MetadataRecord[], bytesMax = batchBytesMax): NewBatch[] {
  const parts: MetadataRecord[][] = [[]];
  let partBytes = batchOverheadBytes;
  for (const record of records) {
    const bytes = entryBytes(record);
    if (partBytes + bytes > bytesMax && (parts.at(-1) as MetadataRecord[]).length > 0) {
      parts.push([]);
      partBytes = batchOverheadBytes;
    }
    (parts.at(-1) as MetadataRecord[]).push(record);
    partBytes += bytes;
  }
  const changeId = randomId();
  return parts.map((part, index) => ({
    batchId: randomId(),
    changeId,
    part: index,
    partCount: parts.length,
    records: part,
  }));
}

function hexToBytes(hex: string): Uint8Array {
  return Buffer.from(hex, "hex");
}
