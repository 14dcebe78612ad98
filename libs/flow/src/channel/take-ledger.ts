/**
 * Which sequences of a channel are committed, outstanding and free to take. Pure.
 *
 *   position ........ everything below is committed
 *   #committed ...... committed above the position, out of order
 *   #busy ........... committed or outstanding, from the position on; the rest below the end is free
 *
 * Invariants: committed is a part of busy; only outstanding ranges are committed or rolled back; ranges stay as few as
 * there are gaps, however many records the takes had.
 */
import { invariant, type Range, RangeSet } from "@millrace/base";

/** Books of the takes of one channel. */
export class TakeLedger {
  #position: number;
  #committed: RangeSet;
  #busy = new RangeSet();

  constructor(position = 0, committed: Iterable<Range> = []) {
    invariant(Number.isSafeInteger(position) && position >= 0, "a take position is a sequence");
    this.#position = position;
    this.#committed = new RangeSet(committed);
    this.#settle();
    this.#busy = new RangeSet(this.#committed.ranges);
  }

  /** Everything below is committed. */
  get position(): number {
    return this.#position;
  }

  /** Ranges committed above the position. */
  get committedRanges(): readonly Range[] {
    return this.#committed.ranges;
  }

  /** Records committed above the position. */
  get committedCount(): number {
    return this.#committed.count;
  }

  /** Records taken and neither committed nor rolled back. */
  get outstandingCount(): number {
    return this.#busy.count - this.#committed.count;
  }

  /** The first free run below `end`; undefined when there is none. */
  nextFree(end: number): Range | undefined {
    const from = this.#busy.endOfRunAt(this.#position);
    if (from >= end) return undefined;
    const next = this.#busy.ranges.find((range) => range.from >= from);
    return { from, to: Math.min(end, next?.from ?? end) };
  }

  /** Marks a free range as outstanding. */
  take(from: number, to: number): void {
    invariant(from >= this.#position && from < to, "a take is at or above the position");
    invariant(isFree(this.#busy, from, to), "nothing is taken twice");
    this.#busy.add(from, to);
  }

  /** Commits an outstanding range. True when the position moved. */
  commit(from: number, to: number): boolean {
    if (from === to) return false;
    this.#checkOutstanding(from, to);
    this.#committed.add(from, to);
    return this.#settle();
  }

  /** Frees an outstanding range: it is next to be taken. */
  rollback(from: number, to: number): void {
    if (from === to) return;
    this.#checkOutstanding(from, to);
    this.#busy = without(this.#busy, from, to);
  }

  /** Sets the position, back or forth, and forgets commits above it. Nothing may be outstanding. */
  moveTo(position: number): void {
    invariant(this.outstandingCount === 0, "the position is moved only while nothing is taken");
    this.#position = position;
    this.#committed = new RangeSet();
    this.#busy = new RangeSet();
  }

  #checkOutstanding(from: number, to: number): void {
    invariant(
      from >= this.#position &&
        this.#busy.missing(from, to).length === 0 &&
        isFree(this.#committed, from, to),
      `[${from}, ${to}) is outstanding`,
    );
  }

  #settle(): boolean {
    const position = this.#committed.endOfRunAt(this.#position);
    if (position === this.#position) return false;
    this.#position = position;
    this.#committed.removeBelow(position);
    this.#busy.removeBelow(position);
    return true;
  }
}

function isFree(set: RangeSet, from: number, to: number): boolean {
  const gap = set.missing(from, to)[0];
  return gap !== undefined && gap.from === from && gap.to === to;
}

function without(set: RangeSet, from: number, to: number): RangeSet {
  const kept = new RangeSet();
  for (const range of set.ranges) {
    if (range.from < from) kept.add(range.from, Math.min(range.to, from));
    if (range.to > to) kept.add(Math.max(range.from, to), range.to);
  }
  return kept;
}
