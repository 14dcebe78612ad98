/** From the bytes of one fetch message to what an application is handed: records, or one poison batch. Pure. */
import { AppError } from "@millrace/base";
import {
  batchHeaderBytes,
  batchSizeAt,
  type DecodedRecord,
  type DecodeLimits,
  decodeBatch,
  readBatchHeader,
} from "@millrace/record";

/** A batch that does not decode: handed out whole, never a stop (design §3). */
export interface PoisonBatch {
  readonly bytes: Uint8Array;
  readonly error: AppError;
  /** First offset it claims. */
  readonly baseOffset: number;
  /** Where reading goes on. */
  readonly nextOffset: number;
}

/** A run of batches of one leader epoch, or one poison batch. */
export interface FetchedUnit {
  readonly leaderEpoch: number;
  readonly records: readonly DecodedRecord[];
  readonly nextOffset: number;
  /** The batches as they came; the first may begin below the wanted offset. */
  readonly rawBatches: Uint8Array;
  readonly poison: PoisonBatch | undefined;
}

/**
 * Splits `bytes` (whole batches). Records below `fromOffset` are left out. A batch whose header is broken beyond
 * reading ends the split as poison up to `endOffset`, the offset after the message as the node told it.
 */
export function* splitBatches(
  bytes: Uint8Array,
  fromOffset: number,
  endOffset: number,
  limits: DecodeLimits = {},
): Generator<FetchedUnit, void, void> {
  let run: RunOfBatches | undefined;
  let position = 0;
  let next = fromOffset;
  while (position < bytes.byteLength) {
    const batch = readOne(bytes, position, next, endOffset, limits);
    if (run !== undefined && (batch.poison !== undefined || run.leaderEpoch !== batch.leaderEpoch)) {
      yield run.finish(bytes, position);
      run = undefined;
    }
    position += batch.sizeBytes;
    next = Math.max(next, batch.nextOffset);
    if (batch.poison !== undefined) {
      yield {
        leaderEpoch: -1, // outside the checksum: not to be stored with a position
        records: [],
        nextOffset: next,
        rawBatches: batch.poison.bytes,
        poison: batch.poison,
      };
    } else {
      run ??= new RunOfBatches(batch.leaderEpoch, position - batch.sizeBytes);
      run.add(batch.records, next);
    }
  }
  if (run !== undefined) yield run.finish(bytes, position);
}

interface ReadBatch {
  readonly sizeBytes: number;
  readonly leaderEpoch: number;
  readonly nextOffset: number;
  readonly records: readonly DecodedRecord[];
  readonly poison: PoisonBatch | undefined;
}

function readOne(
  bytes: Uint8Array,
  position: number,
  fromOffset: number,
  endOffset: number,
  limits: DecodeLimits,
): ReadBatch {
  let sizeBytes = bytes.byteLength - position;
  let leaderEpoch = -1;
  let baseOffset = fromOffset;
  let nextOffset = endOffset;
  try {
    const size = batchSizeAt(bytes, position);
    if (size === undefined || size > sizeBytes || sizeBytes < batchHeaderBytes)
      throw new AppError("RECORD_CORRUPT", `the batch after offset ${fromOffset} is cut or has no header`);
    sizeBytes = size;
    const header = readBatchHeader(bytes, position);
    ({ leaderEpoch, baseOffset, nextOffset } = header);
    const records = decodeBatch(bytes, position, limits);
    const isWhole = (records[0]?.offset ?? fromOffset) >= fromOffset;
    const wanted = isWhole ? records : records.filter((record) => record.offset >= fromOffset);
    return { sizeBytes, leaderEpoch, nextOffset, records: wanted, poison: undefined };
  } catch (thrown) {
    const raw = bytes.subarray(position, position + sizeBytes);
    nextOffset = offsetAfterPoison(bytes, position + sizeBytes, fromOffset, endOffset);
    const poison = { bytes: raw, error: AppError.from(thrown), baseOffset, nextOffset };
    return { sizeBytes, leaderEpoch, nextOffset, records: [], poison };
  }
}

/** A broken batch's own word on where it ends is not believed: the batch after it says where that one begins. */
function offsetAfterPoison(bytes: Uint8Array, at: number, fromOffset: number, endOffset: number): number {
  if (at >= bytes.byteLength) return endOffset;
  try {
    const { baseOffset } = readBatchHeader(bytes, at);
    return baseOffset >= fromOffset && baseOffset <= endOffset ? baseOffset : fromOffset;
  } catch {
    return fromOffset;
  }
}

class RunOfBatches {
  readonly leaderEpoch: number;
  readonly #from: number;
  readonly #records: (readonly DecodedRecord[])[] = [];
  #nextOffset = 0;

  constructor(leaderEpoch: number, from: number) {
    this.leaderEpoch = leaderEpoch;
    this.#from = from;
  }

  add(records: readonly DecodedRecord[], nextOffset: number): void {
    this.#records.push(records);
    this.#nextOffset = nextOffset;
  }

  finish(bytes: Uint8Array, end: number): FetchedUnit {
    return {
      leaderEpoch: this.leaderEpoch,
      records: this.#records.length === 1 ? (this.#records[0] ?? []) : this.#records.flat(),
      nextOffset: this.#nextOffset,
      rawBatches: bytes.subarray(this.#from, end),
      poison: undefined,
    };
  }
}
