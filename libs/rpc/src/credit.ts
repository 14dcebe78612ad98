/**
 * Credit of a data stream, the server's side: bytes of requests in flight, in whole and per partition (design §3).
 *
 * Quarter rule: no partition holds more than a quarter of the credit, but one request in flight is always allowed; so a
 * stuck partition never stops the others. It needs credit >= 4 x the largest request.
 */
import { invariant } from "@millrace/base";

/** Answer to a request: taken; refused retriably because its partition holds its quarter; more than was ever granted. */
export type CreditVerdict = "ok" | "partitionFull" | "exceeded";

/** Bytes in flight on one stream. */
export class CreditWindow {
  readonly creditBytes: number;
  readonly #partitionBytesMax: number;
  readonly #byPartition = new Map<string, number>();
  #usedBytes = 0;

  constructor(options: { readonly creditBytes: number; readonly requestBytesMax: number }) {
    const { creditBytes, requestBytesMax } = options;
    invariant(requestBytesMax > 0, "the largest request has a size");
    invariant(creditBytes >= 4 * requestBytesMax, "credit is at least four times the largest request");
    this.creditBytes = creditBytes;
    this.#partitionBytesMax = Math.floor(creditBytes / 4);
  }

  /** Bytes in flight. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Takes the bytes of a request, or says why not; what is not "ok" holds nothing. */
  tryTake(partition: string, bytes: number): CreditVerdict {
    if (this.#usedBytes + bytes > this.creditBytes) return "exceeded";
    const held = this.#byPartition.get(partition) ?? 0;
    if (held > 0 && held + bytes > this.#partitionBytesMax) return "partitionFull";
    this.#byPartition.set(partition, held + bytes);
    this.#usedBytes += bytes;
    return "ok";
  }

  /** Gives back the bytes of an answered request. */
  give(partition: string, bytes: number): void {
    const held = (this.#byPartition.get(partition) ?? 0) - bytes;
    invariant(held >= 0, `no more credit of ${partition} is given back than was taken`);
    // Entries of idle partitions go: their number is bounded by what is in flight.
    if (held === 0) this.#byPartition.delete(partition);
    else this.#byPartition.set(partition, held);
    this.#usedBytes -= bytes;
  }
}
