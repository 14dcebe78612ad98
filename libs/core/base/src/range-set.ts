/**
 * A set of non-negative safe integers kept as sorted, disjoint, non-adjacent half-open ranges.
 *
 * Used wherever positions complete out of order: takes committed in a channel, sequences a hop's receiver holds
 * (H2), offsets a sink has published. Its size is the number of gaps, not of positions.
 */
import { invariant } from "./errors.ts";

/** Half-open range: `from` is in it, `to` is not. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** Sorted disjoint ranges. All operations keep them merged. */
export class RangeSet {
  #ranges: Range[];

  constructor(ranges: Iterable<Range> = []) {
    this.#ranges = [];
    for (const range of ranges) this.add(range.from, range.to);
  }

  /** The ranges, ascending. */
  get ranges(): readonly Range[] {
    return this.#ranges;
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Number of positions in the set. */
  get count(): number {
    return this.#ranges.reduce((sum, range) => sum + range.to - range.from, 0);
  }

  /** Adds [from, to). */
  add(from: number, to: number): void {
    invariant(
      Number.isSafeInteger(from) && Number.isSafeInteger(to) && from >= 0 && from <= to,
      "range is ordered and safe",
    );
    if (from === to) return;
    const first = this.#firstEndingAtOrAfter(from);
    let last = first;
    let mergedFrom = from;
    let mergedTo = to;
    while (last < this.#ranges.length && (this.#ranges[last] as Range).from <= to) {
      const range = this.#ranges[last] as Range;
      mergedFrom = Math.min(mergedFrom, range.from);
      mergedTo = Math.max(mergedTo, range.to);
      last++;
    }
    this.#ranges.splice(first, last - first, { from: mergedFrom, to: mergedTo });
  }

  /** True when `position` is in the set. */
  has(position: number): boolean {
    const range = this.#ranges[this.#firstEndingAtOrAfter(position + 1)];
    return range !== undefined && range.from <= position;
  }

  /** Removes everything below `position`. */
  removeBelow(position: number): void {
    const kept: Range[] = [];
    for (const range of this.#ranges) {
      if (range.to <= position) continue;
      kept.push(range.from < position ? { from: position, to: range.to } : range);
    }
    this.#ranges = kept;
  }

  /** Removes [from, to). */
  remove(from: number, to: number): void {
    if (from >= to) return;
    const kept: Range[] = [];
    for (const range of this.#ranges) {
      if (range.from < from) kept.push({ from: range.from, to: Math.min(range.to, from) });
      if (range.to > to) kept.push({ from: Math.max(range.from, to), to: range.to });
    }
    this.#ranges = kept;
  }

  /** The parts of [from, to) that are not in the set, ascending. */
  missing(from: number, to: number): Range[] {
    const gaps: Range[] = [];
    let next = from;
    for (let i = this.#firstEndingAtOrAfter(from); i < this.#ranges.length && next < to; i++) {
      const range = this.#ranges[i] as Range;
      if (range.from >= to) break;
      if (range.from > next) gaps.push({ from: next, to: range.from });
      next = Math.max(next, range.to);
    }
    if (next < to) gaps.push({ from: next, to });
    return gaps;
  }

  /** The parts of [from, to) that are in the set, ascending. */
  overlap(from: number, to: number): Range[] {
    const parts: Range[] = [];
    for (let i = this.#firstEndingAtOrAfter(from); i < this.#ranges.length; i++) {
      const range = this.#ranges[i] as Range;
      if (range.from >= to) break;
      if (range.to > from) parts.push({ from: Math.max(range.from, from), to: Math.min(range.to, to) });
    }
    return parts;
  }

  /** The end of the run that starts at or contains `position`; `position` itself when it is not in the set. */
  endOfRunAt(position: number): number {
    const range = this.#ranges[this.#firstEndingAtOrAfter(position + 1)];
    return range !== undefined && range.from <= position ? range.to : position;
  }

  /** Index of the first range whose `to` is >= position. */
  #firstEndingAtOrAfter(position: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as Range).to < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
