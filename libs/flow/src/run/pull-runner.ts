/**
 * Runs a pull source: read, intercept, put, again.
 *
 *   open(saved positions) -> read -> one put transaction {records, positions} -> read -> ...
 *
 * A full channel holds the loop at the put: nothing more is read (back-pressure). After any failure the source is
 * closed and, after a pause, opened again at the positions of the last put, so what was read and not put is read again.
 * A record that can never be put (too large, or an interceptor fails at it) is set aside before its neighbours go on.
 */
import { AppError } from "@millrace/base";
import { Backoff, type Clock } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { recordSizeBytes } from "../channel/record-codec.ts";
import { WakeList } from "../channel/wake-list.ts";
import type { FlowRecord, PullSource, ReadResult } from "../contract.ts";
import type { PutPath } from "../put/put-path.ts";
import type { ComponentState, SourceStatus } from "./component-state.ts";
import type { DeadLetters } from "./dead-letters.ts";
import { componentFailed } from "./events.ts";
import type { InterceptorChain } from "./interceptor-chain.ts";
import { Pause } from "./pause.ts";

/** What a pull runner is made of. */
export interface PullRunnerOptions {
  readonly name: string;
  readonly type: string;
  readonly source: PullSource;
  readonly path: PutPath;
  readonly chain: InterceptorChain;
  readonly deadLetters: DeadLetters;
  /** Records per read, and so per transaction. */
  readonly batchSize: number;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/**
 * Pause after an idle read: grows by the first per idle read, up to the second, milliseconds. The time that the read
 * itself waited counts. Flume's backoffSleepIncrement and maxBackoffSleep are 1,000 and 5,000.
 */
const idlePause = { incrementMs: 10, maxMs: 250 };
/** First and longest pause after a failure, milliseconds. */
const failureBackoff = { firstMs: 200, capMs: 5_000 };
/** Pause when a put was refused for a reason that passes (a full disk), milliseconds. */
const refusedPutMs = 500;

/** Runner of one pull source. */
export class PullRunner {
  readonly #options: PullRunnerOptions;
  readonly #stop = new AbortController();
  readonly #pause = new Pause();
  readonly #wake = new WakeList();
  #loop: Promise<void> | undefined;
  #state: ComponentState = "starting";
  #error: string | undefined;
  #isIdle = false;
  #isFinishing = false;

  constructor(options: PullRunnerOptions) {
    this.#options = options;
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  get name(): string {
    return this.#options.name;
  }

  get status(): SourceStatus {
    const { name, type, source, path } = this.#options;
    return {
      name,
      type,
      state: this.#state,
      error: this.#error,
      recordCount: path.putCount,
      counts: path.books.counts,
      streamCount: source.streamCount?.() ?? 0,
      isIdle: this.#isIdle,
      skipped: source.skipped?.() ?? [],
    };
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** No more reads until `resume`; what is read is still put. */
  pause(): void {
    this.#pause.pause();
  }

  resume(): void {
    this.#pause.resume();
  }

  /** Reads what is there, the last unfinished unit too, puts it and ends. */
  async finish(): Promise<void> {
    this.#isFinishing = true;
    this.#wake.wake();
    await this.#loop;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#options.deadLetters.close();
    this.#options.path.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { name, source, clock, telemetry } = this.#options;
    const backoff = new Backoff(failureBackoff);
    while (!signal.aborted) {
      try {
        this.#state = "starting";
        await source.open(this.#options.path.books.positions, signal);
        await this.#readOn(backoff, signal);
        await source.close();
        this.#state = "ended";
        return;
      } catch (thrown) {
        await source.close().catch(() => undefined);
        if (this.#isStopped) return;
        const error = AppError.from(thrown);
        const retryMs = backoff.nextMs();
        this.#state = "failed";
        this.#error = error.message;
        telemetry.emit(componentFailed, { component: name, error, retryMs });
        telemetry.readiness.set(`source ${name}`, { ready: false, reason: error.message });
        await clock.sleep(retryMs, signal);
      }
    }
  }

  /** Returns when stopped, or when finished and nothing is left. */
  async #readOn(backoff: Backoff, signal: AbortSignal): Promise<void> {
    const { source, path, batchSize, clock } = this.#options;
    let idleReads = 0;
    let hasFinished = false;
    while (!signal.aborted) {
      await this.#pause.whenRunning(signal);
      this.#state = path.hasRoom ? "running" : "blocked";
      await path.whenRoom(signal);
      this.#state = "running";
      const startMs = clock.monotonicMs();
      const result = await source.read(Math.min(batchSize, path.transactionRecordsMax), signal);
      await this.#put(result, signal);
      backoff.reset();
      if (this.#error !== undefined) this.#options.telemetry.readiness.remove(`source ${this.name}`);
      this.#error = undefined;
      this.#isIdle = result.isIdle;
      if (result.records.length > 0 || !result.isIdle) {
        idleReads = 0;
        continue;
      }
      if (this.#isFinishing && hasFinished) return;
      if (this.#isFinishing) {
        source.finish?.();
        hasFinished = true;
        continue;
      }
      idleReads++;
      const pauseMs = Math.min(idlePause.maxMs, idleReads * idlePause.incrementMs);
      await this.#sleepIdle(pauseMs - (clock.monotonicMs() - startMs), signal);
    }
  }

  async #put(result: ReadResult, signal: AbortSignal): Promise<void> {
    if (result.records.length === 0 && result.positions.length === 0) return;
    const { path, clock } = this.#options;
    const records = await this.#takeable(result.records);
    const withheldCount = result.records.length - records.length;
    const offering = { records, positions: result.positions, withheldCount };
    const options = { waitMs: Number.POSITIVE_INFINITY, signal };
    this.#state = path.hasRoom ? "running" : "blocked";
    while ((await path.offer(offering, options)) === "full") {
      this.#state = "blocked";
      await clock.sleep(refusedPutMs, signal);
      if (signal.aborted) throw new AppError("CANCELLED", "stopped while waiting for room in a channel");
    }
    this.#state = "running";
  }

  /** The records that channels can take; the others are set aside, durably, before this returns. */
  async #takeable(records: readonly FlowRecord[]): Promise<readonly FlowRecord[]> {
    const { chain, path } = this.#options;
    const refused: { record: FlowRecord; reason: string }[] = [];
    let kept = chain.apply(records, ({ record, error }) =>
      refused.push({ record, reason: `interceptor: ${error.message}` }),
    );
    if (kept.some((record) => recordSizeBytes(record) > path.recordBytesMax)) {
      const fits: FlowRecord[] = [];
      for (const record of kept) {
        if (recordSizeBytes(record) <= path.recordBytesMax) fits.push(record);
        else refused.push({ record, reason: `larger than ${path.recordBytesMax} bytes` });
      }
      kept = fits;
    }
    await Promise.all(refused.map(({ record, reason }) => this.#setAside(record, reason)));
    return kept;
  }

  async #setAside(record: FlowRecord, reason: string): Promise<void> {
    const { name, deadLetters, telemetry } = this.#options;
    const { sourcePosition } = record;
    const coordinates = {
      source: name,
      ...(sourcePosition === undefined ? {} : { stream: sourcePosition.key, order: sourcePosition.order }),
    };
    await deadLetters.add({ record, reason, coordinates });
    telemetry.discarded(name, "refused", 1);
  }

  async #sleepIdle(pauseMs: number, signal: AbortSignal): Promise<void> {
    if (pauseMs <= 0) return;
    const { clock, source } = this.#options;
    const waking = new AbortController();
    const wake = (): void => waking.abort();
    signal.addEventListener("abort", wake, { once: true });
    void this.#wake.wait(waking.signal).then(wake);
    source.whenReadable?.(waking.signal).then(wake, wake);
    await clock.sleep(pauseMs, waking.signal);
    wake();
    signal.removeEventListener("abort", wake);
  }
}
