/**
 * What a disk error means (design §6): a full disk pauses and is retried when there is room; anything else takes the
 * directory offline, at once and for good.
 */
import { AppError } from "@millrace/base";
import { type Clock, type Disk, errorCode } from "@millrace/runtime";
import type { LogEvent } from "./events.ts";
import { diskFullResumeBytes, diskFullRetryMs } from "./limits.ts";

const fullCodes: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT"]);

/** Runs an fsync: whatever fails, a full disk too, is STORAGE_FAILED and never retried. */
export async function syncOnce(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new AppError("STORAGE_FAILED", `an fsync failed (${text}): check the disk, then restart`, {
      cause: error,
    });
  }
}

/** Knows whether the disk is full or failed. */
export class DiskGuard {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #path: string;
  readonly #emit: (event: LogEvent) => void;
  readonly #onFailure: (error: AppError) => void;
  readonly #stop = new AbortController();
  #fullSinceMs: number | undefined;
  /** Writes that met a full disk and have not succeeded since. */
  #waiting = 0;
  #failure: AppError | undefined;

  constructor(options: {
    disk: Disk;
    clock: Clock;
    path: string;
    emit: (event: LogEvent) => void;
    onFailure: (error: AppError) => void;
  }) {
    this.#disk = options.disk;
    this.#clock = options.clock;
    this.#path = options.path;
    this.#emit = options.emit;
    this.#onFailure = options.onFailure;
  }

  /** True while a write waits for room. */
  get isFull(): boolean {
    return this.#fullSinceMs !== undefined;
  }

  get failure(): AppError | undefined {
    return this.#failure;
  }

  /** Runs disk work again and again while the disk is full; any other error takes the directory offline. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    let isWaiting = false;
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      try {
        const result = await work();
        if (isWaiting) this.#waiting--;
        if (isWaiting && this.#waiting === 0) this.#usableAgain();
        return result;
      } catch (error) {
        if (!fullCodes.has(errorCode(error))) throw this.fail(error);
        if (!isWaiting) this.#waiting++;
        isWaiting = true;
        await this.#waitForRoom(error);
      }
    }
  }

  /** Runs an fsync: any error of it, a full disk too, takes the directory offline (never retried). */
  async sync(work: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      await work();
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** Takes the directory offline; returns the error that says so. */
  fail(error: unknown): AppError {
    if (this.#failure !== undefined) return this.#failure;
    const text = error instanceof Error ? error.message : String(error);
    const failure =
      error instanceof AppError && error.reason === "STORAGE_FAILED"
        ? error
        : new AppError(
            "STORAGE_FAILED",
            `the data directory ${this.#path} is offline after a disk error (${text}): check the disk, then restart`,
            { metadata: { directory: this.#path }, cause: error },
          );
    this.#failure = failure;
    this.#stop.abort();
    this.#emit({ kind: "directoryOffline", message: failure.message });
    this.#onFailure(failure);
    return failure;
  }

  /** A close does not wait for room: what waits fails. */
  async #waitForRoom(error: unknown): Promise<void> {
    if (this.#fullSinceMs === undefined) {
      this.#fullSinceMs = this.#clock.monotonicMs();
      this.#emit({ kind: "diskFull", path: this.#path });
    }
    for (;;) {
      await this.#clock.sleep(diskFullRetryMs, this.#stop.signal);
      if (this.#stop.signal.aborted) throw this.fail(error);
      const freeBytes = await this.#disk.freeBytes(this.#path).catch(() => 0);
      if (freeBytes >= diskFullResumeBytes) return;
    }
  }

  #usableAgain(): void {
    if (this.#fullSinceMs === undefined) return;
    const pausedMs = this.#clock.monotonicMs() - this.#fullSinceMs;
    this.#fullSinceMs = undefined;
    this.#emit({ kind: "diskUsableAgain", pausedMs });
  }

  /** Ends all waiting for room with a failure. */
  stopWaiting(): void {
    if (this.isFull) this.#stop.abort();
  }
}
