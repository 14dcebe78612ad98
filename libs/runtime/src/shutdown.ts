/**
 * Ordered shutdown: parts register as they start and are stopped in reverse order, each within its time.
 * One failing part does not keep the others from stopping.
 */
import { AppError } from "@millrace/base";
import type { Clock } from "./clock.ts";

interface Part {
  readonly name: string;
  readonly stop: () => Promise<void> | void;
}

/** Collects what must be stopped and stops it once. */
export class Shutdown {
  readonly #clock: Clock;
  readonly #partTimeoutMs: number;
  readonly #parts: Part[] = [];
  readonly #controller = new AbortController();
  #stopping: Promise<readonly AppError[]> | undefined;

  constructor(clock: Clock, partTimeoutMs = 15_000) {
    this.#clock = clock;
    this.#partTimeoutMs = partTimeoutMs;
  }

  /** Aborted when stopping begins. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Registers a started part; the last registered stops first. */
  register(name: string, stop: () => Promise<void> | void): void {
    this.#parts.push({ name, stop });
  }

  /** Stops everything; the same promise for every caller. Returns what failed or timed out. */
  stop(): Promise<readonly AppError[]> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<readonly AppError[]> {
    this.#controller.abort();
    const failures: AppError[] = [];
    for (const part of this.#parts.reverse()) {
      const timedOut = Symbol("timed out");
      const timer = new AbortController();
      try {
        const work = Promise.resolve(part.stop());
        const limit = this.#clock.sleep(this.#partTimeoutMs, timer.signal).then(() => timedOut);
        if ((await Promise.race([work, limit])) === timedOut && !timer.signal.aborted) {
          failures.push(
            new AppError("TIMED_OUT", `${part.name} did not stop within ${this.#partTimeoutMs} ms`),
          );
        }
      } catch (error) {
        failures.push(
          new AppError("INTERNAL", `${part.name} failed to stop: ${AppError.from(error).message}`, {
            cause: error,
          }),
        );
      } finally {
        timer.abort();
      }
    }
    return failures;
  }
}
