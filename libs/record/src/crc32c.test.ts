import { createRequire } from "node:module";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { crc32c, crc32cOwn, loadNativeCrc32c } from "./crc32c.ts";

/** One bit at a time, straight from the definition. */
function crc32cSlow(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe("CRC-32C", () => {
  test.each([
    ["", 0],
    ["a", 0xc1d04330],
    ["123456789", 0xe3069283],
    ["Some String", 608512271],
  ])("of %j is the published value", (text, expected) => {
    expect(crc32c(Buffer.from(text))).toBe(expected);
    expect(crc32cOwn(Buffer.from(text))).toBe(expected);
  });

  // RFC 3720 B.4
  test.each([
    ["32 zeros", new Uint8Array(32), 0x8a9136aa],
    ["32 ones", new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ["0..31", Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ["31..0", Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ])("of %s is RFC 3720's", (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  test("both implementations agree with the definition at every length around the switch and every alignment", () => {
    const bytes = Uint8Array.from({ length: 700 }, (_, i) => (i * 7 + (i >> 3)) & 0xff);
    for (let length = 0; length <= 600; length++) {
      const part = bytes.subarray(length % 9, (length % 9) + length);
      const expected = crc32cSlow(part);
      expect(crc32cOwn(part)).toBe(expected);
      expect(crc32c(part)).toBe(expected);
    }
  });

  test("a seed continues a checksum, across the two implementations too", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 900 }), fc.nat(900), (bytes, cut) => {
        const at = Math.min(cut, bytes.length);
        expect(crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at)))).toBe(crc32cSlow(bytes));
      }),
    );
  });

  test("the native binding loads here", () => {
    const native = loadNativeCrc32c(() => createRequire(import.meta.url)("@node-rs/crc32") as unknown);
    expect(native?.(Buffer.from("123456789"))).toBe(0xe3069283);
  });

  test.each([
    [
      "does not load",
      () => {
        throw new Error("no prebuilt binary");
      },
    ],
    ["gives wrong results", () => ({ crc32c: () => 1 })],
  ])("a native binding that %s is left out with one warning", async (_, load) => {
    const warnings: Error[] = [];
    const listener = (warning: Error): void => void warnings.push(warning);
    process.on("warning", listener);
    try {
      expect(loadNativeCrc32c(load)).toBeUndefined();
      await new Promise((resolve) => setImmediate(resolve));
      expect(warnings.map((warning) => warning.name)).toEqual(["MillraceWarning"]);
    } finally {
      process.off("warning", listener);
    }
  });
});
