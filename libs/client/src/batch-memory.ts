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
  readonly #slabBytes: number;
  readonly #freeMax: number;
  readonly #free: Slab[] = [];

  /** `batchBytes`: size at which batches are closed; `bufferBytes`: the producer's buffer, the bound of what is kept. */
  constructor(batchBytes: number, bufferBytes: number) {
    this.#slabBytes = requestHeadroomBytes + batchBytes;
    this.#freeMax = Math.ceil(bufferBytes / batchBytes);
  }

  /** A slab that holds a batch of at least `bytesMin`. */
  take(bytesMin: number): Slab {
    if (requestHeadroomBytes + bytesMin > this.#slabBytes)
      return Buffer.allocUnsafeSlow(requestHeadroomBytes + bytesMin);
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#slabBytes);
  }

  /** Gives a slab back. Nobody else may hold it any more. */
  give(slab: Slab): void {
    if (slab.byteLength === this.#slabBytes && this.#free.length < this.#freeMax) this.#free.push(slab);
  }
}
