/**
 * A bounded number of bytes (and items) in use, with waiting in order: the back-pressure of every buffer.
 * One item larger than the whole budget is let through when nothing else is in use, so nothing waits for ever.
 */
import { AppError, invariant } from "@millrace/base";

interface Waiter {
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: AppError) => void;
}

/** Counts bytes in use against a limit. */
export class ByteBudget {
  readonly limitBytes: number;
  #usedBytes = 0;
  readonly #waiters: Waiter[] = [];

  constructor(limitBytes: number) {
    invariant(limitBytes > 0, "a byte budget has room");
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get isFull(): boolean {
    return this.#usedBytes >= this.limitBytes;
  }

  /** Takes the bytes now if there is room and nobody waits before; false otherwise. */
  tryAcquire(bytes: number): boolean {
    if (this.#waiters.length > 0 || !this.#fits(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Takes the bytes, waiting for room in order of arrival. Rejects CANCELLED when `signal` aborts first. */
  acquire(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.tryAcquire(bytes)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        reject(new AppError("CANCELLED", "stopped while waiting for buffer space"));
        this.#wake();
      };
      const waiter: Waiter = {
        bytes,
        resolve: () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        },
        reject,
      };
      if (signal?.aborted) {
        reject(new AppError("CANCELLED", "stopped while waiting for buffer space"));
        return;
      }
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  /** Gives bytes back and lets waiters in. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
    invariant(this.#usedBytes >= 0, "no more bytes released than acquired");
    this.#wake();
  }

  #fits(bytes: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + bytes <= this.limitBytes;
  }

  #wake(): void {
    for (let next = this.#waiters[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiters[0]) {
      this.#waiters.shift();
      this.#usedBytes += next.bytes;
      next.resolve();
    }
  }
}
