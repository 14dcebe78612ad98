/**
 * Which receiver may have which sequences (rule H3): noted durably before the first send, in blocks reserved ahead,
 * so that not every send needs a note. Blocks of different receivers never overlap: a sequence has one owner.
 */
import { type Range, RangeSet } from "@millrace/base";
import type { SinkFeedback } from "@millrace/flow";

/** Sequences reserved ahead in one note. */
const reservedSequences = 8192;

const prefix = "receiver/";

interface StoredNote {
  readonly v: 1;
  readonly ranges: readonly Range[];
}

/** The notes of one channel's sink. */
export class ReceiverNotes {
  readonly #feedback: SinkFeedback;
  /** As noted now. */
  readonly #noted = new Map<string, RangeSet>();
  /** As noted before this opening: what may be at a receiver from earlier. */
  readonly #before: { readonly receiver: string; readonly ranges: RangeSet }[] = [];
  /** What receivers that were given up may have (H4). */
  readonly #doubtful = new RangeSet();

  constructor(feedback: SinkFeedback) {
    this.#feedback = feedback;
    for (const [key, bytes] of feedback.notes(prefix)) {
      const { ranges } = JSON.parse(Buffer.from(bytes).toString()) as StoredNote;
      const receiver = key.slice(prefix.length);
      this.#noted.set(receiver, new RangeSet(ranges));
      this.#before.push({ receiver, ranges: new RangeSet(ranges) });
    }
  }

  /** Receivers that may have something from before this opening. */
  get receivers(): string[] {
    return this.#before.map(({ receiver }) => receiver);
  }

  /** True when a receiver that was given up may have `sequence`. */
  isDoubtful(sequence: number): boolean {
    return this.#doubtful.has(sequence);
  }

  /** The receiver that may have `sequence` from before this opening, and how far that goes. */
  ownerAt(sequence: number, to: number): { readonly receiver: string | undefined; readonly to: number } {
    let next = to;
    for (const { receiver, ranges } of this.#before) {
      const end = ranges.endOfRunAt(sequence);
      if (end > sequence) return { receiver, to: Math.min(end, to) };
      const following = ranges.ranges.find((range) => range.from > sequence);
      if (following !== undefined) next = Math.min(next, following.from);
    }
    return { receiver: undefined, to: next };
  }

  /** Makes sure, durably, that [from, to) is noted for `receiver`. */
  async reserve(receiver: string, from: number, to: number): Promise<void> {
    const noted = this.#noted.get(receiver) ?? new RangeSet();
    if (noted.missing(from, to).length === 0) return;
    noted.add(from, to + reservedSequences);
    noted.removeBelow(this.#feedback.resolvedThrough);
    this.#noted.set(receiver, noted);
    await this.#save([receiver]);
  }

  /** H4: nothing waits for `receiver` any more. */
  async forget(receiver: string): Promise<void> {
    for (const { from, to } of this.#noted.get(receiver)?.ranges ?? []) this.#doubtful.add(from, to);
    this.#noted.delete(receiver);
    const index = this.#before.findIndex((entry) => entry.receiver === receiver);
    if (index >= 0) this.#before.splice(index, 1);
    await this.#save([receiver]);
  }

  async #save(receivers: readonly string[]): Promise<void> {
    if (receivers.length === 0) return;
    const notes = receivers.map((receiver) => {
      const ranges = this.#noted.get(receiver)?.ranges ?? [];
      const note: StoredNote = { v: 1, ranges };
      return {
        key: prefix + receiver,
        value: ranges.length === 0 ? null : Buffer.from(JSON.stringify(note)),
      };
    });
    await this.#feedback.setNotes(notes);
  }
}
