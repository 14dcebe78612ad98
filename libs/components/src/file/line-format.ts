/**
 * Records as lines of a file.
 *
 * text: the value's bytes as they were and a newline; a null value is an empty line; key, headers and time are left
 * out. A value with a line feed (0x0A) inside, by `newlines`:
 *   escape  each 0x0A becomes the two bytes `\n` (0x5C 0x6E), nothing else changes; the record is counted. A reader
 *           cannot tell it from a value that held these two bytes; who needs every byte back takes `json`
 *   keep    the bytes as they are: the record covers several lines
 *   reject  the record is refused: dead letter, counted
 * Carriage returns are bytes like any other.
 *
 * json: one object a line that keeps everything: {topic, partition | channel, offset, timestamp, key, value,
 * headers: [{key, value}]}; bytes that are not valid UTF-8 as base64 in `keyBase64` or `valueBase64` instead. null
 * and empty stay different. `timestamp` is epoch ms, -1 = none.
 */
import { isUtf8 } from "node:buffer";
import { type Origin, type SinkRecord, streamHeader } from "@millrace/flow";

/** What to do with a line feed inside of a value. */
export type NewlinesMode = "escape" | "keep" | "reject";

/** Writes one record after the other: first `prepare`, then `put` when there is room. Holds no data between records. */
export interface LineFormat {
  /** Bytes of the record's line, or the reason why there is none. */
  prepare(record: SinkRecord): number | { readonly refused: string };
  /** Puts the line of the record prepared last; returns the position after it. */
  put(target: Uint8Array, at: number): number;
  /** Records changed by `escape` so far. */
  readonly escapedCount: number;
}

const lineFeed = 0x0a;
const backslash = 0x5c;
const letterN = 0x6e;
const empty = new Uint8Array(0);

/** Reason of a refused record with a line feed inside. */
export const newlineReason = "newline-in-value";

class TextFormat implements LineFormat {
  readonly #newlines: NewlinesMode;
  escapedCount = 0;
  #value: Uint8Array = empty;
  /** Line feeds to escape in the prepared value; 0 = copy. */
  #feeds = 0;

  constructor(newlines: NewlinesMode) {
    this.#newlines = newlines;
  }

  prepare(record: SinkRecord): number | { readonly refused: string } {
    const value = record.value ?? empty;
    this.#value = value;
    this.#feeds = 0;
    if (this.#newlines === "keep" || !value.includes(lineFeed)) return value.length + 1;
    if (this.#newlines === "reject") return { refused: newlineReason };
    for (let at = value.indexOf(lineFeed); at !== -1; at = value.indexOf(lineFeed, at + 1)) this.#feeds++;
    this.escapedCount++;
    return value.length + this.#feeds + 1;
  }

  put(target: Uint8Array, at: number): number {
    const value = this.#value;
    let end = at;
    if (this.#feeds === 0) {
      target.set(value, at);
      end += value.length;
    } else {
      for (const byte of value) {
        if (byte === lineFeed) {
          target[end++] = backslash;
          target[end++] = letterN;
        } else target[end++] = byte;
      }
    }
    target[end++] = lineFeed;
    return end;
  }
}

class JsonFormat implements LineFormat {
  readonly #origin: Readonly<Record<string, string | number>>;
  readonly escapedCount = 0;
  #line: Uint8Array = empty;

  constructor(origin: Origin) {
    this.#origin =
      origin.kind === "channel"
        ? { channel: origin.channelName }
        : { topic: origin.topic, partition: origin.partition };
  }

  prepare(record: SinkRecord): number {
    const headers = record.headers
      .filter((header) => header.key !== streamHeader)
      .map((header) => ({ key: header.key, ...bytesField("value", header.value) }));
    const line = JSON.stringify({
      ...this.#origin,
      offset: record.offset,
      timestamp: record.timestampMs,
      ...bytesField("key", record.key),
      ...bytesField("value", record.value),
      headers,
    });
    this.#line = Buffer.from(`${line}\n`);
    return this.#line.length;
  }

  put(target: Uint8Array, at: number): number {
    target.set(this.#line, at);
    return at + this.#line.length;
  }
}

function bytesField(name: string, bytes: Uint8Array | null): Readonly<Record<string, string | null>> {
  if (bytes === null) return { [name]: null };
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return isUtf8(view) ? { [name]: view.toString("utf8") } : { [`${name}Base64`]: view.toString("base64") };
}

/** The format of a configuration for one origin. */
export function lineFormat(format: "text" | "json", newlines: NewlinesMode, origin: Origin): LineFormat {
  return format === "text" ? new TextFormat(newlines) : new JsonFormat(origin);
}
