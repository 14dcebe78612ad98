/**
 * Runs one sink on one channel: open, stand, take and write, flush when idle, open again after failures.
 *
 *   open(assignment) -> standing: forth = commit through; back = what is kept is taken again, the rest counted as lost
 *   take -> write (back-pressure) -> ... -> delivered -> commit
 *   nothing takable for a while, or the window of unsettled takes full -> flush
 *
 * Limits: records and bytes per take; records and bytes unsettled (the window). A failure closes the sink, gives
 * everything unsettled back to the channel in order, and opens a new sink after a growing pause, for ever: a record
 * that can never be delivered is the sink's to refuse.
 */
import { AppError } from "@millrace/base";
import { Backoff, type Clock } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import type { Channel, Take } from "../channel/types.ts";
import type { Assignment, Origin, Sink, SinkRecord, Standing } from "../contract.ts";
import type { ComponentState, SinkStatus } from "./component-state.ts";
import type { DeadLetters } from "./dead-letters.ts";
import { DelayWindow } from "./delay-window.ts";
import { componentFailed, recordSetAside, sinkRewound } from "./events.ts";
import type { SinkBooks } from "./sink-books.ts";
import { SinkSession } from "./sink-session.ts";

/** Bounds of what a sink is given. */
export interface SinkLimits {
  /** Records per take. */
  readonly batchRecords: number;
  /** Bytes per take, about. */
  readonly batchBytes: number;
  /** Records taken and not settled. */
  readonly windowRecords: number;
  /** Bytes of those. */
  readonly windowBytes: number;
  /** Without new records for this long a sink that holds some is flushed, milliseconds. */
  readonly flushIdleMs: number;
}

/** What a sink runner is made of. */
export interface SinkRunnerOptions {
  readonly name: string;
  readonly type: string;
  /** Makes a sink; a new one at each opening. */
  readonly create: () => Sink;
  readonly channel: Channel;
  readonly origin: Extract<Origin, { kind: "channel" }>;
  readonly epoch: number;
  readonly starts: readonly string[];
  readonly generation: number;
  readonly isShared: boolean;
  readonly books: SinkBooks;
  readonly deadLetters: DeadLetters;
  readonly limits: SinkLimits;
  /** Waited for before the sink is opened. */
  readonly whenAllowed: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/** First and longest pause after a failure, milliseconds. */
const failureBackoff = { firstMs: 200, capMs: 5_000 };

/** Runner of one sink. */
export class SinkRunner {
  readonly #options: SinkRunnerOptions;
  readonly #stop = new AbortController();
  readonly #backoff = new Backoff(failureBackoff);
  /** Ends the loop's present wait for records. */
  #nudge = (): void => {};
  #loop: Promise<void> | undefined;
  #session: SinkSession | undefined;
  #sink: Sink | undefined;
  #state: ComponentState = "starting";
  #error: string | undefined;
  #settledCount = 0;
  #refusedCount = 0;
  #publishedCount: number | undefined;
  #details: SinkStatus["details"] = {};
  readonly #delays = new DelayWindow();
  #isDraining = false;
  #isStopping = false;

  /** Called after each settlement and failure. */
  onProgress = (): void => {};

  constructor(options: SinkRunnerOptions) {
    this.#options = options;
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  get name(): string {
    return this.#options.name;
  }

  get channel(): Channel {
    return this.#options.channel;
  }

  get status(): SinkStatus {
    const { name, type } = this.#options;
    return {
      name,
      type,
      state: this.#state,
      error: this.#error,
      deliveredCount: Math.max(0, this.#settledCount - this.#refusedCount),
      refusedCount: this.#refusedCount,
      publishedCount: this.#sink?.publishedCount?.() ?? this.#publishedCount,
      setAsideCount: this.#options.books.refusedCount,
      delayMsP99: this.#delays.p99Ms(this.#options.clock.monotonicMs()),
      details: this.#sink?.details?.() ?? this.#details,
    };
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** From now on what the sink holds is flushed as soon as nothing more is takable. */
  drain(): void {
    this.#isDraining = true;
    this.#nudge();
  }

  /** Takes nothing more; gives the sink `graceMs` to deliver what it holds; closes it. */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.#nudge();
    const end = (): void => {
      this.#stop.abort();
      this.#session?.end();
    };
    // not open: it holds nothing
    if (this.#sink === undefined) end();
    const timer = this.#options.clock.after(graceMs, end);
    await this.#loop;
    timer.cancel();
    this.#stop.abort();
    await this.#options.deadLetters.close();
    this.#state = "ended";
  }

  async #run(): Promise<void> {
    const { name, clock, telemetry } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted && !this.#isStopping) {
      try {
        await this.#openAndWrite();
      } catch (thrown) {
        if (this.#isStopped) return;
        const error = AppError.from(thrown);
        const retryMs = this.#backoff.nextMs();
        this.#state = "failed";
        this.#error = error.message;
        telemetry.emit(componentFailed, { component: name, error, retryMs });
        await clock.sleep(retryMs, signal);
      }
    }
  }

  async #openAndWrite(): Promise<void> {
    const { name, channel, books, isShared } = this.#options;
    const { signal } = this.#stop;
    this.#state = "starting";
    await this.#options.whenAllowed?.(signal);
    if (signal.aborted) return;
    const sink = this.#options.create();
    const session = new SinkSession(
      {
        sink: name,
        channel,
        books,
        isShared,
        setAside: (record, reason) => this.#setAside(record, reason),
        onSettled: (records) => this.#settled(records),
        onDelay: (sinceMs, records) => this.#delayed(sinceMs, records),
      },
      signal,
    );
    this.#session = session;
    try {
      const standing = await session.during(sink.open(this.#assignment(), session, session.signal));
      if (!isShared) this.#stand(standing);
      session.standAt(channel.position);
      this.#sink = sink;
      this.#state = "running";
      await this.#writeOn(sink, session);
    } finally {
      session.end();
      this.#publishedCount = this.#sink?.publishedCount?.() ?? this.#publishedCount;
      this.#details = this.#sink?.details?.() ?? this.#details;
      this.#session = undefined;
      this.#sink = undefined;
      await sink.close().catch((error: unknown) => {
        this.#options.telemetry.log.warn(
          { sink: name, error: AppError.from(error) },
          "A sink failed to close.",
        );
      });
    }
  }

  #assignment(): Assignment {
    const { name, channel, origin, epoch, starts, generation, isShared } = this.#options;
    return {
      origin,
      epoch,
      starts,
      deliveredThrough: channel.position,
      checkpoint: isShared ? undefined : channel.checkpoint(name),
      generation,
      isVolatile: channel.durability === "volatile",
    };
  }

  /** Brings the take position to where the sink stands. */
  #stand({ resumeFrom }: Standing): void {
    const { name, channel, telemetry } = this.#options;
    const { position } = channel;
    if (resumeFrom === undefined || resumeFrom === position) return;
    if (resumeFrom > channel.endSequence) {
      throw new AppError(
        "LINEAGE_REFUSED",
        `sink ${name} has records through ${resumeFrom} of channel ${channel.name}, which ends at ${channel.endSequence}: the agent's data directory is older than its destination; restore the newer one, or start with an empty data directory`,
      );
    }
    if (resumeFrom > position) {
      channel.moveTo(resumeFrom);
      return;
    }
    const from = Math.min(position, Math.max(resumeFrom, channel.startSequence));
    const lostCount = from - resumeFrom;
    telemetry.emit(sinkRewound, { sink: name, standsAt: resumeFrom, deliveredThrough: position, lostCount });
    if (lostCount > 0) telemetry.discarded(name, "not_kept_any_more", lostCount);
    if (from < position) channel.moveTo(from);
  }

  /** Returns when stopping, or to open the sink again. */
  async #writeOn(sink: Sink, session: SinkSession): Promise<void> {
    const { channel, limits, isShared } = this.#options;
    let holds = false;
    while (!this.#isStopping) {
      if (this.#isWindowFull(session)) {
        await this.#settleSome(sink, session);
        continue;
      }
      const take = await channel.take(limits.batchRecords, limits.batchBytes);
      if (take === undefined) {
        const isLate = await this.#waitTakable(
          session,
          holds ? limits.flushIdleMs : Number.POSITIVE_INFINITY,
        );
        if (!isLate || !holds) continue;
        await session.during(sink.flush(session.signal));
        holds = false;
        continue;
      }
      if (session.isOver || (isShared && take.from < session.takenThrough)) {
        // another sink of the channel gave it back (A6): offsets go up within one opening, so this needs a new one
        channel.rollback(take.from, take.to);
        break;
      }
      // what was lost on disk before the take is a gap of the batch
      const from = isShared ? take.from : session.takenThrough;
      session.taken(take);
      const records = this.#notRefused(take);
      await session.during(sink.write({ from, to: take.to, records, leaderEpoch: -1 }, session.signal));
      holds = true;
    }
    if (holds) await session.during(sink.flush(session.signal));
    while (session.unsettledRecords > 0 && !session.isOver) await session.whenProgress(session.signal);
  }

  #isWindowFull(session: SinkSession): boolean {
    const { windowRecords, windowBytes } = this.#options.limits;
    return session.unsettledRecords >= windowRecords || session.unsettledBytes >= windowBytes;
  }

  /** The window is full: the sink delivers what it holds; without effect, this waits for its destination. */
  async #settleSome(sink: Sink, session: SinkSession): Promise<void> {
    await session.during(sink.flush(session.signal));
    if (!this.#isWindowFull(session)) return;
    this.#state = "blocked";
    while (this.#isWindowFull(session) && !session.isOver) {
      await session.during(session.whenProgress(session.signal));
    }
    this.#state = "running";
  }

  /** Waits for something to take. True when it came to nothing: after `limitMs`, or because of a drain or stop. */
  async #waitTakable(session: SinkSession, limitMs: number): Promise<boolean> {
    const waiting = new AbortController();
    const end = (): void => waiting.abort();
    const timer = Number.isFinite(limitMs) ? this.#options.clock.after(limitMs, end) : undefined;
    session.signal.addEventListener("abort", end, { once: true });
    this.#nudge = end;
    if (this.#isStopping || (this.#isDraining && Number.isFinite(limitMs))) end();
    try {
      await session.during(this.#options.channel.whenTakable(waiting.signal));
      return waiting.signal.aborted;
    } finally {
      timer?.cancel();
      session.signal.removeEventListener("abort", end);
      this.#nudge = () => {};
    }
  }

  #notRefused(take: Take): readonly SinkRecord[] {
    const { books } = this.#options;
    return books.hasRefused ? take.records.filter((record) => !books.isRefused(record.offset)) : take.records;
  }

  /** Measured from the record's timestamp: for a source that stamps what it reads, the way through the channel. */
  #delayed(sinceMs: number, records: number): void {
    const { clock } = this.#options;
    this.#delays.add(Math.max(0, clock.nowMs() - sinceMs), records, clock.monotonicMs());
  }

  #settled(records: number): void {
    this.#settledCount += records;
    this.#backoff.reset();
    this.#error = undefined;
    this.onProgress();
  }

  async #setAside(record: SinkRecord, reason: string): Promise<void> {
    const { name, channel, origin, books, deadLetters, telemetry } = this.#options;
    if (books.isRefused(record.offset)) return;
    const { agentId, agentName, channelId, channelName } = origin;
    const coordinates = { agentId, agentName, channelId, channelName, sequence: record.offset };
    const changes = () => books.refuse(record.offset, channel.position);
    await deadLetters.add({ record, reason, coordinates, changes });
    this.#refusedCount++;
    telemetry.discarded(name, "refused", 1);
    telemetry.emit(recordSetAside, { component: name, reason, file: deadLetters.path });
  }
}
