/**
 * What is checked before a batch is believed: the checksum (recovery, readers), the structure of its records in
 * place (leaders, no allocation), and everything a leader demands of a producer (kafka.md §4, broker validation).
 */
import {
  attribute,
  type BatchHeader,
  batchMagic,
  batchSizeAt,
  field,
  readBatchHeader,
} from "./batch-header.ts";
import { readInt32 } from "./bytes.ts";
import { codecById } from "./codecs.ts";
import { crc32c } from "./crc32c.ts";
import { Cursor } from "./cursor.ts";
import { refuseBatch } from "./errors.ts";
import { batchHeaderBytes, headersPerRecordMax, recordBytesMin, recordsPerBatchMax } from "./limits.ts";

/** What a caller allows. */
export interface BatchLimits {
  /** Largest whole batch, header included (`max.message.bytes`). */
  readonly bytesMax: number;
}

/**
 * Header and checksum of the batch at `position`; all its bytes must be there. Throws RECORD_TOO_LARGE before anything
 * is read of a batch over the limit, UNSUPPORTED_VERSION for an intact batch of another magic, else RECORD_CORRUPT.
 */
export function verifyBatch(bytes: Uint8Array, position = 0, limits?: BatchLimits): BatchHeader {
  const left = bytes.length - position;
  const sizeBytes = batchSizeAt(bytes, position);
  if (sizeBytes !== undefined) {
    if (limits !== undefined && sizeBytes > limits.bytesMax) {
      refuseBatch("RECORD_TOO_LARGE", position, `it is ${sizeBytes} bytes, the limit is ${limits.bytesMax}`);
    }
    if (sizeBytes > left)
      refuseBatch("RECORD_CORRUPT", position, `it is ${sizeBytes} bytes, only ${left} are there`);
    refuseOtherMagic(bytes, position, sizeBytes);
  }
  const header = readBatchHeader(bytes, position);
  const crc = checksumAt(bytes, position, header.sizeBytes);
  if (crc !== header.crc) {
    refuseBatch("RECORD_CORRUPT", position, `its checksum is ${hex(header.crc)}, its bytes give ${hex(crc)}`);
  }
  return header;
}

function checksumAt(bytes: Uint8Array, position: number, sizeBytes: number): number {
  return crc32c(bytes.subarray(position + field.attributes, position + sizeBytes));
}

function hex(crc: number): string {
  return `0x${crc.toString(16).padStart(8, "0")}`;
}

/** A batch that is intact but of a format from the future (or a flipped magic byte: the checksum leaves it out). */
function refuseOtherMagic(bytes: Uint8Array, position: number, sizeBytes: number): void {
  const magic = bytes[position + field.magic] as number;
  if (magic === batchMagic) return;
  if (checksumAt(bytes, position, sizeBytes) !== readInt32(bytes, position + field.crc) >>> 0) return;
  refuseBatch(
    "UNSUPPORTED_VERSION",
    position,
    `its magic byte is ${magic}; only RecordBatch v${batchMagic} is read`,
  );
}

/** Refuses a count that the bytes cannot hold, before anything is allocated for it; internal to this library. */
export function checkRecordCount(header: BatchHeader, recordsBytes: number, position: number): void {
  const { recordCount } = header;
  if (recordCount > recordsPerBatchMax) {
    refuseBatch(
      "INVALID_RECORD",
      position,
      `it has ${recordCount} records, the limit is ${recordsPerBatchMax}`,
    );
  }
  if (recordCount * recordBytesMin > recordsBytes) {
    refuseBatch("INVALID_RECORD", position, `it claims ${recordCount} records in ${recordsBytes} bytes`);
  }
}

/**
 * Walks the records of the uncompressed batch at `position` in place: every length, offset deltas 0 .. n-1, the count,
 * header keys, and nothing after the last record. Allocates nothing per record. Throws INVALID_RECORD; a compressed
 * batch is the caller's mistake and refused likewise.
 */
export function walkBatch(bytes: Uint8Array, position = 0): void {
  const header = readBatchHeader(bytes, position);
  if (header.compression !== 0)
    refuseBatch("INVALID_RECORD", position, "a compressed batch cannot be walked in place");
  const end = position + header.sizeBytes;
  if (end > bytes.length) refuseBatch("INVALID_RECORD", position, "it is not whole");
  checkRecordCount(header, header.sizeBytes - batchHeaderBytes, position);
  const cursor = new Cursor(bytes, position + batchHeaderBytes, end, position);
  for (let i = 0; i < header.recordCount; i++) {
    cursor.recordIndex = i;
    walkRecord(cursor, i, end);
  }
  if (cursor.at !== end)
    refuseBatch("INVALID_RECORD", position, `${end - cursor.at} bytes follow its last record`);
}

function walkRecord(cursor: Cursor, offsetDelta: number, blockEnd: number): void {
  const recordEnd = enterRecord(cursor);
  cursor.varlong();
  const delta = cursor.varint();
  if (delta !== offsetDelta) cursor.fail(`its offset delta is ${delta}, not ${offsetDelta}`);
  skipField(cursor);
  skipField(cursor);
  const headerCount = readHeaderCount(cursor);
  for (let h = 0; h < headerCount; h++) {
    const keyBytes = cursor.length(false);
    cursor.checkText(keyBytes);
    cursor.at += keyBytes;
    skipField(cursor);
  }
  leaveRecord(cursor, recordEnd, blockEnd);
}

/** Reads a record's length and attributes and narrows the cursor to it; internal to this library. */
export function enterRecord(cursor: Cursor): number {
  const length = cursor.length(false);
  const recordEnd = cursor.at + length;
  cursor.end = recordEnd;
  const attributes = cursor.byte();
  if (attributes !== 0) cursor.fail(`its attributes are ${attributes}, not 0`);
  return recordEnd;
}

/** Refuses unless the record was read to its end, and widens the cursor again; internal to this library. */
export function leaveRecord(cursor: Cursor, recordEnd: number, blockEnd: number): void {
  if (cursor.at !== recordEnd) cursor.fail(`${recordEnd - cursor.at} bytes of it follow its last field`);
  cursor.end = blockEnd;
}

/** A record's header count, checked against the cap and the bytes left; internal to this library. */
export function readHeaderCount(cursor: Cursor): number {
  const count = cursor.varint();
  if (count < 0 || count > headersPerRecordMax) {
    cursor.fail(`it has ${count} headers, the limit is ${headersPerRecordMax}`);
  }
  return count;
}

function skipField(cursor: Cursor): void {
  const length = cursor.length(true);
  if (length > 0) cursor.at += length;
}

/**
 * Everything a leader checks of what a producer sent: exactly one whole batch within the limit, checksum, codec, and
 * what clients may not set. Walks the records when they are not compressed. Base offset and leader epoch are the
 * leader's to set, whatever the client wrote there. Throws RECORD_TOO_LARGE, RECORD_CORRUPT, UNSUPPORTED_VERSION,
 * UNSUPPORTED_COMPRESSION or INVALID_RECORD.
 */
export function validateProducedBatch(bytes: Uint8Array, limits: BatchLimits): BatchHeader {
  if (bytes.length === 0) refuseBatch("INVALID_RECORD", 0, "it is empty; send a batch with records");
  const header = verifyBatch(bytes, 0, limits);
  if (header.sizeBytes !== bytes.length) {
    refuseBatch(
      "INVALID_RECORD",
      0,
      `${bytes.length - header.sizeBytes} bytes follow it; send exactly one batch per request`,
    );
  }
  checkProducedHeader(header);
  codecById(header.compression, 0);
  if (header.compression === 0) walkBatch(bytes, 0);
  return header;
}

function checkProducedHeader(header: BatchHeader): void {
  const { recordCount, lastOffsetDelta, attributes, producerId, producerEpoch, baseSequence } = header;
  const refuse = (text: string): never => refuseBatch("INVALID_RECORD", 0, text);
  if (recordCount === 0) refuse("it has no records");
  if (recordCount > recordsPerBatchMax)
    refuse(`it has ${recordCount} records, the limit is ${recordsPerBatchMax}`);
  if (lastOffsetDelta !== recordCount - 1) {
    refuse(`its last offset delta is ${lastOffsetDelta}, but it has ${recordCount} records`);
  }
  if (header.isControl) refuse("clients do not write control batches");
  if (header.isTransactional) refuse("it is transactional, but transactions are not supported yet");
  if (header.timestampType === "append") refuse("clients do not set the append-time bit");
  if (header.hasDeleteHorizon) refuse("clients do not set a delete horizon");
  if ((attributes & ~attribute.known) !== 0)
    refuse(`its attributes 0x${(attributes & 0xffff).toString(16)} have unknown bits`);
  if (producerId < -1) refuse(`its producer id is ${producerId}`);
  if (producerId >= 0 && (baseSequence < 0 || producerEpoch < 0)) {
    refuse(`producer ${producerId} sent epoch ${producerEpoch} and sequence ${baseSequence}`);
  }
}
