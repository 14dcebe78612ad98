/**
 * Time, injected. The wall clock may jump; durations, time-outs and retention's guard use the monotonic one.
 */

/** A running timer. */
export interface Timer {
  cancel(): void;
}

/** Wall and monotonic time in milliseconds, and timers. */
export interface Clock {
  /** Wall time, epoch milliseconds. */
  nowMs(): number;
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number;
  /** Calls `run` once after `delayMs`. A pending timer does not keep the process alive. */
  after(delayMs: number, run: () => void): Timer;
  /** Resolves after `delayMs`, or at once (without error) when `signal` aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

class SystemClock implements Clock {
  nowMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", finish);
        resolve();
      };
      const timer = setTimeout(finish, delayMs);
      signal?.addEventListener("abort", finish, { once: true });
    });
  }
}

/** The machine's clock. */
export const systemClock: Clock = new SystemClock();
