/** A gate that can be closed for a while. */
import { WakeList } from "../channel/wake-list.ts";

/** Closed between `pause` and `resume`. */
export class Pause {
  readonly #waiting = new WakeList();
  #isPaused = false;

  get isPaused(): boolean {
    return this.#isPaused;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#waiting.wake();
  }

  /** Resolves when open, or when `signal` aborts. */
  async whenRunning(signal: AbortSignal): Promise<void> {
    while (this.#isPaused && !signal.aborted) await this.#waiting.wait(signal);
  }
}
