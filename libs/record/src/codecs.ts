/**
 * Compression of a batch's records: Kafka's codec numbers, and the codecs available here.
 *
 * Inflation never goes past a cap (maxOutputLength aborts inside zlib), whatever the compressed stream claims, and
 * concatenated gzip members or zstd frames share that one cap.
 */
import { constants, gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { AppError } from "@millrace/base";
import { refuseBatch } from "./errors.ts";

/** Names by codec id: bits 0-2 of a batch's attributes (kafka.md §4). */
export const compressionNames = ["none", "gzip", "snappy", "lz4", "zstd"] as const;

/** A codec's name. snappy and lz4 are known by name but not available yet: using them is UNSUPPORTED_COMPRESSION. */
export type CompressionName = (typeof compressionNames)[number];

/** A codec that works here. Both functions are synchronous and throw zlib's errors. */
export interface Codec {
  readonly id: number;
  readonly name: CompressionName;
  readonly compress: (records: Uint8Array) => Uint8Array;
  readonly inflate: (records: Uint8Array, inflatedBytesMax: number) => Uint8Array;
}

/** Fast rather than small: level 6 is four times slower for a sixth less (ecosystem.md §1.3). */
const gzipLevel = 1;
/** Kafka's default. */
const zstdLevel = 3;

/** Output is produced in chunks; one chunk should hold a usual batch, without allocating much for a small one. */
function chunkBytes(inputBytes: number, inflatedBytesMax: number): number {
  return Math.max(64, Math.min(inputBytes * 8, 256 * 1024, inflatedBytesMax));
}

/** The codecs that work here, by name. */
export const codecs: Readonly<Partial<{ [Name in CompressionName]: Codec }>> = {
  none: { id: 0, name: "none", compress: (records) => records, inflate: (records) => records },
  gzip: {
    id: 1,
    name: "gzip",
    compress: (records) => gzipSync(records, { level: gzipLevel }),
    inflate: (records, inflatedBytesMax) =>
      gunzipSync(records, {
        maxOutputLength: inflatedBytesMax,
        chunkSize: chunkBytes(records.length, inflatedBytesMax),
      }),
  },
  zstd: {
    id: 4,
    name: "zstd",
    compress: (records) =>
      zstdCompressSync(records, { params: { [constants.ZSTD_c_compressionLevel]: zstdLevel } }),
    inflate: (records, inflatedBytesMax) =>
      zstdDecompressSync(records, {
        maxOutputLength: inflatedBytesMax,
        chunkSize: chunkBytes(records.length, inflatedBytesMax),
      }),
  },
};

/** The codec of this name; UNSUPPORTED_COMPRESSION when it does not work here. */
export function codecByName(name: CompressionName): Codec {
  const codec = codecs[name];
  if (codec !== undefined) return codec;
  throw new AppError(
    "UNSUPPORTED_COMPRESSION",
    `compression "${name}" is not available here; use ${Object.keys(codecs).join(", ")}`,
    { metadata: { compression: name } },
  );
}

/** The codec of this id; UNSUPPORTED_COMPRESSION, with the batch's position, when it does not work here. */
export function codecById(id: number, position: number): Codec {
  const name = compressionNames[id];
  const codec = name === undefined ? undefined : codecs[name];
  if (codec !== undefined) return codec;
  const what =
    name === undefined ? `compression codec ${id} is unknown` : `compression "${name}" is not available here`;
  return refuseBatch(
    "UNSUPPORTED_COMPRESSION",
    position,
    `${what}; send with ${Object.keys(codecs).join(", ")}`,
  );
}

/**
 * The records block, inflated. Throws RECORD_TOO_LARGE past the cap (nothing beyond it is inflated) and
 * RECORD_CORRUPT when the stream is damaged or cut.
 */
export function inflateRecords(
  codec: Codec,
  block: Uint8Array,
  inflatedBytesMax: number,
  position: number,
): Uint8Array {
  try {
    return codec.inflate(block, inflatedBytesMax);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
      return refuseBatch(
        "RECORD_TOO_LARGE",
        position,
        `its ${codec.name} data inflates to more than ${inflatedBytesMax} bytes`,
      );
    }
    return refuseBatch(
      "RECORD_CORRUPT",
      position,
      `its ${codec.name} data is damaged: ${String(error)}`,
      error,
    );
  }
}
