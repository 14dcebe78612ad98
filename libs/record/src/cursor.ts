/**
 * A strict reader over one batch's records block, shared by the in-place walk and the decoder.
 *
 * It never reads at or past `end`, accepts only canonical varints (shortest form, in range), and refuses with
 * INVALID_RECORD naming batch position, record and byte. One cursor per batch; reading a field allocates nothing.
 */
import { isUtf8 } from "node:buffer";
import { refuseBatch } from "./errors.ts";

export class Cursor {
  readonly bytes: Uint8Array;
  /** Next byte to read. */
  at: number;
  /** First byte that may not be read: the end of the block, or of the record being read. */
  end: number;
  /** Index of the record being read; for messages. */
  recordIndex = 0;
  readonly #batchPosition: number;

  constructor(bytes: Uint8Array, from: number, end: number, batchPosition: number) {
    this.bytes = bytes;
    this.at = from;
    this.end = end;
    this.#batchPosition = batchPosition;
  }

  /** Refuses the batch with INVALID_RECORD. */
  fail(text: string): never {
    return refuseBatch(
      "INVALID_RECORD",
      this.#batchPosition,
      `record ${this.recordIndex} (byte ${this.at}): ${text}`,
    );
  }

  /** One byte. */
  byte(): number {
    if (this.at >= this.end) this.fail("it ends in the middle of a field");
    return this.bytes[this.at++] as number;
  }

  /** A zig-zag varint of an int32. */
  varint(): number {
    const at = this.at;
    if (at < this.end) {
      const first = this.bytes[at] as number;
      if (first < 0x80) {
        this.at = at + 1;
        return (first >>> 1) ^ -(first & 1);
      }
      const second = at + 1 < this.end ? (this.bytes[at + 1] as number) : 0;
      if (second < 0x80 && second !== 0) {
        this.at = at + 2;
        return (((first & 0x7f) | (second << 7)) >>> 1) ^ -(first & 1);
      }
    }
    return this.#varintSlow();
  }

  #varintSlow(): number {
    let raw = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      if (shift === 28 && byte > 0x0f) this.fail("a varint is longer than 32 bits");
      raw |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte === 0 && shift > 0) this.fail("a varint is not in its shortest form");
        break;
      }
    }
    return (raw >>> 1) ^ -(raw & 1);
  }

  /** A zig-zag varlong of an int64: a number when it is a safe integer, otherwise a bigint. */
  varlong(): number | bigint {
    const at = this.at;
    if (at < this.end) {
      const first = this.bytes[at] as number;
      if (first < 0x80) {
        this.at = at + 1;
        return (first >>> 1) ^ -(first & 1);
      }
      const second = at + 1 < this.end ? (this.bytes[at + 1] as number) : 0;
      if (second < 0x80 && second !== 0) {
        this.at = at + 2;
        return (((first & 0x7f) | (second << 7)) >>> 1) ^ -(first & 1);
      }
    }
    return this.#varlongSlow();
  }

  #varlongSlow(): number | bigint {
    const from = this.at;
    // 49 bits fit a number exactly; what is longer is read again as a bigint
    let raw = 0;
    for (let scale = 1; this.at - from < 7; scale *= 128) {
      const byte = this.byte();
      raw += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (byte === 0 && scale > 1) this.fail("a varlong is not in its shortest form");
        return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
      }
    }
    this.at = from;
    return this.#varlongBig();
  }

  #varlongBig(): number | bigint {
    let raw = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte();
      if (shift === 63n && byte > 1) this.fail("a varlong is longer than 64 bits");
      raw |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte === 0) this.fail("a varlong is not in its shortest form");
        break;
      }
    }
    const value = (raw >> 1n) ^ -(raw & 1n);
    const asNumber = Number(value);
    return Number.isSafeInteger(asNumber) ? asNumber : value;
  }

  /** The length of a field that lies in this record: -1 (null) or more; `nullable` says whether -1 may be. */
  length(nullable: boolean): number {
    const length = this.varint();
    if (length < (nullable ? -1 : 0)) this.fail(`a field's length is ${length}`);
    if (length > this.end - this.at)
      this.fail(`a field of ${length} bytes is longer than what is left of it`);
    return length;
  }

  /** Refuses unless the `length` bytes from here on are UTF-8 text. Text of ASCII alone costs no call. */
  checkText(length: number): void {
    const end = this.at + length;
    for (let at = this.at; at < end; at++) {
      if ((this.bytes[at] as number) >= 0x80) {
        if (!isUtf8(this.bytes.subarray(at, end))) this.fail("a header key is not valid UTF-8");
        return;
      }
    }
  }

  /** The UTF-8 text of the `length` bytes from here on, byte for byte (a byte order mark stays). */
  text(length: number): string {
    this.checkText(length);
    const from = this.at;
    this.at = from + length;
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, length).toString("utf8");
  }
}
