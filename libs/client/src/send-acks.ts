/** Where a send's outcome goes: a promise for one record, or for a group of them. */
import type { AppError } from "@millrace/base";
import type { AckedRange, RecordMetadata } from "./producer-api.ts";
import type { AckTarget } from "./producer-batch.ts";

/** One record's promise. */
export class SingleAck implements AckTarget {
  readonly #resolve: (metadata: RecordMetadata) => void;
  readonly #reject: (error: AppError) => void;
  readonly #timestampMs: number;

  constructor(
    resolve: (metadata: RecordMetadata) => void,
    reject: (error: AppError) => void,
    timestampMs: number,
  ) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#timestampMs = timestampMs;
  }

  acked(partition: number, offset: number): void {
    this.#resolve({ partition, offset, timestampMs: this.#timestampMs });
  }

  failed(error: AppError): void {
    this.#reject(error);
  }
}

/** The promise of all records of a `sendMany`. */
export class GroupAck implements AckTarget {
  readonly #resolve: (ranges: AckedRange[]) => void;
  readonly #reject: (error: AppError) => void;
  readonly #ranges: AckedRange[] = [];
  #left: number;
  #failure: AppError | undefined;

  constructor(count: number, resolve: (ranges: AckedRange[]) => void, reject: (error: AppError) => void) {
    this.#left = count;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  acked(partition: number, baseOffset: number, count: number): void {
    this.#ranges.push({ partition, baseOffset, count });
    this.#settle(count);
  }

  failed(error: AppError, count: number): void {
    this.#failure ??= error;
    this.#settle(count);
  }

  #settle(count: number): void {
    this.#left -= count;
    if (this.#left > 0) return;
    if (this.#failure === undefined) this.#resolve(this.#ranges);
    else this.#reject(this.#failure);
  }
}
