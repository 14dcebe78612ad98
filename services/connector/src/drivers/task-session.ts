/**
 * One opening of a task's sink: from where it stands, batch after batch, until it is told to finish or something fails.
 *
 *   consumer --batch--> write (back-pressure) --> delivered --> status
 *            --poison-> dead letter, then an empty batch over its offsets
 *
 * Invariants: offsets handed to the sink are contiguous; a batch that does not decode never stops the task (design §3);
 * nothing is written after `abort`.
 */
import { AppError, invariant } from "@millrace/base";
import type { Client, Consumer, ConsumerBatch, PoisonBatch } from "@millrace/client";
import type { Sink, SinkFeedback, SinkRecord } from "@millrace/flow";
import * as events from "../events.ts";
import { closingFlushMs, idleFlushMs, taskCreditBytes, taskFetchBytesMax } from "../limits.ts";
import { abortable } from "./abortable.ts";
import type { TaskContext } from "./task-context.ts";
import type { TaskPlan } from "./task-plan.ts";

/** Where a session begins. */
export interface StartPosition {
  /** Next offset of the destination. */
  readonly standsAt: number;
  /** Where to read from; above `standsAt` when retention has removed what is between. */
  readonly offset: number;
  /** Leader epoch of the record before it (L4); -1 = not known. */
  readonly leaderEpoch: number;
}

/** What a session is made of. */
export interface SessionParts {
  readonly plan: TaskPlan;
  readonly context: TaskContext;
  readonly sink: Sink;
  /** True: the sink publishes by its own policy; it is flushed only at the end. */
  readonly hasStanding: boolean;
  readonly onDelivered: (through: number) => void;
}

/** See the file's comment. */
export class TaskSession implements SinkFeedback {
  readonly #parts: SessionParts;
  readonly #abort = new AbortController();
  readonly #resolvedListeners = new Set<(through: number) => void>();
  /** Batches handed over and not delivered, for counting: records in them, and the offset after each. */
  readonly #pending: { readonly to: number; readonly count: number }[] = [];
  #flushes: PromiseWithResolvers<void>[] = [];
  #wake: () => void = () => undefined;
  #consumer: Consumer | undefined;
  #position = 0;
  #delivered = 0;
  #deliveredCount = 0;
  #isFinishing = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  /** Aborted when the session must not write any more. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Everything below is delivered. */
  get deliveredThrough(): number {
    return this.#delivered;
  }

  /** Records delivered in this session. */
  get deliveredCount(): number {
    return this.#deliveredCount;
  }

  /** End of the partition as last heard of; -1 before the first answer. */
  get highWatermark(): number {
    const { topicId, partition } = this.#parts.plan;
    return this.#consumer?.highWatermark(topicId, partition) ?? -1;
  }

  /** Reads and writes from `start` on. Returns after {@link finish}; throws what failed, or after {@link abort} its reason. */
  async run(client: Client, start: StartPosition): Promise<void> {
    const { topicId, partition } = this.#parts.plan;
    this.#position = start.standsAt;
    this.#delivered = start.standsAt;
    const consumer = client.consumer({ creditBytes: taskCreditBytes, fetchBytesMax: taskFetchBytesMax });
    this.#consumer = consumer;
    try {
      if (start.standsAt < start.offset) await this.#passOver(start.offset);
      const from = { topicId, partition, leaderEpoch: start.leaderEpoch, offset: start.offset };
      await this.#during(consumer.assign([{ topicId, partition, from }]));
      await this.#readOn(consumer);
    } finally {
      for (const flush of this.#flushes) flush.resolve();
      consumer.close();
    }
  }

  /** Publishes what the sink holds and returns from `run`; gives up after a time. */
  finish(): void {
    this.#isFinishing = true;
    this.#wake();
  }

  /** Stops at once: the task is another instance's. */
  abort(reason: AppError): void {
    this.#abort.abort(reason);
    this.#wake();
  }

  /** Publishes what the sink holds now. Resolves when it did, or when the session is over. */
  flush(): Promise<void> {
    const flush: PromiseWithResolvers<void> = Promise.withResolvers();
    this.#flushes.push(flush);
    this.#wake();
    return flush.promise;
  }

  // What the sink tells (SinkFeedback).

  delivered(through: number): void {
    invariant(through >= this.#delivered, "what is delivered stays delivered");
    this.#delivered = through;
    for (let first = this.#pending[0]; first !== undefined && first.to <= through; first = this.#pending[0]) {
      this.#deliveredCount += first.count;
      this.#pending.shift();
    }
    this.#parts.onDelivered(through);
    for (const run of this.#resolvedListeners) run(through);
  }

  async refuse(record: SinkRecord, reason: string): Promise<void> {
    await this.#setAside(record, reason, record.offset, record.offset + 1);
  }

  fail(error: unknown): void {
    this.abort(AppError.from(error));
  }

  get resolvedThrough(): number {
    return this.#delivered;
  }

  onResolved(run: (through: number) => void): () => void {
    this.#resolvedListeners.add(run);
    return () => this.#resolvedListeners.delete(run);
  }

  get nextOffset(): number {
    return Math.max(this.highWatermark, this.#position);
  }

  note(key: string): Uint8Array | undefined {
    return this.#parts.context.directory.getState(`${this.#notePrefix}${key}`);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    const { directory } = this.#parts.context;
    const keys = directory.stateKeys(`${this.#notePrefix}${prefix}`);
    const found = keys.map((key) => [key.slice(this.#notePrefix.length), directory.getState(key)] as const);
    return new Map(found.filter((pair): pair is [string, Uint8Array] => pair[1] !== undefined));
  }

  setNotes(notes: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void> {
    const changes = notes.map(({ key, value }) => ({ key: `${this.#notePrefix}${key}`, value }));
    return this.#parts.context.directory.commit([], changes).durable;
  }

  /** Notes stay with this directory; a task that moves leaves them (sinks with standing do not need them). */
  get #notePrefix(): string {
    const { connectorId, topicId, partition } = this.#parts.plan;
    return `connector-notes/${connectorId}/${topicId}-${partition}/`;
  }

  /** Retention was faster than delivery: an alarm and a counted loss (S2; never in `up`), and on from there. */
  async #passOver(to: number): Promise<void> {
    const { sink, plan, context } = this.#parts;
    const from = this.#position;
    await this.#during(sink.write({ from, to, records: [], leaderEpoch: -1 }, this.#abort.signal));
    await this.#flushSink();
    this.#position = to;
    const { connector, topic, partition, taskEpoch } = plan;
    const fields = { fromOffset: from, toOffset: to, records: to - from };
    context.telemetry.emit(events.taskOvertaken, { connector, topic, partition, taskEpoch, ...fields });
    context.telemetry.discarded("connector", "retention", to - from);
  }

  #mustFinish(): boolean {
    return this.#isFinishing;
  }

  async #readOn(consumer: Consumer): Promise<void> {
    let holds = false;
    while (!this.#mustFinish()) {
      const batch = await this.#next(consumer, holds && !this.#parts.hasStanding);
      this.#abort.signal.throwIfAborted();
      if (batch !== undefined) {
        await this.#write(batch);
        holds = true;
      } else if (!this.#mustFinish()) {
        await this.#flushSink();
        holds = false;
      }
    }
    await this.#flushSink(closingFlushMs);
  }

  /** The next batch; undefined when something else is to be done: a flush that was asked for, or nothing came for a while. */
  async #next(consumer: Consumer, flushesIdle: boolean): Promise<ConsumerBatch | undefined> {
    if (this.#flushes.length > 0) return undefined;
    const waiting = new AbortController();
    this.#wake = () => waiting.abort();
    const { clock } = this.#parts.context;
    const timer = flushesIdle ? clock.after(idleFlushMs, () => waiting.abort()) : undefined;
    try {
      const batch = await consumer.next(waiting.signal);
      if (batch === undefined && !waiting.signal.aborted)
        throw new AppError("CANCELLED", "the client of the connector service was closed");
      return batch;
    } catch (thrown) {
      // The reading is over (topic deleted, log truncated); what was read before is good and is published.
      await this.#flushSink(closingFlushMs).catch(() => undefined);
      throw thrown;
    } finally {
      this.#wake = () => undefined;
      timer?.cancel();
    }
  }

  async #write(batch: ConsumerBatch): Promise<void> {
    const { poison, records, nextOffset, leaderEpoch } = batch;
    const { sink, plan, context } = this.#parts;
    const from = this.#position;
    if (poison !== undefined) await this.#setAsideBatch(poison, from, nextOffset);
    const setAsideCount = poison === undefined ? 0 : nextOffset - from;
    this.#pending.push({ to: nextOffset, count: records.length });
    this.#position = nextOffset;
    await this.#during(
      sink.write({ from, to: nextOffset, records, leaderEpoch, setAsideCount }, this.#abort.signal),
    );
    context.telemetry.metrics.counter(events.recordsRead).inc({ connector: plan.connector }, records.length);
  }

  async #flushSink(limitMs?: number): Promise<void> {
    const asked = this.#flushes;
    this.#flushes = [];
    const timer =
      limitMs === undefined
        ? undefined
        : this.#parts.context.clock.after(limitMs, () =>
            this.abort(new AppError("TIMED_OUT", `the sink did not publish within ${limitMs} ms`)),
          );
    try {
      await this.#during(this.#parts.sink.flush(this.#abort.signal));
    } finally {
      timer?.cancel();
      for (const flush of asked) flush.resolve();
    }
  }

  #during<T>(work: Promise<T>): Promise<T> {
    return abortable(work, this.#abort.signal);
  }

  /** A batch that does not decode: its bytes are kept, with the offsets it stood for. */
  #setAsideBatch(poison: PoisonBatch, from: number, to: number): Promise<void> {
    const record = { key: null, value: poison.bytes, headers: [], timestampMs: -1, offset: from };
    return this.#setAside(record, poison.error.reason, from, to);
  }

  async #setAside(record: SinkRecord, reason: string, fromOffset: number, toOffset: number): Promise<void> {
    const { connector, topicId, topic, partition, taskEpoch } = this.#parts.plan;
    const { telemetry, deadLetters } = this.#parts.context;
    const letters = deadLetters(connector);
    const coordinates = { topic, topicId, partition, offset: fromOffset, nextOffset: toOffset };
    await letters.add({ record, reason, coordinates });
    telemetry.discarded("connector", reason, toOffset - fromOffset);
    const where = { connector, topic, partition, taskEpoch };
    telemetry.emit(events.recordsSetAside, { ...where, reason, fromOffset, toOffset, file: letters.path });
  }
}
