/** A clock that stands still until it is moved. For tests. */
import type { Clock, Timer } from "@millrace/runtime";

interface Alarm {
  readonly atMs: number;
  readonly run: () => void;
}

/** Wall and monotonic time move together; alarms run in order of their times. */
export class ManualClock implements Clock {
  #timeMs = 0;
  #alarms: Alarm[] = [];

  nowMs(): number {
    return 1_750_000_000_000 + this.#timeMs;
  }

  monotonicMs(): number {
    return this.#timeMs;
  }

  after(delayMs: number, run: () => void): Timer {
    const alarm = { atMs: this.#timeMs + delayMs, run };
    this.#alarms.push(alarm);
    return {
      cancel: () => {
        this.#alarms = this.#alarms.filter((other) => other !== alarm);
      },
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  /** Time passes; what is due on the way runs at its time. */
  advance(byMs: number): void {
    const endMs = this.#timeMs + byMs;
    for (;;) {
      const [next] = this.#alarms.filter((alarm) => alarm.atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#alarms = this.#alarms.filter((alarm) => alarm !== next);
      this.#timeMs = Math.max(this.#timeMs, next.atMs);
      next.run();
    }
    this.#timeMs = endMs;
  }

  /** The process is paused: time passes and nothing runs; then everything that is due runs late. */
  pause(forMs: number): void {
    this.#timeMs += forMs;
    this.advance(0);
  }
}
