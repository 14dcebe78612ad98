/** Writing a record's byte fields and headers; the sizes are known before the bytes are written. */
import { AppError } from "@millrace/base";
import { varintBytes, writeVarint } from "./bytes.ts";
import { headerKeyCacheCharsMax, headerKeyCacheEntriesMax } from "./limits.ts";
import type { Header } from "./types.ts";

/** Below this a loop is faster than the call of TypedArray.set. */
const loopCopyBytesMax = 24;

function copyInto(buffer: Uint8Array, at: number, bytes: Uint8Array): number {
  const length = bytes.length;
  if (length > loopCopyBytesMax) buffer.set(bytes, at);
  else for (let i = 0; i < length; i++) buffer[at + i] = bytes[i] as number;
  return at + length;
}

/** Bytes of a nullable field with its length. */
export function fieldBytes(bytes: Uint8Array | null): number {
  return bytes === null ? 1 : varintBytes(bytes.length) + bytes.length;
}

/** Writes a nullable field with its length; returns the position after it. */
export function writeField(buffer: Uint8Array, at: number, bytes: Uint8Array | null): number {
  if (bytes === null) return writeVarint(buffer, at, -1);
  return copyInto(buffer, writeVarint(buffer, at, bytes.length), bytes);
}

/** Bytes of the header count and all headers. */
export function headersBytes(headers: readonly Header[]): number {
  let total = varintBytes(headers.length);
  for (const header of headers) total += fieldBytes(headerKeyBytes(header.key)) + fieldBytes(header.value);
  return total;
}

/** Writes the header count and all headers; returns the position after them. */
export function writeHeaders(buffer: Uint8Array, at: number, headers: readonly Header[]): number {
  let next = writeVarint(buffer, at, headers.length);
  for (const header of headers) {
    next = writeField(buffer, next, headerKeyBytes(header.key));
    next = writeField(buffer, next, header.value);
  }
  return next;
}

/** UTF-8 of the header keys seen first; records of one pipeline share a handful of keys. */
const headerKeyCache = new Map<string, Uint8Array>();

function headerKeyBytes(key: string): Uint8Array {
  const known = headerKeyCache.get(key);
  if (known !== undefined) return known;
  // a lone surrogate would silently become another character
  if (!key.isWellFormed())
    throw new AppError("INVALID_RECORD", "a header key is not well-formed Unicode text");
  const encoded = Buffer.from(key, "utf8");
  if (key.length <= headerKeyCacheCharsMax && headerKeyCache.size < headerKeyCacheEntriesMax)
    headerKeyCache.set(key, encoded);
  return encoded;
}
