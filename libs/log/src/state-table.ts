/**
 * The small state table of a directory (J5): keys to bytes.
 *
 * Two views: `current` is what callers read, changed by a commit at once; `journaled` is what the entries written so
 * far say, and what opens the next journal file. A snapshot of `current` would hold changes whose entry, with its
 * records, is not written yet: a source position without its records is a loss.
 */
import { AppError } from "@millrace/base";
import { stateKeyBytesMax } from "./limits.ts";
import type { StateChange } from "./types.ts";

/** Keys of the library itself begin so; users' keys do not. */
export const internalKeyPrefix = "\u0000";

/** Keys of the state table that say which producers were removed: of one log, or of all. */
export function removedProducerPrefix(logNumber?: number): string {
  return `${internalKeyPrefix}removed/${logNumber === undefined ? "" : `${logNumber}/`}`;
}

/** Keys of the state table that say which producer ids were replaced by which (P2): of one log, or of all. */
export function replacedProducerPrefix(logNumber?: number): string {
  return `${internalKeyPrefix}replaced/${logNumber === undefined ? "" : `${logNumber}/`}`;
}

const valueOverheadBytes = 6;

/** The table; see the module comment. */
export class StateTable {
  readonly #current = new Map<string, Uint8Array>();
  readonly #journaled = new Map<string, Uint8Array>();
  #sizeBytes = 0;

  /** Bytes `current` takes on disk. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get(key: string): Uint8Array | undefined {
    return this.#current.get(key);
  }

  /** Keys that begin with `prefix`, sorted. */
  keys(prefix: string): string[] {
    const showsInternal = prefix.startsWith(internalKeyPrefix);
    const isShown = (key: string): boolean =>
      key.startsWith(prefix) && (showsInternal || !key.startsWith(internalKeyPrefix));
    return [...this.#current.keys()].filter(isShown).sort();
  }

  /** Throws unless the changes are legal and the table stays within `bytesMax`. Changes nothing. */
  check(changes: readonly StateChange[], bytesMax: number): void {
    let added = 0;
    for (const { key, value } of changes) {
      if (key.length === 0 || Buffer.byteLength(key) > stateKeyBytesMax) {
        throw new AppError("INVALID_REQUEST", `a state key has 1 to ${stateKeyBytesMax} bytes of UTF-8`);
      }
      if (value !== null) added += entrySize(key, value) - this.#sizeOf(key);
    }
    if (added > 0 && this.#sizeBytes + added > bytesMax) {
      throw new AppError(
        "LIMIT_EXCEEDED",
        `the state table would have ${this.#sizeBytes + added} bytes, the limit of this directory is ${bytesMax}: use larger journal files`,
      );
    }
  }

  /** A commit's changes: seen by readers from now on. */
  apply(changes: readonly StateChange[]): void {
    for (const { key, value } of changes) {
      this.#sizeBytes -= this.#sizeOf(key);
      if (value === null) this.#current.delete(key);
      else {
        this.#current.set(key, value);
        this.#sizeBytes += entrySize(key, value);
      }
    }
  }

  /** The same changes, once their entry is in the journal's bytes. */
  applyJournaled(changes: readonly StateChange[]): void {
    for (const { key, value } of changes) {
      if (value === null) this.#journaled.delete(key);
      else this.#journaled.set(key, value);
    }
  }

  /** Replaces both views: what recovery read. */
  reset(changes: Iterable<StateChange>): void {
    this.#current.clear();
    this.#journaled.clear();
    this.#sizeBytes = 0;
    const all = [...changes];
    this.apply(all);
    this.applyJournaled(all);
  }

  /** The table as of the last entry written. */
  snapshot(): StateChange[] {
    return [...this.#journaled].map(([key, value]) => ({ key, value }));
  }

  #sizeOf(key: string): number {
    const value = this.#current.get(key);
    return value === undefined ? 0 : entrySize(key, value);
  }
}

function entrySize(key: string, value: Uint8Array): number {
  return valueOverheadBytes + Buffer.byteLength(key) + value.length;
}
