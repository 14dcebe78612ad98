import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as bytes from "./bytes.ts";
import { Cursor } from "./cursor.ts";
import { varint } from "./testing/craft.ts";

const cursorOver = (raw: readonly number[]): Cursor => new Cursor(Uint8Array.from(raw), 0, raw.length, 0);

describe("fixed integers", () => {
  test.each([0, 1, -1, 255, -256, 32_767, -32_768])("int16 %d", (value) => {
    const buffer = Buffer.alloc(4);
    bytes.writeInt16(buffer, 1, value);
    expect(buffer.readInt16BE(1)).toBe(value);
    expect(bytes.readInt16(buffer, 1)).toBe(value);
  });

  test.each([
    0,
    1,
    -1,
    2 ** 31 - 1,
    -(2 ** 31),
    2 ** 32,
    -(2 ** 32) - 1,
    Number.MAX_SAFE_INTEGER,
    Number.MIN_SAFE_INTEGER,
  ])("int64 %d", (value) => {
    const buffer = Buffer.alloc(9);
    bytes.writeInt64(buffer, 1, value);
    expect(buffer.readBigInt64BE(1)).toBe(BigInt(value));
    expect(bytes.readInt64(buffer, 1)).toBe(value);
    expect(bytes.readBigInt64(buffer, 1)).toBe(BigInt(value));
  });

  test("an int64 that is no safe integer never reads as one", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const buffer = Buffer.alloc(8);
        buffer.writeBigInt64BE(value);
        const read = bytes.readInt64(buffer, 0);
        expect(bytes.readBigInt64(buffer, 0)).toBe(value);
        expect(Number.isSafeInteger(read)).toBe(Number.isSafeInteger(Number(value)));
        if (Number.isSafeInteger(read)) expect(BigInt(read)).toBe(value);
      }),
      { examples: [[2n ** 53n], [2n ** 53n - 1n], [2n ** 53n + 1n], [-(2n ** 53n)], [-(2n ** 63n)]] },
    );
  });
});

describe("varints", () => {
  // Kafka's ByteUtilsTest
  test.each([
    [0, [0x00]],
    [-1, [0x01]],
    [1, [0x02]],
    [63, [0x7e]],
    [-64, [0x7f]],
    [64, [0x80, 0x01]],
    [-65, [0x81, 0x01]],
    [8191, [0xfe, 0x7f]],
    [-8192, [0xff, 0x7f]],
    [8192, [0x80, 0x80, 0x01]],
    [-8193, [0x81, 0x80, 0x01]],
    [1048575, [0xfe, 0xff, 0x7f]],
    [1048576, [0x80, 0x80, 0x80, 0x01]],
    [134217727, [0xfe, 0xff, 0xff, 0x7f]],
    [134217728, [0x80, 0x80, 0x80, 0x80, 0x01]],
    [2147483647, [0xfe, 0xff, 0xff, 0xff, 0x0f]],
    [-2147483648, [0xff, 0xff, 0xff, 0xff, 0x0f]],
  ])("%d is written and read as Kafka does", (value, expected) => {
    const buffer = new Uint8Array(5);
    expect(bytes.writeVarint(buffer, 0, value)).toBe(expected.length);
    expect([...buffer.subarray(0, expected.length)]).toEqual(expected);
    expect(bytes.varintBytes(value)).toBe(expected.length);
    expect(cursorOver(expected).varint()).toBe(value);
    expect(cursorOver(expected).varlong()).toBe(value);
  });

  test("varlongs of any int64 are written and read exactly, as a number when safe", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.nat(60), (wide, shift) => {
        const exact = wide >> BigInt(shift);
        const value = Number.isSafeInteger(Number(exact)) ? Number(exact) : exact;
        const expected = varint(exact);
        const buffer = new Uint8Array(12);
        expect(bytes.varlongBytes(value)).toBe(expected.length);
        expect(bytes.writeVarlong(buffer, 0, value)).toBe(expected.length);
        expect([...buffer.subarray(0, expected.length)]).toEqual(expected);
        const cursor = cursorOver([...expected, 0x55]);
        expect(cursor.varlong()).toBe(value);
        expect(cursor.at).toBe(expected.length);
      }),
      {
        examples: [
          [2n ** 63n - 1n, 0],
          [-(2n ** 63n), 0],
          [2n ** 48n - 1n, 0],
          [2n ** 48n, 0],
          [-(2n ** 48n), 0],
        ],
      },
    );
  });

  // reliability.md §6.6 case 9
  const varintRefusals: [string, number[], string][] = [
    ["nothing", [], "ends in the middle"],
    ["one byte that wants more", [0x80], "ends in the middle"],
    ["four bytes that want more", [0x80, 0x80, 0x80, 0x80], "ends in the middle"],
    ["zero in two bytes", [0x80, 0x00], "shortest form"],
    ["one in three bytes", [0x82, 0x80, 0x00], "shortest form"],
    ["five bytes, the last too large", [0xff, 0xff, 0xff, 0xff, 0x10], "longer than 32 bits"],
    ["six bytes", [0x80, 0x80, 0x80, 0x80, 0x80, 0x01], "longer than 32 bits"],
    ["eleven bytes", [...new Array<number>(10).fill(0x80), 0x01], "longer than 32 bits"],
  ];
  test.each(varintRefusals)("a varint of %s is refused", (_, raw, text) => {
    expect(() => cursorOver(raw).varint()).toThrow(text);
  });

  test("nothing is read past the end, though more bytes are there", () => {
    for (const end of [0, 1]) {
      const cursor = new Cursor(Uint8Array.from([0x80, 0x01]), 0, end, 0);
      expect(() => cursor.varint()).toThrow("ends in the middle");
      cursor.at = 0;
      expect(() => cursor.varlong()).toThrow("ends in the middle");
      cursor.at = 0;
      expect(() => cursor.length(true)).toThrow("ends in the middle");
    }
    expect(() => new Cursor(Uint8Array.from([4, 0, 0]), 0, 2, 0).length(true)).toThrow("2 bytes is longer");
  });

  const varlongRefusals: [string, number[], string][] = [
    ["nothing", [], "ends in the middle"],
    ["nine bytes that want more", new Array<number>(9).fill(0x80), "ends in the middle"],
    ["zero in two bytes", [0x80, 0x00], "shortest form"],
    ["one in three bytes", [0x82, 0x80, 0x00], "shortest form"],
    ["one in nine bytes", [0x82, ...new Array<number>(7).fill(0x80), 0x00], "shortest form"],
    ["ten bytes, the last too large", [...new Array<number>(9).fill(0xff), 0x02], "longer than 64 bits"],
    ["eleven bytes", [...new Array<number>(10).fill(0x80), 0x01], "longer than 64 bits"],
  ];
  test.each(varlongRefusals)("a varlong of %s is refused", (_, raw, text) => {
    expect(() => cursorOver(raw).varlong()).toThrow(text);
  });
});
