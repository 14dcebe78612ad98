/**
 * How many bytes were put below a sequence: exact at marks, in proportion between them. Pure.
 * Gives the bytes of what is not yet delivered without keeping a size per record.
 */
import { invariant } from "@millrace/base";

/** Bytes put below a sequence. */
export interface ByteMark {
  readonly sequence: number;
  readonly bytes: number;
}

/** Ascending marks. */
export class ByteMarks {
  readonly #interval: number;
  readonly #marks: ByteMark[];

  /** `interval`: closer marks are merged into the last one. */
  constructor(first: ByteMark, interval: number) {
    this.#marks = [first];
    this.#interval = interval;
  }

  get last(): ByteMark {
    return this.#marks.at(-1) as ByteMark;
  }

  /** Adds a mark at the end. */
  add(sequence: number, bytes: number): void {
    const last = this.last;
    invariant(sequence >= last.sequence && bytes >= last.bytes, "marks ascend");
    const before = this.#marks.at(-2);
    const isClose = before !== undefined && bytes - before.bytes < this.#interval;
    if (isClose) this.#marks[this.#marks.length - 1] = { sequence, bytes };
    else this.#marks.push({ sequence, bytes });
  }

  /** Bytes below `sequence`, rounded down. */
  bytesBelow(sequence: number): number {
    const after = this.#firstAbove(sequence);
    const low = this.#marks[after - 1];
    const high = this.#marks[after];
    if (low === undefined) return (high as ByteMark).bytes;
    if (high === undefined) return low.bytes;
    const share = (sequence - low.sequence) / (high.sequence - low.sequence);
    return low.bytes + Math.floor(share * (high.bytes - low.bytes));
  }

  /** Forgets marks that are not needed for sequences at or above `sequence`. */
  dropBelow(sequence: number): void {
    const after = this.#firstAbove(sequence);
    if (after > 1) this.#marks.splice(0, after - 1);
  }

  #firstAbove(sequence: number): number {
    let low = 0;
    let high = this.#marks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#marks[middle] as ByteMark).sequence <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
