/**
 * Which receiver may have which sequences of a channel (rules H3, H4). One book for a channel and a process: it is
 * kept over the openings of the sink, because what this process has sent it knows exactly.
 *
 *   noted      durable, before the first send, in blocks reserved ahead so that not every send needs a note
 *   uncertain  what a receiver may hold: sent by this process, or noted by an earlier one and put before its crash
 *   doubtful   durable: what receivers that were given up may hold; sent to another, marked (H4)
 *
 * Invariants: whatever was sent to a receiver is noted for it; noted blocks of two receivers never overlap; a
 * sequence that is uncertain at one receiver is given to no other before that one has answered or was given up.
 * All is trimmed below `resolvedThrough`, so the book has a few ranges for each receiver in use.
 */
import { invariant, type Range, RangeSet } from "@millrace/base";
import type { SinkFeedback } from "@millrace/flow";

/** Sequences reserved ahead in one note by default. */
const reservedSequencesDefault = 16_384;

/** The notes of a sink, durably. */
export type NoteStore = Pick<SinkFeedback, "notes" | "setNotes" | "resolvedThrough" | "nextOffset">;

/** What is known of a run of sequences before it is sent. */
export interface Fate {
  /** The receiver that may have them; undefined = none: they may go to anyone. */
  readonly receiver: string | undefined;
  /** True: a receiver that was given up may have them. */
  readonly isDoubtful: boolean;
  /** Sequence after the last one this holds for. */
  readonly to: number;
}

interface StoredNote {
  readonly v: 1;
  readonly ranges: readonly Range[];
}

/** See the file's comment. */
export class ReceiverNotes {
  readonly #receiverPrefix: string;
  readonly #doubtfulKey: string;
  /** False for a channel in memory: nothing of it outlives the process. */
  readonly #isDurable: boolean;
  readonly #noted = new Map<string, RangeSet>();
  readonly #uncertain = new Map<string, RangeSet>();
  #doubtful = new RangeSet();
  readonly #reservedSequences: number;
  #store: NoteStore;
  /** Changes of the notes, one after the other. */
  #changing: Promise<void> = Promise.resolve();
  #reservingAhead: Promise<void> | undefined;

  constructor(
    channelId: string,
    store: NoteStore,
    options: { readonly isVolatile: boolean; readonly reservedSequences?: number },
  ) {
    this.#receiverPrefix = `receiver/${channelId}/`;
    this.#doubtfulKey = `doubtful/${channelId}`;
    this.#isDurable = !options.isVolatile;
    this.#reservedSequences = options.reservedSequences ?? reservedSequencesDefault;
    this.#store = store;
    if (!this.#isDurable) return;
    for (const [key, bytes] of store.notes(this.#receiverPrefix)) {
      const receiver = key.slice(this.#receiverPrefix.length);
      const noted = parse(bytes);
      this.#noted.set(receiver, noted);
      // What was not put yet cannot have been sent.
      const parts = noted.overlap(store.resolvedThrough, store.nextOffset);
      if (parts.length > 0) this.#uncertain.set(receiver, new RangeSet(parts));
    }
    const doubtful = store.notes(this.#doubtfulKey).get(this.#doubtfulKey);
    if (doubtful !== undefined) this.#doubtful = parse(doubtful);
  }

  /** The sink was opened again: `store` is its new one. */
  reopened(store: NoteStore): void {
    this.#store = store;
  }

  /** What is known of the run of sequences that begins at `sequence`, up to `to` at most. */
  fateAt(sequence: number, to: number): Fate {
    let end = to;
    let receiver: string | undefined;
    for (const [candidate, ranges] of this.#uncertain) {
      const run = runAt(ranges, sequence);
      if (run.isIn) receiver = candidate;
      end = Math.min(end, run.to);
    }
    const doubtful = runAt(this.#doubtful, sequence);
    return { receiver, isDoubtful: doubtful.isIn, to: Math.min(end, doubtful.to) };
  }

  /** Makes sure, durably, that [from, to) is noted for `receiver`. No other may be uncertain about any of it. */
  async reserve(receiver: string, from: number, to: number): Promise<void> {
    if (!this.#isNoted(receiver, from, to)) await this.#extend(receiver, from, to);
    else if (!this.#isNoted(receiver, to, to + Math.ceil(this.#reservedSequences / 2))) {
      // In good time, so that no send waits for it; a failure shows when the block is needed.
      this.#reservingAhead ??= this.#extend(receiver, to, to)
        .catch(() => undefined)
        .finally(() => {
          this.#reservingAhead = undefined;
        });
    }
  }

  /** [from, to) goes out to `receiver` now. */
  sent(receiver: string, from: number, to: number): void {
    invariant(this.#isNoted(receiver, from, to), "what is sent is noted first (H3)");
    const ranges = this.#uncertain.get(receiver) ?? new RangeSet();
    ranges.add(from, to);
    this.#uncertain.set(receiver, ranges);
  }

  /**
   * `receiver` has told what it holds, in a session that refuses everything sent before (H3): it has nothing else, and
   * the rest may go to anyone (H4).
   */
  answered(receiver: string, held: RangeSet): void {
    const before = this.#uncertain.get(receiver)?.ranges ?? [];
    const after = new RangeSet(before.flatMap(({ from, to }) => held.overlap(from, to)));
    if (after.isEmpty) this.#uncertain.delete(receiver);
    else this.#uncertain.set(receiver, after);
  }

  /** H4: `receiver` is given up. Returns how many sequences it may hold. */
  async giveUp(receiver: string): Promise<number> {
    let count = 0;
    await this.#serially(async () => {
      const ranges = this.#uncertain.get(receiver)?.ranges ?? [];
      const doubtful = new RangeSet([...this.#doubtful.ranges, ...ranges]);
      doubtful.removeBelow(this.#store.resolvedThrough);
      await this.#save(new Map([[receiver, new RangeSet()]]), doubtful);
      count = ranges.reduce((sum, { from, to }) => sum + to - from, 0);
      this.#doubtful = doubtful;
      this.#uncertain.delete(receiver);
    });
    return count;
  }

  #isNoted(receiver: string, from: number, to: number): boolean {
    return this.#noted.get(receiver)?.missing(from, to).length === 0;
  }

  #extend(receiver: string, from: number, to: number): Promise<void> {
    return this.#serially(async () => {
      const noted = new RangeSet(this.#noted.get(receiver)?.ranges ?? []);
      const changed = new Map([[receiver, noted]]);
      const before = noted.count;
      noted.add(from, to);
      const ahead = new RangeSet([{ from: to, to: to + this.#reservedSequences }]);
      for (const [other, ranges] of this.#noted) {
        if (other === receiver) continue;
        // Delivered long ago: its note goes.
        if ((ranges.ranges.at(-1)?.to ?? 0) <= this.#store.resolvedThrough)
          changed.set(other, new RangeSet());
        // Reserved and not sent there: it moves here, in the same entry of the journal.
        if (ranges.overlap(from, to).length > 0) {
          invariant(
            (this.#uncertain.get(other)?.overlap(from, to) ?? []).length === 0,
            "one receiver at most",
          );
          const rest = new RangeSet(ranges.ranges);
          rest.remove(from, to);
          changed.set(other, rest);
        }
        for (const block of ranges.ranges) ahead.remove(block.from, block.to);
      }
      for (const block of ahead.ranges) noted.add(block.from, block.to);
      if (noted.count === before) return;
      await this.#save(changed);
      this.#trim();
    });
  }

  /** Writes the notes of `changed`, then goes by them. An empty set removes the note. */
  async #save(changed: ReadonlyMap<string, RangeSet>, doubtful?: RangeSet): Promise<void> {
    const { resolvedThrough } = this.#store;
    for (const ranges of changed.values()) ranges.removeBelow(resolvedThrough);
    if (this.#isDurable) {
      const notes = [...changed].map(([receiver, ranges]) => ({
        key: this.#receiverPrefix + receiver,
        value: format(ranges),
      }));
      if (doubtful !== undefined) notes.push({ key: this.#doubtfulKey, value: format(doubtful) });
      await this.#store.setNotes(notes);
    }
    for (const [receiver, ranges] of changed) {
      if (ranges.isEmpty) this.#noted.delete(receiver);
      else this.#noted.set(receiver, ranges);
    }
  }

  #trim(): void {
    const { resolvedThrough } = this.#store;
    this.#doubtful.removeBelow(resolvedThrough);
    for (const [receiver, ranges] of this.#uncertain) {
      ranges.removeBelow(resolvedThrough);
      if (ranges.isEmpty) this.#uncertain.delete(receiver);
    }
  }

  #serially(change: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(change);
    this.#changing = done.catch(() => undefined);
    return done;
  }
}

/** Whether `position` is in the set, and where that changes. */
function runAt(ranges: RangeSet, position: number): { readonly isIn: boolean; readonly to: number } {
  const end = ranges.endOfRunAt(position);
  if (end > position) return { isIn: true, to: end };
  const following = ranges.ranges.find((range) => range.from > position);
  return { isIn: false, to: following?.from ?? Number.MAX_SAFE_INTEGER };
}

function parse(bytes: Uint8Array): RangeSet {
  return new RangeSet((JSON.parse(Buffer.from(bytes).toString()) as StoredNote).ranges);
}

function format(ranges: RangeSet): Uint8Array | null {
  const note: StoredNote = { v: 1, ranges: ranges.ranges };
  return ranges.isEmpty ? null : Buffer.from(JSON.stringify(note));
}
