/** Those who wait for something to happen, woken all at once. */

/** A list of waiters without a queue behind it: each looks again when woken. */
export class WakeList {
  readonly #waiting = new Set<() => void>();

  /** Resolves at the next `wake`, or when `signal` aborts. */
  wait(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = (): void => {
        this.#waiting.delete(finish);
        signal.removeEventListener("abort", finish);
        resolve();
      };
      this.#waiting.add(finish);
      signal.addEventListener("abort", finish, { once: true });
    });
  }

  wake(): void {
    for (const finish of [...this.#waiting]) finish();
  }
}
