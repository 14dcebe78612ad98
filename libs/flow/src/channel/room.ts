/**
 * The room of one channel: how much of its capacity is in use, and who waits for some, in order of arrival.
 *
 * Nothing is held while waiting: a put that needs room in several channels waits at the first one that is full and
 * looks at all of them again when it is called, so puts cannot block each other in a circle.
 * A transaction larger than the byte capacity is let into an empty channel, so nothing waits for ever.
 */
import { invariant } from "@millrace/base";

/** A put that waits at the head of the line until `records` and `bytes` fit, and is then called, synchronously. */
export interface RoomWaiter {
  readonly records: number;
  readonly bytes: number;
  readonly run: () => void;
}

/** Counts records and bytes in use against a channel's capacity. */
export class Room {
  readonly #recordsMax: number;
  readonly #bytesMax: number;
  readonly #waiters: RoomWaiter[] = [];
  #records = 0;
  #bytes = 0;
  #isWaking = false;

  constructor(recordsMax: number, bytesMax: number) {
    invariant(recordsMax > 0 && bytesMax > 0, "a channel has room");
    this.#recordsMax = recordsMax;
    this.#bytesMax = bytesMax;
  }

  get usedRecords(): number {
    return this.#records;
  }

  get usedBytes(): number {
    return this.#bytes;
  }

  get waiterCount(): number {
    return this.#waiters.length;
  }

  /** True when it fits now and nobody waits before it. */
  admits(records: number, bytes: number): boolean {
    return this.#waiters.length === 0 && this.fits(records, bytes);
  }

  /** True when it fits now, whoever waits: for the one that was called. */
  fits(records: number, bytes: number): boolean {
    if (this.#records + records > this.#recordsMax) return false;
    return this.#bytes === 0 || this.#bytes + bytes <= this.#bytesMax;
  }

  /** Counts records in, whether they fit or not: the caller has asked. */
  add(records: number, bytes: number): void {
    this.#records += records;
    this.#bytes += bytes;
  }

  /** Sets what is in use (recovery, and takers' progress) and calls those who fit now. */
  setUsed(records: number, bytes: number): void {
    invariant(records >= 0 && bytes >= 0, "no more given back than was taken");
    this.#records = records;
    this.#bytes = bytes;
    this.#wake();
  }

  /** Queues; returns the cancellation. */
  wait(waiter: RoomWaiter): () => void {
    this.#waiters.push(waiter);
    return () => {
      const at = this.#waiters.indexOf(waiter);
      if (at < 0) return;
      this.#waiters.splice(at, 1);
      this.#wake();
    };
  }

  #wake(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    try {
      for (
        let next = this.#waiters[0];
        next !== undefined && this.fits(next.records, next.bytes);
        next = this.#waiters[0]
      ) {
        this.#waiters.shift();
        next.run();
      }
    } finally {
      this.#isWaking = false;
    }
  }
}
