/**
 * Memory for batches under construction, used again: fresh 256 KiB buffers for every batch make the garbage collector
 * the largest cost of a producer (each 64 MiB of them start a full collection).
 *
 * Every slab has room before the batch, so that the request around it is written there and the batch is not copied.
 * Small batches get small fresh memory: a slab is only for those that outgrow it, so that many idle partitions do not
 * hold many slabs.
 */
import { requestHeadroomBytes } from "./limits.ts";

/** Memory of one batch: the whole slab; the batch begins at {@link requestHeadroomBytes}. */
export type Slab = Buffer;

/** See the file's comment. */
export class BatchMemory {
  /** Two sizes: batches as they are closed, and those that went on growing while their partition had no room. */
  readonly #classes: readonly { readonly slabBytes: number; readonly free: Slab[] }[];
  readonly #freeBytesMax: number;
  #freeBytes = 0;

  /** Bytes: of a batch as it is closed, of the largest batch, of the producer's buffer (the bound of what is kept). */
  constructor(batchBytes: number, batchBytesMax: number, bufferBytes: number) {
    this.#classes = [batchBytes, batchBytesMax].map((bytes) => ({
      slabBytes: requestHeadroomBytes + bytes,
      free: [],
    }));
    this.#freeBytesMax = bufferBytes;
  }

  /** A slab that holds a batch of at least `bytesMin`. */
  take(bytesMin: number): Slab {
    const slabBytes = requestHeadroomBytes + bytesMin;
    const fitting = this.#classes.find((each) => each.slabBytes >= slabBytes);
    const slab = fitting?.free.pop();
    if (slab === undefined) return Buffer.allocUnsafeSlow(fitting?.slabBytes ?? slabBytes);
    this.#freeBytes -= slab.byteLength;
    return slab;
  }

  /** Gives a slab back. Nobody else may hold it any more. */
  give(slab: Slab): void {
    const own = this.#classes.find((each) => each.slabBytes === slab.byteLength);
    if (own === undefined || this.#freeBytes + slab.byteLength > this.#freeBytesMax) return;
    this.#freeBytes += slab.byteLength;
    own.free.push(slab);
  }
}
