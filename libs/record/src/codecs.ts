/**
 * Compression of a batch's records: Kafka's codec numbers, and the codecs available here.
 *
 * Inflation never goes past a cap (maxOutputLength aborts inside zlib), whatever the compressed stream claims, and
 * concatenated gzip members or zstd frames share that one cap.
 */
import { constants, gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { AppError } from "@millrace/base";
import { refuseBatch } from "./errors.ts";
import { framesPerBlockMax } from "./limits.ts";

/** Names by codec id: bits 0-2 of a batch's attributes (kafka.md §4). */
export const compressionNames = ["none", "gzip", "snappy", "lz4", "zstd"] as const;

/** A codec's name. snappy and lz4 are known by name but not available yet: using them is UNSUPPORTED_COMPRESSION. */
export type CompressionName = (typeof compressionNames)[number];

/** A codec that works here. Both functions are synchronous and throw zlib's errors. */
export interface Codec {
  readonly id: number;
  readonly name: CompressionName;
  readonly compress: (records: Uint8Array) => Uint8Array;
  /** Inflates what one call can: the first frame at least. */
  readonly inflateSome: (block: Uint8Array, inflatedBytesMax: number) => Inflated;
}

/** Result of one call into zlib: its output, and how much of the input it used. */
interface Inflated {
  readonly records: Uint8Array;
  readonly usedBytes: number;
}

/** Fast rather than small: level 6 is four times slower for a sixth less (ecosystem.md §1.3). */
const gzipLevel = 1;
/** Kafka's default. */
const zstdLevel = 3;

/** Options of one inflation. Output comes in chunks: one should hold a usual batch, without allocating much for a small one. */
function inflateOptions(inputBytes: number, inflatedBytesMax: number) {
  const chunkSize = Math.max(64, Math.min(inputBytes * 8, 256 * 1024, inflatedBytesMax));
  return { maxOutputLength: inflatedBytesMax, chunkSize, info: true } as const;
}

/** What zlib's functions return with `info`; the declared types know only the plain buffer. */
function inflated(result: unknown): Inflated {
  const { buffer, engine } = result as { buffer: Uint8Array; engine: { bytesWritten: number } };
  return { records: buffer, usedBytes: engine.bytesWritten };
}

/** The codecs that work here, by name. */
export const codecs: Readonly<Partial<{ [Name in CompressionName]: Codec }>> = {
  none: {
    id: 0,
    name: "none",
    compress: (records) => records,
    inflateSome: (block) => ({ records: block, usedBytes: block.length }),
  },
  gzip: {
    id: 1,
    name: "gzip",
    compress: (records) => gzipSync(records, { level: gzipLevel }),
    inflateSome: (block, inflatedBytesMax) =>
      inflated(gunzipSync(block, inflateOptions(block.length, inflatedBytesMax))),
  },
  zstd: {
    id: 4,
    name: "zstd",
    compress: (records) =>
      zstdCompressSync(records, { params: { [constants.ZSTD_c_compressionLevel]: zstdLevel } }),
    inflateSome: (block, inflatedBytesMax) =>
      inflated(zstdDecompressSync(block, inflateOptions(block.length, inflatedBytesMax))),
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
    return inflateFrames(codec, block, inflatedBytesMax);
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

/**
 * All frames of the block under one cap. zlib's zstd stops after the first frame and drops the rest of its input
 * without a word, so what it used is compared with what it was given.
 */
function inflateFrames(codec: Codec, block: Uint8Array, inflatedBytesMax: number): Uint8Array {
  const first = codec.inflateSome(block, inflatedBytesMax);
  if (first.usedBytes === block.length) return first.records;
  const parts = [first.records];
  let totalBytes = first.records.length;
  let from = first.usedBytes;
  while (from < block.length) {
    if (parts.length === framesPerBlockMax) throw new Error(`it has more than ${framesPerBlockMax} frames`);
    // zlib takes no cap of 0: one byte too much is found by the next frame or by the records' own lengths
    const next = codec.inflateSome(block.subarray(from), Math.max(1, inflatedBytesMax - totalBytes));
    if (next.usedBytes === 0) throw new Error(`${block.length - from} bytes follow the last frame`);
    parts.push(next.records);
    totalBytes += next.records.length;
    from += next.usedBytes;
  }
  return Buffer.concat(parts, totalBytes);
}
