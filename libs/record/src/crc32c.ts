/**
 * CRC-32C (Castagnoli), the checksum of batches, journals and snapshots.
 *
 * Two implementations with equal results: the native one (5 GB/s) for large inputs and our own slicing-by-8
 * (1.2 GB/s, no call into C++) for small ones; measured in ecosystem.md §1.3. Without the native binding our own does
 * everything, after one warning.
 */
import { createRequire } from "node:module";
import { nativeCrcBytesMin } from "./limits.ts";

type Crc32c = (bytes: Uint8Array, seed?: number) => number;

/** Reflected form of the polynomial 0x1EDC6F41. */
const polynomial = 0x82f63b78;

/** Eight tables of 256: table k gives the effect of a byte that k further bytes follow. */
const tables = buildTables();

function buildTables(): Int32Array[] {
  const built = Array.from({ length: 8 }, () => new Int32Array(256));
  const first = built[0] as Int32Array;
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    first[byte] = crc;
  }
  for (let k = 1; k < 8; k++) {
    const before = built[k - 1] as Int32Array;
    const table = built[k] as Int32Array;
    for (let byte = 0; byte < 256; byte++) {
      const crc = before[byte] as number;
      table[byte] = (crc >>> 8) ^ (first[crc & 0xff] as number);
    }
  }
  return built;
}

const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
];

/** The own implementation; exported for its test and for inputs that are known to be small. */
export function crc32cOwn(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  let at = 0;
  const blocksEnd = bytes.length - (bytes.length % 8);
  for (; at < blocksEnd; at += 8) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    crc =
      (t7[crc & 0xff] as number) ^
      (t6[(crc >>> 8) & 0xff] as number) ^
      (t5[(crc >>> 16) & 0xff] as number) ^
      (t4[crc >>> 24] as number) ^
      (t3[bytes[at + 4] as number] as number) ^
      (t2[bytes[at + 5] as number] as number) ^
      (t1[bytes[at + 6] as number] as number) ^
      (t0[bytes[at + 7] as number] as number);
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ (t0[(crc ^ (bytes[at] as number)) & 0xff] as number);
  return ~crc >>> 0;
}

/** Loads the native binding, or returns undefined after a warning; `load` is a parameter for the test. */
export function loadNativeCrc32c(load: () => unknown): Crc32c | undefined {
  try {
    const native = (load() as { crc32c: Crc32c }).crc32c;
    if (native(new Uint8Array([0x31, 0x32, 0x33]), 0) === crc32cOwn(new Uint8Array([0x31, 0x32, 0x33])))
      return native;
    process.emitWarning("the native CRC-32C gives wrong results and is not used", "MillraceWarning");
  } catch (error) {
    process.emitWarning(
      `the native CRC-32C of @node-rs/crc32 does not load here; the slower own code is used (${String(error).slice(0, 200)})`,
      "MillraceWarning",
    );
  }
  return undefined;
}

const require = createRequire(import.meta.url);
const native = loadNativeCrc32c(() => require("@node-rs/crc32") as unknown);

/**
 * CRC-32C of `bytes` as an unsigned number. `seed` is the checksum of the bytes before them (0 at the start), so
 * crc32c(b, crc32c(a)) is the checksum of a followed by b.
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  return native === undefined || bytes.length < nativeCrcBytesMin
    ? crc32cOwn(bytes, seed)
    : native(bytes, seed);
}
