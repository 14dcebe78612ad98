/**
 * The batches of one partition that are not acknowledged yet, and which of them may be sent now. Pure.
 *
 * Invariants: batches are sent in the order they were added; from the first unacknowledged to
 * the last sent there are at most `inFlightMax` (answers come in any order, and a leader recognises a producer's last
 * five batches, rule P1: a batch must not leave that window while its answer is out); after a failure
 * nothing is sent until every answer is in or given up, then all that is left goes out again from the first one. So a
 * partition sees a producer's sequences in order, whatever fails (rule P3: a gap is refused, never skipped).
 */
import { type AppError, invariant } from "@millrace/base";

/** One batch on its way. */
export interface WindowBatch {
  /** True once an attempt ended without an answer: the batch may be in the log. */
  mayBeInLog: boolean;
  /** Place in the order of sending; set by the window. */
  order: number;
  /** Number of the attempt in flight; answers of older ones are not heard. 0 = never sent. */
  attempt: number;
  /** Set while an attempt is unanswered. */
  isInFlight: boolean;
  /** Why the last attempt failed; undefined when it did not. */
  error: AppError | undefined;
}

/** See the file's comment. */
export class SendWindow<Batch extends WindowBatch> {
  readonly #inFlightMax: number;
  readonly #unacked: Batch[] = [];
  #next = 0;
  #added = 0;
  #inFlight = 0;
  #isRecovering = false;

  constructor(inFlightMax: number) {
    invariant(inFlightMax > 0, "a window has room for one batch");
    this.#inFlightMax = inFlightMax;
  }

  /** Everything not acknowledged, in order. */
  get unacked(): readonly Batch[] {
    return this.#unacked;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** True from a failure until {@link restart}. */
  get isRecovering(): boolean {
    return this.#isRecovering;
  }

  /** True when a failure happened and no answer is outstanding: decide about the first batch, then `restart`. */
  get isDrained(): boolean {
    return this.#isRecovering && this.#inFlight === 0;
  }

  /** True when a new batch would be sent at once. */
  get hasRoom(): boolean {
    return !this.#isRecovering && this.#next === this.#unacked.length && this.#isWithin(this.#added);
  }

  add(batch: Batch): void {
    batch.order = this.#added++;
    this.#unacked.push(batch);
  }

  /** The next batch to send; the caller calls `sent` for it. */
  peekNext(): Batch | undefined {
    const batch = this.#unacked[this.#next];
    return batch === undefined || this.#isRecovering || !this.#isWithin(batch.order) ? undefined : batch;
  }

  /** Marks the batch of `peekNext` as sent. Returns the attempt's number. */
  sent(batch: Batch): number {
    invariant(batch === this.#unacked[this.#next], "batches are sent in order");
    this.#next++;
    this.#inFlight++;
    batch.isInFlight = true;
    batch.error = undefined;
    return ++batch.attempt;
  }

  /** An answer: the batch is in the log. False when the answer is of an attempt that was given up. */
  acked(batch: Batch, attempt: number): boolean {
    if (!this.#settleAttempt(batch, attempt)) return false;
    this.remove(batch);
    return true;
  }

  /** A failed attempt. `mayBeInLog`: nothing was heard of it, or the answer said that the outcome is unknown. */
  failed(batch: Batch, attempt: number, error: AppError, mayBeInLog: boolean): void {
    if (!this.#settleAttempt(batch, attempt)) return;
    batch.error = error;
    if (mayBeInLog) batch.mayBeInLog = true;
    this.#isRecovering = true;
  }

  /** Stops listening for the answers outstanding: their batches may be in the log. */
  giveUpInFlight(error: AppError): void {
    for (const batch of this.#unacked) {
      if (batch.isInFlight) this.failed(batch, batch.attempt, error, true);
    }
    this.#isRecovering = true;
  }

  /** Takes a batch out without an answer: its sender was told. */
  remove(batch: Batch): void {
    const index = this.#unacked.indexOf(batch);
    if (index < 0) return;
    if (batch.isInFlight) {
      batch.isInFlight = false;
      batch.attempt++;
      this.#inFlight--;
    }
    this.#unacked.splice(index, 1);
    if (index < this.#next) this.#next--;
  }

  /** Puts others in the place of the first batch. Only while nothing is in flight. */
  replaceFirst(batches: readonly Batch[]): void {
    invariant(this.#inFlight === 0, "nothing is in flight when a batch is replaced");
    this.#unacked.splice(0, 1, ...batches);
  }

  /** Goes on from the first batch. */
  restart(): void {
    invariant(this.#inFlight === 0, "nothing is in flight at a restart");
    for (const batch of this.#unacked) batch.order = this.#added++;
    this.#isRecovering = false;
    this.#next = 0;
  }

  #isWithin(order: number): boolean {
    const first = this.#unacked[0];
    return first === undefined || order - first.order < this.#inFlightMax;
  }

  #settleAttempt(batch: Batch, attempt: number): boolean {
    if (!batch.isInFlight || batch.attempt !== attempt) return false;
    batch.isInFlight = false;
    this.#inFlight--;
    return true;
  }
}
