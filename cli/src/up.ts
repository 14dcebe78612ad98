/**
 * `millrace up`: every service in one process, real log files through all of them, and the promise as an equation.
 *
 *   plan -> directory (locked) -> services -> first screen -> last line, again and again -> drain -> last words
 *
 * It ends with `--once` when everything is published, with a signal after a drain, or with the error that ended a
 * service. What is in flight at any end is on disk: started again it goes on.
 */
import { join } from "node:path";
import { AppError, printable } from "@millrace/base";
import { type Clock, Shutdown, systemClock } from "@millrace/runtime";
import type { UpCommandOptions } from "./commands/up.ts";
import { count, errorLine, exitCode, Output } from "./output.ts";
import { accountOf } from "./up/account.ts";
import { Keeper } from "./up/keeper.ts";
import { type Layout, openLayout, shownPath } from "./up/layout.ts";
import { partitionCount, topicName } from "./up/pipeline.ts";
import { planOf, type UpPlan } from "./up/plan.ts";
import { Reader, type Reading } from "./up/reader.ts";
import { introductionLines, type Progress, progressLine, Screen } from "./up/screen.ts";
import { type Services, startServices } from "./up/services.ts";
import { limitYoungGeneration } from "./up/young-generation.ts";
import { version } from "./version.ts";

/** Time between two looks at the figures, milliseconds. */
const refreshMs = 500;
/** Time between two looks at what is still in flight, milliseconds. */
const pollMs = 20;
/** How long the first screen waits until everything has told where it stands, milliseconds. */
const firstLookMsMax = 2_000;
/** How long a drain lets what is in flight be delivered; the rest is on disk, milliseconds. */
const drainMsMax = 5_000;
/** Longest time a service may take to stop, milliseconds. */
const stopMsMax = 10_000;

/** Runs until it is told to end. Throws what kept it from starting. */
export async function runUp(options: UpCommandOptions): Promise<void> {
  process.title = "millrace up";
  limitYoungGeneration();
  const plan = planOf(options, process.env, process.cwd());
  const output = new Output(process, () => undefined);
  const ending = new Ending(output);
  const layout = await openLayout(plan.dataDirectory);
  const shutdown = new Shutdown(systemClock, stopMsMax);
  shutdown.register("directory lock", () => layout.lock.release());
  try {
    const services = await startServices(plan, layout, shutdown);
    if (!ending.signal.aborted) await new Up({ plan, layout, services, output, ending }).run();
  } finally {
    const failures = await shutdown.stop();
    for (const failure of failures) output.note(`millrace: ${errorLine(failure)}`);
    if (failures.length > 0) process.exitCode = exitCode.failure;
  }
}

/** A Ctrl-C arrives twice under npm, which passes on what the terminal has sent to everyone already. Milliseconds. */
const signalEchoMs = 1_000;

/** Why it ends: a signal, or a service that failed. A second signal, but no echo, ends the process at once. */
class Ending {
  readonly #controller = new AbortController();
  #lastSignalMs = Number.NEGATIVE_INFINITY;
  /** Set when a service failed. */
  failure: AppError | undefined;

  constructor(output: Output) {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => {
        const isEcho = performance.now() - this.#lastSignalMs < signalEchoMs;
        if (isEcho) return;
        this.#lastSignalMs = performance.now();
        if (this.#controller.signal.aborted) {
          output.note("\nended at once; what was in flight is on disk");
          process.exit(exitCode.failure);
        }
        this.#controller.abort();
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  fail(failure: AppError): void {
    this.failure ??= failure;
    this.#controller.abort();
  }
}

interface UpParts {
  readonly plan: UpPlan;
  readonly layout: Layout;
  readonly services: Services;
  readonly output: Output;
  readonly ending: Ending;
}

class Up {
  readonly #parts: UpParts;
  readonly #clock: Clock = systemClock;
  readonly #screen: Screen;
  readonly #reader: Reader;
  readonly #keeper: Keeper;
  #trouble: string | undefined;

  constructor(parts: UpParts) {
    this.#parts = parts;
    this.#screen = new Screen(parts.output, this.#clock);
    this.#reader = new Reader(parts.services, join(parts.layout.root, "account.json"));
    this.#keeper = new Keeper(parts.services, this.#reader, parts.plan.limits, this.#clock);
    for (const { failed } of [parts.services.storage, parts.services.connector, parts.services.agent])
      void failed.then((failure) => parts.ending.fail(failure));
  }

  async run(): Promise<void> {
    const { plan, ending } = this.#parts;
    await this.#introduce();
    if (plan.isOnce) await this.#deliverOnce();
    else await this.#show(ending.signal);
    if (ending.signal.aborted) await this.#drain();
    await this.#keeper.stop();
    this.#sayLast();
    if (ending.failure !== undefined) throw ending.failure;
  }

  async #introduce(): Promise<void> {
    const { plan, layout, services, ending } = this.#parts;
    const readyMs = performance.now();
    const startMs = this.#clock.monotonicMs();
    while (
      !this.#reader.read().isComplete &&
      this.#clock.monotonicMs() - startMs < firstLookMsMax &&
      !ending.signal.aborted
    )
      await this.#clock.sleep(10, ending.signal);
    const { streamCount, skipped } = this.#reader.read();
    const readsOwnLog = plan.tails.length === 0;
    const lines = introductionLines({
      version,
      nodeVersion: process.versions.node,
      dataDirectory: shownPath(layout.root),
      outputDirectory: shownPath(join(layout.out, topicName)),
      readyMs,
      fileCount: Math.max(0, streamCount - (readsOwnLog ? 1 : 0)),
      readsOwnLog,
      topic: topicName,
      partitionCount,
      skipped: skipped.map(({ reason }) => reason),
      pid: process.pid,
      clientFlags: plan.clientFlags(services.port),
      again: plan.again,
    });
    for (const line of lines) this.#screen.line(line);
  }

  /** Shows the last line again and again until `signal` aborts. */
  async #show(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const reading = this.#reader.read();
      if (reading.isAccountable) this.#screen.progress(progressLine(this.#progressOf(reading)));
      this.#tellTrouble(reading.trouble);
      await this.#clock.sleep(refreshMs, signal);
    }
  }

  /** `--once`: everything that is there into published files. */
  async #deliverOnce(): Promise<void> {
    const { services, ending } = this.#parts;
    const { signal } = ending;
    const done = new AbortController();
    const shown = this.#show(AbortSignal.any([signal, done.signal]));
    try {
      await services.agent.finishAndDrain(signal);
      await this.#publish(signal);
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    } finally {
      done.abort();
      await shown;
    }
  }

  /** The connector publishes what came in so far; what others produce meanwhile is not waited for. */
  async #publish(signal: AbortSignal): Promise<void> {
    const { services } = this.#parts;
    let wanted: number | undefined;
    while (!signal.aborted) {
      const { cut, isAccountable } = this.#reader.read();
      const { in: all, inFlight } = accountOf(cut);
      if (isAccountable) wanted ??= all;
      if (wanted !== undefined && all - inFlight >= wanted) return;
      await services.connector.flush();
      await this.#clock.sleep(pollMs, signal);
    }
  }

  /** Nothing more is read; what is in flight is delivered as far as the time allows. */
  async #drain(): Promise<void> {
    const { services, ending } = this.#parts;
    if (ending.failure !== undefined) return;
    const { cut, isAccountable } = this.#reader.read();
    services.agent.pause();
    if (!isAccountable) return;
    this.#screen.line(`stopping: ${count(accountOf(cut).inFlight, "record")} in flight`);
    await this.#publish(AbortSignal.timeout(drainMsMax));
  }

  #sayLast(): void {
    const { plan, layout, ending } = this.#parts;
    const reading = this.#reader.read();
    if (ending.failure !== undefined && !reading.isAccountable) return;
    if (!reading.isAccountable) {
      this.#screen.line(`stopped: what is in flight is on disk; ${plan.again} goes on`);
      return;
    }
    const progress = this.#progressOf(reading);
    this.#screen.final(progressLine(progress));
    const where = shownPath(join(layout.out, topicName));
    if (progress.lost > 0 || progress.doubled > 0) {
      throw new AppError(
        "RECORD_LOST_ON_DISK",
        `the promise was not kept: ${progress.lost} lost, ${progress.doubled} doubled; please report it with ${shownPath(layout.logFile)}`,
      );
    }
    if (ending.failure !== undefined) return;
    this.#screen.line(
      progress.inFlight === 0
        ? `${plan.isOnce && !ending.signal.aborted ? "done" : "stopped"}: ${count(progress.published, "record")} in ${where}`
        : `stopped: ${count(progress.inFlight, "record")} in flight ${progress.inFlight === 1 ? "is" : "are"} on disk; ${plan.again} goes on`,
    );
  }

  #progressOf({ cut, channelShare, p99Ms, publishedFileCount }: Reading): Progress {
    return {
      ...accountOf(cut),
      channelShare,
      p99Ms,
      fileCount: publishedFileCount,
      heldBytes: this.#keeper.isHeld ? this.#parts.plan.limits.total : undefined,
    };
  }

  /** A failing component is told once, when it begins. */
  #tellTrouble(trouble: string | undefined): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble !== undefined) this.#screen.note(`  waiting: ${printable(trouble)}`);
  }
}
