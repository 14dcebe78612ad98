/**
 * Protobuf messages around large opaque bytes, built with one copy.
 *
 * The generated code copies a batch once per level of nesting and once more into a Buffer. Protobuf lets a message's
 * fields come in any order, so the small fields are encoded by the generated code and the batch is appended as the
 * last field by hand. What comes out decodes like any other message of the type (tested against the generated code).
 */

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

/** Encodes the outer message. */
export function encodeOpaque(message: OpaqueMessage): Buffer {
  let length = 0;
  for (const chunk of message.chunks) length += chunk.byteLength;
  const bytesTag = tagOf(message.bytesField);
  const innerTag = tagOf(message.innerField);
  const innerLength = message.innerFields.byteLength + varintLength(bytesTag) + varintLength(length) + length;
  const out = Buffer.allocUnsafe(varintLength(innerTag) + varintLength(innerLength) + innerLength);
  let at = writeVarint(out, 0, innerTag);
  at = writeVarint(out, at, innerLength);
  out.set(message.innerFields, at);
  at += message.innerFields.byteLength;
  at = writeVarint(out, at, bytesTag);
  at = writeVarint(out, at, length);
  for (const chunk of message.chunks) {
    out.set(chunk, at);
    at += chunk.byteLength;
  }
  return out;
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
