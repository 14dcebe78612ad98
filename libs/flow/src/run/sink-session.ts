/**
 * One opening of a sink: what was taken for it and is not settled yet, and its feedback.
 *
 *   take -> write -> (unsettled) -> delivered(through) -> channel.commit
 *                                -> end of the session  -> channel.rollback
 *
 * Only ranges are kept, not records: a sink may hold millions of records unsettled. Feedback after the end of the
 * session is ignored: what it would settle is taken again.
 */
import { AppError, invariant } from "@millrace/base";
import type { Channel, Take } from "../channel/types.ts";
import { WakeList } from "../channel/wake-list.ts";
import type { SinkFeedback, SinkRecord } from "../contract.ts";
import type { SinkBooks } from "./sink-books.ts";

interface Unsettled {
  from: number;
  readonly to: number;
  sizeBytes: number;
  /** Timestamp of the first record: the oldest, where the source stamps what it reads. */
  readonly sinceMs: number | undefined;
}

/** What a session is made of. */
export interface SinkSessionOptions {
  readonly sink: string;
  readonly channel: Channel;
  readonly books: SinkBooks;
  /** Several sinks take from the channel in turn (A6): no checkpoints. */
  readonly isShared: boolean;
  /** Sets the record aside durably, with the refusal in the same step. */
  readonly setAside: (record: SinkRecord, reason: string) => Promise<void>;
  /** Records settled, by delivery or refusal. */
  readonly onSettled: (records: number) => void;
  /** The same with the timestamp of the oldest of them, epoch milliseconds. */
  readonly onDelay: (sinceMs: number, records: number) => void;
}

/** Feedback and books of one opening. */
export class SinkSession implements SinkFeedback {
  readonly #options: SinkSessionOptions;
  readonly #unsettled: Unsettled[] = [];
  readonly #progress = new WakeList();
  /** Those who wait for the sink's work; a set, because a promise raced for days keeps every racer. */
  readonly #rejections = new Set<(error: AppError) => void>();
  readonly #abort = new AbortController();
  readonly #cancellations: (() => void)[] = [];
  readonly #stop: AbortSignal;
  #through: number;
  #takenThrough: number;
  #unsettledRecords = 0;
  #unsettledBytes = 0;
  #failure: AppError | undefined;
  #isOver = false;

  constructor(options: SinkSessionOptions, stop: AbortSignal) {
    this.#options = options;
    this.#stop = stop;
    this.#through = options.channel.position;
    this.#takenThrough = this.#through;
  }

  /** Aborted when the session ends. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get unsettledRecords(): number {
    return this.#unsettledRecords;
  }

  get unsettledBytes(): number {
    return this.#unsettledBytes;
  }

  get resolvedThrough(): number {
    return this.#options.channel.resolvedThrough;
  }

  get nextOffset(): number {
    return this.#options.channel.endSequence;
  }

  /** The sink stands here now: after opening, before the first take. */
  standAt(position: number): void {
    this.#through = position;
    this.#takenThrough = position;
  }

  /** Books a take handed to the sink. */
  taken({ from, to, sizeBytes, records }: Take): void {
    this.#unsettled.push({ from, to, sizeBytes, sinceMs: records[0]?.timestampMs });
    this.#unsettledRecords += to - from;
    this.#unsettledBytes += sizeBytes;
    this.#takenThrough = Math.max(this.#takenThrough, to);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Sequence after the last one taken. */
  get takenThrough(): number {
    return this.#takenThrough;
  }

  /** `work`, or the sink's failure, or the end, whichever is first. */
  during<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        work.catch(() => undefined);
        reject(this.#failure);
        return;
      }
      const settle = (run: () => void): void => {
        this.#rejections.delete(reject);
        run();
      };
      this.#rejections.add(reject);
      work.then(
        (value) => settle(() => resolve(value)),
        (error: unknown) => settle(() => reject(AppError.from(error))),
      );
    });
  }

  /** Resolves at the next settlement, or when `signal` aborts. */
  whenProgress(signal: AbortSignal): Promise<void> {
    return this.#progress.wait(signal);
  }

  /** Ends the session: what is unsettled goes back to the channel, in order. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#abort.abort();
    for (const cancel of this.#cancellations) cancel();
    for (const { from, to } of this.#unsettled.splice(0)) this.#options.channel.rollback(from, to);
    this.fail(new AppError("CANCELLED", `sink ${this.#options.sink} was closed`));
  }

  delivered(through: number, checkpoint?: Uint8Array): void {
    if (this.#isOver) return;
    const { sink, channel, isShared, onSettled } = this.#options;
    if (through < this.#through || through > this.#takenThrough) {
      this.fail(
        new AppError(
          "INTERNAL",
          `sink ${sink} says it delivered through ${through}; it has to be from ${this.#through} to ${this.#takenThrough}`,
        ),
      );
      return;
    }
    this.#through = through;
    const kept = checkpoint === undefined || isShared ? undefined : { sink, bytes: checkpoint };
    let settled = 0;
    for (
      let first = this.#unsettled[0];
      first !== undefined && first.from < through;
      first = this.#unsettled[0]
    ) {
      const to = Math.min(first.to, through);
      const share = Math.floor((first.sizeBytes * (to - first.from)) / (first.to - first.from));
      channel.commit(first.from, to, kept);
      settled += to - first.from;
      if (first.sinceMs !== undefined) this.#options.onDelay(first.sinceMs, to - first.from);
      this.#unsettledBytes -= share;
      first.sizeBytes -= share;
      first.from = to;
      if (to === first.to) this.#unsettled.shift();
    }
    // a checkpoint without progress is news too
    if (settled === 0 && kept !== undefined) channel.commit(through, through, kept);
    this.#unsettledRecords -= settled;
    invariant(this.#unsettledRecords >= 0 && this.#unsettledBytes >= 0, "no more settled than taken");
    if (settled > 0) onSettled(settled);
    this.#progress.wake();
  }

  async refuse(record: SinkRecord, reason: string): Promise<void> {
    if (this.#isOver) throw new AppError("CANCELLED", `sink ${this.#options.sink} was closed`);
    await this.#options.setAside(record, reason);
  }

  fail(error: unknown): void {
    this.#failure ??= AppError.from(error);
    for (const reject of [...this.#rejections]) reject(this.#failure);
    this.#progress.wake();
  }

  onResolved(run: (through: number) => void): () => void {
    const cancel = this.#options.channel.onResolved(run);
    this.#cancellations.push(cancel);
    return cancel;
  }

  note(key: string): Uint8Array | undefined {
    return this.#options.books.note(key);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    return this.#options.books.notes(prefix);
  }

  setNotes(notes: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void> {
    // a zombie of an older session must not overwrite what its successor noted
    if (this.#isOver || this.#stop.aborted) {
      return Promise.reject(new AppError("CANCELLED", `sink ${this.#options.sink} was closed`));
    }
    return this.#options.books.setNotes(notes);
  }
}
