/**
 * Protobuf messages around large opaque bytes, built with one copy.
 *
 * The generated code copies a batch once per level of nesting and once more into a Buffer. Protobuf lets a message's
 * fields come in any order, so the small fields are encoded by the generated code and the batch is appended as the
 * last field by hand. What comes out decodes like any other message of the type (tested against the generated code).
 */
import { invariant } from "@millrace/base";

/** What {@link encodeOpaque} puts together: `outer { inner { ...fields, bytes } }`. */
export interface OpaqueMessage {
  /** Field number of the inner message in the outer one. */
  readonly innerField: number;
  /** The inner message's other fields, encoded. */
  readonly innerFields: Uint8Array;
  /** Field number of the bytes in the inner message. */
  readonly bytesField: number;
  /** The bytes, in pieces. */
  readonly chunks: readonly Uint8Array[];
}

/** Encodes the outer message, copying the chunks. */
export function encodeOpaque(message: OpaqueMessage): Buffer {
  let length = 0;
  for (const chunk of message.chunks) length += chunk.byteLength;
  const prefixLength = prefixBytes(message, length);
  const out = Buffer.allocUnsafe(prefixLength + length);
  writePrefix(out, 0, message, length);
  let at = prefixLength;
  for (const chunk of message.chunks) {
    out.set(chunk, at);
    at += chunk.byteLength;
  }
  return out;
}

/** Encodes the outer message around `bytes`, which lie in `memory` with enough room in front; the room is overwritten. */
export function encodeOpaqueInPlace(
  message: Omit<OpaqueMessage, "chunks">,
  bytes: Uint8Array,
  memory: Buffer,
): Buffer {
  const length = bytes.byteLength;
  const start = bytes.byteOffset - memory.byteOffset;
  const from = start - prefixBytes(message, length);
  invariant(bytes.buffer === memory.buffer && from >= 0, "there is room in front of the batch");
  writePrefix(memory, from, message, length);
  return memory.subarray(from, start + length);
}

/** Bytes of everything in front of the opaque ones. */
function prefixBytes(message: Omit<OpaqueMessage, "chunks">, length: number): number {
  const fields =
    message.innerFields.byteLength + varintLength(tagOf(message.bytesField)) + varintLength(length);
  return varintLength(tagOf(message.innerField)) + varintLength(fields + length) + fields;
}

function writePrefix(
  out: Buffer,
  from: number,
  message: Omit<OpaqueMessage, "chunks">,
  length: number,
): void {
  const bytesTag = tagOf(message.bytesField);
  const fields = message.innerFields.byteLength + varintLength(bytesTag) + varintLength(length);
  let at = writeVarint(out, from, tagOf(message.innerField));
  at = writeVarint(out, at, fields + length);
  out.set(message.innerFields, at);
  at = writeVarint(out, at + message.innerFields.byteLength, bytesTag);
  writeVarint(out, at, length);
}

/** A length-delimited field's tag. */
function tagOf(field: number): number {
  return field * 8 + 2;
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) length++;
  return length;
}

function writeVarint(out: Buffer, at: number, value: number): number {
  let rest = value;
  let next = at;
  while (rest >= 0x80) {
    out[next++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  out[next++] = rest;
  return next;
}
