/** Exponential back-off with full jitter above half the step, and the retry loop over it. */
import { AppError } from "@millrace/base";
import type { Clock } from "./clock.ts";

/** First delay, cap and growth of a back-off. */
export interface BackoffOptions {
  readonly firstMs: number;
  readonly capMs: number;
  /** Injected for tests; Math.random otherwise. */
  readonly random?: () => number;
}

/** Yields the next delay; `reset` after a success. */
export class Backoff {
  readonly #options: BackoffOptions;
  #attempts = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  get attempts(): number {
    return this.#attempts;
  }

  /** Delay before the next attempt, in milliseconds. */
  nextMs(): number {
    const { firstMs, capMs, random = Math.random } = this.#options;
    const step = Math.min(capMs, firstMs * 2 ** Math.min(this.#attempts, 30));
    this.#attempts++;
    return step / 2 + (random() * step) / 2;
  }

  reset(): void {
    this.#attempts = 0;
  }
}

/** What `retry` needs to know beside the work. */
export interface RetryOptions extends BackoffOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal;
  /** Gives up once this much time has passed. */
  readonly limitMs?: number;
  /** Which errors are worth another attempt; retriable AppErrors otherwise. */
  readonly isRetriable?: (error: AppError) => boolean;
  readonly onRetry?: (error: AppError, delayMs: number) => void;
}

/** Repeats `work` while it fails retriably; throws its last error when time is up, aborted or not retriable. */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const backoff = new Backoff(options);
  const startMs = options.clock.monotonicMs();
  const isRetriable = options.isRetriable ?? ((error: AppError) => error.isRetriable);
  for (;;) {
    try {
      return await work();
    } catch (thrown) {
      const error = AppError.from(thrown);
      const delayMs = backoff.nextMs();
      const spentMs = options.clock.monotonicMs() - startMs;
      const outOfTime = options.limitMs !== undefined && spentMs + delayMs > options.limitMs;
      if (!isRetriable(error) || outOfTime || options.signal?.aborted) throw thrown;
      options.onRetry?.(error, delayMs);
      await options.clock.sleep(delayMs, options.signal);
      if (options.signal?.aborted) throw thrown;
    }
  }
}
