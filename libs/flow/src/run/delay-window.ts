/** Delays of late, for a percentile on status pages: bounded in number and age. */

/** Samples kept; beyond it the oldest go first. */
const samplesMax = 1_000;
/** A percentile is worked out again after this long, milliseconds: statuses are read often. */
const staleMs = 500;
/** Age at which a sample no longer counts, milliseconds. */
const ageMsMax = 60_000;

interface Sample {
  readonly delayMs: number;
  readonly records: number;
  readonly atMs: number;
}

/** A sliding window of delays, each standing for a number of records. */
export class DelayWindow {
  #samples: Sample[] = [];
  #last: { readonly atMs: number; readonly p99Ms: number | undefined } | undefined;

  /** `atMs` never goes back. */
  add(delayMs: number, records: number, atMs: number): void {
    this.#samples.push({ delayMs, records, atMs });
    // Cut in bulk: this runs once per take.
    if (this.#samples.length >= 2 * samplesMax) this.#samples = this.#samples.slice(-samplesMax);
  }

  /** The delay that 99 % of the records had at most; undefined without samples. */
  p99Ms(nowMs: number): number | undefined {
    if (this.#samples.length === 0) return undefined;
    if (this.#last === undefined || nowMs - this.#last.atMs >= staleMs)
      this.#last = { atMs: nowMs, p99Ms: this.#workedOut(nowMs) };
    return this.#last.p99Ms;
  }

  #workedOut(nowMs: number): number | undefined {
    const present = this.#samples.slice(-samplesMax).filter((sample) => nowMs - sample.atMs <= ageMsMax);
    this.#samples = present;
    const total = present.reduce((sum, sample) => sum + sample.records, 0);
    let left = total / 100;
    for (const sample of [...present].sort((a, b) => b.delayMs - a.delayMs)) {
      left -= sample.records;
      if (left < 0) return sample.delayMs;
    }
    return undefined;
  }
}
