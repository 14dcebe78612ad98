/** A clock that stands still until a test moves it: wall and monotonic time apart, timers in order. */
import type { Clock, Timer } from "@millrace/runtime";

interface PendingTimer {
  readonly atMs: number;
  readonly run: () => void;
}

/** Manual time. Timers run inside {@link SimClock.advance}, earliest first. */
export class SimClock implements Clock {
  #wallMs: number;
  #monotonicMs = 0;
  #timers: PendingTimer[] = [];

  constructor(wallMs = 1_700_000_000_000) {
    this.#wallMs = wallMs;
  }

  /** Number of timers waiting. */
  get timerCount(): number {
    return this.#timers.length;
  }

  nowMs(): number {
    return this.#wallMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, run: () => void): Timer {
    const timer: PendingTimer = { atMs: this.#monotonicMs + Math.max(0, delayMs), run };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((pending) => pending !== timer);
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = (): void => {
        timer.cancel();
        signal?.removeEventListener("abort", finish);
        resolve();
      };
      const timer = this.after(delayMs, finish);
      signal?.addEventListener("abort", finish, { once: true });
    });
  }

  /** Moves both clocks forward, running what falls due. */
  advance(ms: number): void {
    const untilMs = this.#monotonicMs + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#moveTo(Math.max(next.atMs, this.#monotonicMs));
      next.run();
    }
    this.#moveTo(untilMs);
  }

  /** Moves the wall clock alone: somebody set it. */
  jumpWall(ms: number): void {
    this.#wallMs += ms;
  }

  #moveTo(monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }
}
