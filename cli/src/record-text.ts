/** A record as a line for people or programs. */
import type { ConsumerBatch } from "@millrace/client";

type FetchedRecord = ConsumerBatch["records"][number];

const strict = new TextDecoder("utf-8", { fatal: true });

/** Bytes as text where they are UTF-8, else as base64: nothing is lost in JSON. */
function textOr64(bytes: Uint8Array | null): string | null | { readonly base64: string } {
  if (bytes === null) return null;
  try {
    return strict.decode(bytes);
  } catch {
    return { base64: Buffer.from(bytes).toString("base64") };
  }
}

/** One JSON object a line: everything a record holds. Bytes that are no UTF-8 are `{"base64": "..."}`. */
export function recordJson(batch: Pick<ConsumerBatch, "topic" | "partition">, record: FetchedRecord): string {
  const { topic, partition } = batch;
  const headers = record.headers.map(({ key, value }) => ({ key, value: textOr64(value) }));
  return `${JSON.stringify({
    topic,
    partition,
    offset: record.offset,
    timestamp: timeText(record.timestampMs),
    key: textOr64(record.key),
    value: textOr64(record.value),
    ...(headers.length === 0 ? {} : { headers }),
  })}\n`;
}

/** ISO 8601, or the number itself where no date can be it. */
function timeText(timestampMs: number): string | number {
  const date = new Date(timestampMs);
  return Number.isNaN(date.getTime()) ? timestampMs : date.toISOString();
}
