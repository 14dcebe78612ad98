/** Reading a partition for one request: range and position checks (rule L4), batches, plain records. */
import { AppError } from "@millrace/base";
import { encodeOpaque } from "@millrace/client";
import type { Log } from "@millrace/log";
import type { Record as RecordMessage } from "@millrace/proto/common";
import { FetchedData } from "@millrace/proto/storage";
import { batchSizeAt, type DecodedRecord, decodeBatch, readBatchHeader } from "@millrace/record";
import { recordsMessageBytesMax } from "../limits.ts";

/** What a log must tell for a position to be checked. */
export type CheckedLog = Pick<Log, "startOffset" | "durableOffset" | "endOfEpoch" | "label">;

/**
 * Checks where a reader wants to go on. Throws OFFSET_OUT_OF_RANGE naming what is there, LOG_TRUNCATED when the record
 * before `offset` is not the one the position was stored after (rule L4).
 */
export function checkPosition(log: CheckedLog, offset: number, positionEpoch: number): void {
  const { startOffset, durableOffset, label } = log;
  const metadata = {
    startOffset: String(startOffset),
    endOffset: String(durableOffset),
    offset: String(offset),
  };
  if (positionEpoch >= 0 && offset > startOffset) {
    const held = log.endOfEpoch(positionEpoch);
    if (held?.epoch !== positionEpoch || held.endOffset < offset) {
      const found =
        held === undefined
          ? "it has nothing of that epoch"
          : `its epoch ${held.epoch} ends at ${held.endOffset}`;
      throw new AppError(
        "LOG_TRUNCATED",
        `${label}: the position (offset ${offset} after leader epoch ${positionEpoch}) is not in this log: ${found}. Records read before may be gone; choose a new position`,
        { metadata },
      );
    }
  }
  if (offset < startOffset || offset > durableOffset) {
    throw new AppError(
      "OFFSET_OUT_OF_RANGE",
      `${label}: offset ${offset} is not in the log, which has ${startOffset} to ${durableOffset}`,
      { metadata },
    );
  }
}

/** Offset after the last of these whole batches. */
export function nextOffsetAfter(chunks: readonly Uint8Array[]): number {
  const chunk = chunks.at(-1);
  if (chunk === undefined) throw new AppError("INTERNAL", "there is no batch");
  let last = 0;
  for (let at = 0; at < chunk.byteLength; ) {
    const sizeBytes = batchSizeAt(chunk, at);
    if (sizeBytes === undefined) throw new AppError("INTERNAL", "a read gave a cut batch");
    last = at;
    at += sizeBytes;
  }
  return readBatchHeader(chunk, last).nextOffset;
}

/** Sum of the chunks' sizes. */
export function bytesOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
}

/** A message of a fetch stream with batches, encoded with one copy of them. */
export function encodeFetchedBatches(
  fields: Omit<FetchedData, "data" | "error">,
  chunks: readonly Uint8Array[],
): Buffer {
  const innerFields = FetchedData.encode({ ...fields, error: undefined, data: undefined }).finish();
  return encodeOpaque({ innerField: 2, innerFields, bytesField: 3, chunks });
}

/** Plain records of batches from `offset` on, in messages of bounded size. */
export interface PlainRecords {
  readonly messages: readonly { readonly records: readonly RecordMessage[]; readonly nextOffset: number }[];
  /** Keys and values: what counts against the reader's credit. */
  readonly bytes: number;
}

/**
 * Decodes for readers without a batch codec. Throws the decoder's error, with the batch's offsets in the metadata, when
 * the first batch does not decode; a later one is left for the next read, which then throws.
 */
export function toPlainRecords(chunks: readonly Uint8Array[], offset: number): PlainRecords {
  const messages: { records: RecordMessage[]; nextOffset: number }[] = [];
  let bytes = 0;
  let messageBytes = 0;
  for (const { at, chunk } of batchesOf(chunks)) {
    const header = readBatchHeader(chunk, at);
    let decoded: DecodedRecord[];
    try {
      decoded = decodeBatch(chunk, at);
    } catch (thrown) {
      if (messages.length > 0) break;
      throw poison(AppError.from(thrown), header.baseOffset, header.nextOffset);
    }
    for (const record of decoded) {
      if (record.offset < offset) continue;
      const size = 1 + (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0);
      let message = messages.at(-1);
      if (message === undefined || messageBytes + size > recordsMessageBytesMax) {
        message = { records: [], nextOffset: record.offset };
        messages.push(message);
        messageBytes = 0;
      }
      message.records.push(toMessage(record));
      message.nextOffset = record.offset + 1;
      messageBytes += size;
      bytes += size;
    }
    const last = messages.at(-1);
    if (last === undefined) messages.push({ records: [], nextOffset: header.nextOffset });
    else last.nextOffset = header.nextOffset;
  }
  return { messages, bytes };
}

function* batchesOf(chunks: readonly Uint8Array[]): Generator<{ at: number; chunk: Uint8Array }> {
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.byteLength; ) {
      yield { at, chunk };
      at += batchSizeAt(chunk, at) ?? chunk.byteLength;
    }
  }
}

function poison(error: AppError, baseOffset: number, nextOffset: number): AppError {
  return new AppError(
    error.reason,
    `the batch of offsets ${baseOffset} to ${nextOffset - 1} does not decode: ${error.message}; go on at ${nextOffset}, or read batches instead of records`,
    {
      metadata: { ...error.metadata, baseOffset: String(baseOffset), nextOffset: String(nextOffset) },
      cause: error,
    },
  );
}

function toMessage(record: DecodedRecord): RecordMessage {
  return {
    key: record.key ?? undefined,
    value: record.value ?? undefined,
    headers: record.headers.map(({ key, value }) => ({ key, value: value ?? undefined })),
    timestampMs: record.timestampMs,
    offset: record.offset,
  };
}
