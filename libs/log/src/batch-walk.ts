/** Walking the batches of a segment file in order: checksums, dense offsets, and finding the way behind damage. */
import {
  type BatchHeader,
  batchHeaderBytes,
  batchSizeAt,
  readBatchHeader,
  verifyBatch,
} from "@millrace/record";
import { walkChunkBytes } from "./limits.ts";

/** The part of an open file that walking needs. */
export interface ReadableFile {
  read(target: Uint8Array, targetOffset: number, length: number, position: number): Promise<number>;
}

/** Where a walk ended: at `position` expecting `nextOffset`. */
export interface WalkEnd {
  readonly position: number;
  readonly nextOffset: number;
  /** What is wrong at `position`; undefined at the end of the range or when the visitor stopped. */
  readonly fault: string | undefined;
}

/** A range of a file and the offset its first batch must have. */
export interface WalkRange {
  readonly from: number;
  readonly to: number;
  readonly firstOffset: number;
  /** Headers only: for bytes that were verified before. */
  readonly trustsChecksums?: boolean;
  /** See {@link EpochAt}. */
  readonly epochAt?: EpochAt;
}

/**
 * The leader epoch a batch at an offset must carry, undefined where that is not known. The checksum covers neither base
 * offset nor epoch; dense offsets check the one, the log's epoch history the other (invariant L2).
 */
export type EpochAt = (offset: number) => number | undefined;

/** Sees each good batch; `bytes` holds it at `at` and is only valid during the call. False stops the walk. */
export type BatchVisitor = (
  header: BatchHeader,
  position: number,
  bytes: Buffer,
  at: number,
) => boolean | undefined;

/** Reads until `length` bytes are there or the file ends. */
export async function readFully(file: ReadableFile, length: number, position: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    const count = await file.read(buffer, filled, length - filled, position + filled);
    if (count === 0) break;
    filled += count;
  }
  return buffer.subarray(0, filled);
}

/** Visits the batches of a range until its end, the first fault, or the visitor's false. */
export async function walkBatches(
  file: ReadableFile,
  range: WalkRange,
  visit: BatchVisitor,
): Promise<WalkEnd> {
  let position = range.from;
  let nextOffset = range.firstOffset;
  let chunkBytes = walkChunkBytes;
  while (position < range.to) {
    const bytes = await readFully(file, Math.min(chunkBytes, range.to - position), position);
    const isLast = bytes.length < chunkBytes || position + bytes.length === range.to;
    let at = 0;
    while (at < bytes.length) {
      const size = batchSizeAt(bytes, at);
      const isWhole = size !== undefined && at + size <= bytes.length;
      if (
        !isWhole &&
        !isLast &&
        (size === undefined ? bytes.length - at < batchHeaderBytes : position + at + size <= range.to)
      ) {
        chunkBytes = Math.max(walkChunkBytes, size ?? 0);
        break;
      }
      const checked = checkBatch(bytes, at, nextOffset, range);
      if (typeof checked === "string") return { position: position + at, nextOffset, fault: checked };
      const goesOn = visit(checked, position + at, bytes, at) !== false;
      at += checked.sizeBytes;
      nextOffset = checked.nextOffset;
      if (!goesOn) return { position: position + at, nextOffset, fault: undefined };
    }
    position += at;
    if (at === 0 && isLast) break;
  }
  return { position, nextOffset, fault: undefined };
}

/** The header of a good batch with the expected base offset, or what is wrong with it. */
export function checkBatch(
  bytes: Buffer,
  at: number,
  expectedOffset: number,
  options: { readonly trustsChecksums?: boolean; readonly epochAt?: EpochAt },
): BatchHeader | string {
  try {
    const size = batchSizeAt(bytes, at);
    if (size === undefined || at + size > bytes.length) return "the batch is not whole";
    const header = options.trustsChecksums === true ? readBatchHeader(bytes, at) : verifyBatch(bytes, at);
    if (header.baseOffset !== expectedOffset)
      return `offset ${header.baseOffset} stands where ${expectedOffset} is due`;
    const epoch = options.epochAt?.(expectedOffset);
    if (epoch !== undefined && header.leaderEpoch !== epoch) {
      return `leader epoch ${header.leaderEpoch} stands where ${epoch} is due`;
    }
    return header;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * The first good batch at or after `from` whose base offset lies in (minOffset, maxOffset): where reading goes on
 * behind damage. Looks at every byte; only run when something is broken.
 */
export async function findNextBatch(
  file: ReadableFile,
  range: { from: number; to: number; minOffset: number; maxOffset: number },
): Promise<{ position: number; baseOffset: number } | undefined> {
  for (let position = range.from; position < range.to; position += walkChunkBytes) {
    // Overlaps by a header, so that a header across two chunks is seen.
    const bytes = await readFully(
      file,
      Math.min(walkChunkBytes + batchHeaderBytes, range.to - position),
      position,
    );
    for (let at = 0; at < Math.min(walkChunkBytes, bytes.length - batchHeaderBytes + 1); at++) {
      if (bytes[at + 16] !== 2 || bytes[at] !== 0) continue;
      const size = batchSizeAt(bytes, at);
      if (size === undefined || position + at + size > range.to) continue;
      if (!hasOffsetWithin(bytes, at, range.minOffset, range.maxOffset)) continue;
      const batch = await readFully(file, size, position + at);
      const header = checkedHeader(batch);
      if (header !== undefined) return { position: position + at, baseOffset: header.baseOffset };
    }
  }
  return undefined;
}

function hasOffsetWithin(bytes: Buffer, at: number, minOffset: number, maxOffset: number): boolean {
  const baseOffset = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
  return baseOffset > minOffset && baseOffset < maxOffset;
}

function checkedHeader(batch: Buffer): BatchHeader | undefined {
  try {
    return verifyBatch(batch, 0);
  } catch {
    return undefined;
  }
}
