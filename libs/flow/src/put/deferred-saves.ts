/**
 * State changes of a source that wait until memory channels have delivered the records they belong to (A1): a position
 * saved earlier would lose, at a crash, what was only in memory.
 */
import { AppError } from "@millrace/base";
import type { DataDirectory, StateChange } from "@millrace/log";
import type { Telemetry } from "@millrace/telemetry";
import type { MemoryChannel } from "../channel/memory-channel.ts";

interface Deferred {
  readonly targets: readonly { readonly channel: MemoryChannel; readonly through: number }[];
  readonly changes: readonly StateChange[];
}

/** A queue of changes, saved in order. */
export class DeferredSaves {
  readonly #directory: DataDirectory;
  readonly #telemetry: Telemetry;
  readonly #queue: Deferred[] = [];
  readonly #cancellations: (() => void)[];

  constructor(directory: DataDirectory, channels: readonly MemoryChannel[], telemetry: Telemetry) {
    this.#directory = directory;
    this.#telemetry = telemetry;
    this.#cancellations = channels.map((channel) => channel.onResolved(() => this.#save()));
  }

  /** Saves `changes` once every target channel has delivered through its sequence. */
  add(targets: Deferred["targets"], changes: readonly StateChange[]): void {
    if (changes.length === 0) return;
    const last = this.#queue.at(-1);
    // offerings without records wait for the same: the queue is never longer than what the channels hold
    if (last !== undefined && isSame(last.targets, targets)) {
      this.#queue[this.#queue.length - 1] = { targets, changes: latestOf([...last.changes, ...changes]) };
    } else {
      this.#queue.push({ targets, changes });
    }
    this.#save();
  }

  /** Entries that wait. */
  get length(): number {
    return this.#queue.length;
  }

  close(): void {
    for (const cancel of this.#cancellations) cancel();
  }

  #save(): void {
    const due: StateChange[] = [];
    for (
      let next = this.#queue[0];
      next?.targets.every(({ channel, through }) => channel.position >= through);
      next = this.#queue[0]
    ) {
      this.#queue.shift();
      due.push(...next.changes);
    }
    if (due.length === 0) return;
    try {
      this.#directory.commit([], latestOf(due), { lazy: true }).durable.catch(() => undefined);
    } catch (error) {
      // the next save has a newer position; until then a crash reads more again
      this.#telemetry.log.warn({ error: AppError.from(error) }, "Source positions could not be saved.");
    }
  }
}

function isSame(a: Deferred["targets"], b: Deferred["targets"]): boolean {
  return a.length === b.length && a.every((target, i) => target.through === b[i]?.through);
}

/** The last change of each key. */
function latestOf(changes: readonly StateChange[]): StateChange[] {
  return [...new Map(changes.map((change) => [change.key, change])).values()];
}
