/**
 * Runs a push source and is its intake. The source answers its sender only after the outcome of the offer; a full
 * channel is `full` after the wait, never a drop.
 */
import { AppError } from "@millrace/base";
import { Backoff, type Clock } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import type { Intake, Offering, OfferOutcome, PushSource } from "../contract.ts";
import type { PutPath } from "../put/put-path.ts";
import type { ComponentState, SourceStatus } from "./component-state.ts";
import { componentFailed } from "./events.ts";
import type { InterceptorChain } from "./interceptor-chain.ts";
import { Pause } from "./pause.ts";

/** What a push runner is made of. */
export interface PushRunnerOptions {
  readonly name: string;
  readonly type: string;
  readonly source: PushSource;
  readonly path: PutPath;
  readonly chain: InterceptorChain;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/** First and longest pause after a failed start, milliseconds. */
const failureBackoff = { firstMs: 200, capMs: 5_000 };

/** Runner of one push source. */
export class PushRunner {
  readonly #options: PushRunnerOptions;
  readonly #stop = new AbortController();
  readonly #pause = new Pause();
  readonly #intake: SourceIntake;
  #starting: Promise<void> | undefined;
  #state: ComponentState = "starting";
  #error: string | undefined;

  constructor(options: PushRunnerOptions) {
    this.#options = options;
    this.#intake = new SourceIntake(options, this.#pause, this.#stop.signal);
  }

  get name(): string {
    return this.#options.name;
  }

  get status(): SourceStatus {
    const { name, type, source, path } = this.#options;
    return {
      name,
      type,
      state: this.#state === "running" && !path.hasRoom ? "blocked" : this.#state,
      error: this.#error,
      recordCount: path.putCount,
      counts: path.books.counts,
      streamCount: source.streamCount?.() ?? 0,
      isIdle: false,
      skipped: source.skipped?.() ?? [],
    };
  }

  /** Bound addresses of the source. */
  get addresses(): readonly { readonly name: string; readonly host: string; readonly port: number }[] {
    return this.#options.source.addresses?.() ?? [];
  }

  /** Starts the source; a failure is tried again. Resolves after the first attempt. */
  async start(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#starting = this.#run(resolve);
    });
  }

  pause(): void {
    this.#pause.pause();
  }

  resume(): void {
    this.#pause.resume();
  }

  /** A push source knows no end: finishing is stopping. */
  finish(): Promise<void> {
    return this.stop();
  }

  /** Ends the source first, so that offers under way still get their answer. */
  async stop(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    const stopped = this.#options.source.stop();
    this.#stop.abort();
    await stopped;
    await this.#starting;
    this.#options.path.close();
    this.#state = "ended";
  }

  async #run(onAttempt: () => void): Promise<void> {
    const { name, source, clock, telemetry } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(failureBackoff);
    while (!signal.aborted) {
      try {
        await source.start(this.#intake, signal);
        this.#state = "running";
        this.#error = undefined;
        telemetry.readiness.remove(`source ${name}`);
        onAttempt();
        return;
      } catch (thrown) {
        const error = AppError.from(thrown);
        const retryMs = backoff.nextMs();
        this.#state = "failed";
        this.#error = error.message;
        telemetry.emit(componentFailed, { component: name, error, retryMs });
        telemetry.readiness.set(`source ${name}`, { ready: false, reason: error.message });
        onAttempt();
        await clock.sleep(retryMs, signal);
      }
    }
  }
}

/** The intake of one push source. */
class SourceIntake implements Intake {
  readonly #path: PutPath;
  readonly #chain: InterceptorChain;
  readonly #clock: Clock;
  readonly #pause: Pause;
  readonly #stop: AbortSignal;

  constructor({ path, chain, clock }: PushRunnerOptions, pause: Pause, stop: AbortSignal) {
    this.#path = path;
    this.#chain = chain;
    this.#clock = clock;
    this.#pause = pause;
    this.#stop = stop;
  }

  get hasRoom(): boolean {
    return !this.#pause.isPaused && this.#path.hasRoom;
  }

  get durability(): "fsync" | "volatile" {
    return this.#path.durability;
  }

  async offer(
    prepare: Offering | (() => Offering | undefined),
    options: Parameters<Intake["offer"]>[1] = {},
  ): Promise<OfferOutcome> {
    const waitMs = options.waitMs ?? this.#path.keepAliveMs;
    const signal = options.signal === undefined ? this.#stop : AbortSignal.any([options.signal, this.#stop]);
    if (this.#pause.isPaused && !(await this.#resumed(waitMs, signal))) return "full";
    const offered =
      typeof prepare === "function"
        ? () => this.#intercepted(prepare())
        : (this.#intercepted(prepare) as Offering);
    const room = options.room === undefined ? {} : { room: options.room };
    return this.#path.offer(offered, { waitMs, signal, ...room });
  }

  async whenRoom(signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#stop]);
    await this.#pause.whenRunning(either);
    await this.#path.whenRoom(either).catch(() => undefined);
  }

  note(key: string): Uint8Array | undefined {
    return this.#path.books.note(key);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    return this.#path.books.notes(prefix);
  }

  #intercepted(offering: Offering | undefined): Offering | undefined {
    if (offering === undefined) return undefined;
    const records = this.#chain.apply(offering.records);
    const withheldCount = (offering.withheldCount ?? 0) + offering.records.length - records.length;
    return records === offering.records ? offering : { ...offering, records, withheldCount };
  }

  async #resumed(waitMs: number, signal: AbortSignal): Promise<boolean> {
    const waiting = new AbortController();
    const timer = this.#clock.after(waitMs, () => waiting.abort());
    await this.#pause.whenRunning(AbortSignal.any([signal, waiting.signal]));
    timer.cancel();
    return !this.#pause.isPaused;
  }
}
