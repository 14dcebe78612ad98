/**
 * The newest batches of the logs in memory: those not yet in their segment file, and behind them a bounded cache of
 * those that are, so that readers at the end do not touch the disk.
 *
 * Per log a deque in offset order:  [ cached, in the file | durable, to be written | not durable yet ].
 */
import { tailCacheBytesMax } from "./limits.ts";
import type { Segment } from "./segment.ts";

/** What a small view is charged at most for the allocation it keeps alive. */
const slabBytesMax = 16_384;

/** A batch of one log. `bytes` carries its final offset and epoch and is never changed again. */
export interface TailBatch {
  readonly logNumber: number;
  readonly segment: Segment;
  readonly position: number;
  readonly baseOffset: number;
  readonly nextOffset: number;
  readonly leaderEpoch: number;
  readonly bytes: Uint8Array;
}

/** The tail of one log. */
export class Tail {
  /** Dropped places are undefined at once: an array of large batches must not keep what it has given up. */
  #batches: (TailBatch | undefined)[] = [];
  #head = 0;
  /** Index (absolute in #batches) of the first batch not yet in the file. */
  #unwritten = 0;

  get isEmpty(): boolean {
    return this.#head === this.#batches.length;
  }

  get first(): TailBatch | undefined {
    return this.#batches[this.#head];
  }

  /** The oldest batch that is not in its file yet. */
  get firstUnwritten(): TailBatch | undefined {
    return this.#batches[this.#unwritten];
  }

  push(batch: TailBatch): void {
    this.#batches.push(batch);
  }

  /** Index of the batch that contains `offset`, or undefined when the tail does not reach it. */
  find(offset: number): number | undefined {
    const first = this.first;
    if (first === undefined || offset < first.baseOffset) return undefined;
    let low = this.#head;
    let high = this.#batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#batches[middle] as TailBatch).nextOffset <= offset) low = middle + 1;
      else high = middle;
    }
    return low === this.#batches.length ? undefined : low;
  }

  at(index: number): TailBatch | undefined {
    return this.#batches[index];
  }

  /** Next batches to write that end at or below `durableOffset`: of one segment, up to the limits. */
  nextToWrite(durableOffset: number, bytesMax: number, countMax: number): TailBatch[] {
    const found: TailBatch[] = [];
    let bytes = 0;
    for (let i = this.#unwritten; i < this.#batches.length && found.length < countMax; i++) {
      const batch = this.#batches[i] as TailBatch;
      if (batch.nextOffset > durableOffset) break;
      if (found.length > 0 && (batch.segment !== found[0]?.segment || bytes + batch.bytes.length > bytesMax))
        break;
      found.push(batch);
      bytes += batch.bytes.length;
    }
    return found;
  }

  /** The first `count` of the unwritten are in their file now. */
  markWritten(count: number): void {
    this.#unwritten += count;
  }

  /** Drops the oldest batch, which is in its file. */
  dropFirst(): void {
    this.#batches[this.#head++] = undefined;
    if (this.#head > 64 && this.#head * 2 > this.#batches.length) {
      this.#batches = this.#batches.slice(this.#head);
      this.#unwritten -= this.#head;
      this.#head = 0;
    }
  }

  /** Drops everything: after a truncation the files say what is there. */
  clear(): void {
    this.#batches = [];
    this.#head = 0;
    this.#unwritten = 0;
  }
}

interface CachedBatch {
  readonly tail: Tail;
  readonly batch: TailBatch;
}

/** Bounds what the tails keep of batches that are in their files: oldest first, over all logs of the directory. */
export class TailCache {
  readonly #bytesMax: number;
  #queue: (CachedBatch | undefined)[] = [];
  #head = 0;
  #bytes = 0;

  constructor(bytesMax = tailCacheBytesMax) {
    this.#bytesMax = bytesMax;
  }

  get sizeBytes(): number {
    return this.#bytes;
  }

  /** Takes over a batch just written to its file and drops older ones beyond the limit. */
  add(tail: Tail, batch: TailBatch): void {
    this.#queue.push({ tail, batch });
    this.#bytes += cost(batch);
    while (this.#bytes > this.#bytesMax) this.#evict();
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }

  #evict(): void {
    const { tail, batch } = this.#queue[this.#head] as CachedBatch;
    this.#queue[this.#head++] = undefined;
    this.#bytes -= cost(batch);
    // A cleared tail (truncated or deleted log) does not have it any more.
    if (tail.first === batch) tail.dropFirst();
  }
}

function cost(batch: TailBatch): number {
  return Math.max(batch.bytes.length, Math.min(batch.bytes.buffer.byteLength, slabBytesMax));
}
