/**
 * What is to be sent, what waits for a receiver's answer, and how far everything is done (rules H1, H3, H4), pure.
 *
 * A parcel is a run of consecutive channel sequences that may go to the present receiver. Parcels are sent in order and
 * answered in any. A *pinned* run may be at another receiver: it waits, without its records, until that one tells what
 * it holds or is given up; then what is left of it is taken from the channel again.
 */
import { invariant, type Range, RangeSet } from "@millrace/base";

/** Consecutive records to be sent as one. */
export interface Parcel<Payload> {
  readonly from: number;
  readonly to: number;
  readonly payload: Payload;
  /** True: a receiver that was given up may have it (H4). */
  readonly possibleDuplicate: boolean;
  isInFlight: boolean;
}

/** The unanswered parcels of one channel, in order of sequences. */
export class Dispatch<Payload> {
  readonly #parcels: Parcel<Payload>[] = [];
  /** By receiver; empty sets are removed. */
  readonly #pinned = new Map<string, RangeSet>();
  readonly #done = new RangeSet();
  #resolvedThrough: number;
  #nextSequence: number;

  constructor(start: number) {
    this.#resolvedThrough = start;
    this.#nextSequence = start;
  }

  /** Every sequence below is answered. */
  get resolvedThrough(): number {
    return this.#resolvedThrough;
  }

  /** Parcels not answered; their number is the caller's to bound. */
  get count(): number {
    return this.#parcels.length;
  }

  /** Receivers that pinned runs wait for. */
  get awaited(): string[] {
    return [...this.#pinned.keys()];
  }

  /** True when everything added is answered. */
  get isEmpty(): boolean {
    return this.#parcels.length === 0 && this.#pinned.size === 0;
  }

  /** Adds records to be sent. */
  add(from: number, to: number, payload: Payload, possibleDuplicate = false): void {
    this.#advance(from, to);
    this.#parcels.push({ from, to, payload, possibleDuplicate, isInFlight: false });
  }

  /** Notes sequences with nothing to send: no record has them, or the receiver holds them. */
  addDone(from: number, to: number): void {
    this.#advance(from, to);
    this.#finish(from, to);
  }

  /** Adds sequences that `receiver` may hold and that wait for it. */
  addPinned(from: number, to: number, receiver: string): void {
    this.#advance(from, to);
    const ranges = this.#pinned.get(receiver) ?? new RangeSet();
    ranges.add(from, to);
    this.#pinned.set(receiver, ranges);
  }

  /** The next parcel to send, in order. */
  next(): Parcel<Payload> | undefined {
    return this.#parcels.find(({ isInFlight }) => !isInFlight);
  }

  /** The parcel is at its receiver, or set aside. */
  answered(parcel: Parcel<Payload>): void {
    this.#parcels.splice(this.#indexOf(parcel), 1);
    this.#finish(parcel.from, parcel.to);
  }

  /** Replaces a parcel that was refused as a whole by pieces of it. */
  split(
    parcel: Parcel<Payload>,
    pieces: readonly { readonly from: number; readonly to: number; readonly payload: Payload }[],
  ): void {
    const parts = pieces.map((piece) => ({ ...parcel, ...piece, isInFlight: false }));
    this.#parcels.splice(this.#indexOf(parcel), 1, ...parts);
  }

  /**
   * `receiver` holds `held` of what is pinned to it, and nothing else of it. Returns what it does not hold: that can be
   * taken from the channel again and go to anyone.
   */
  told(receiver: string, held: RangeSet): readonly Range[] {
    const pinned = this.#pinned.get(receiver) ?? new RangeSet();
    for (const range of [...pinned.ranges]) {
      for (const { from, to } of held.overlap(range.from, range.to)) {
        pinned.remove(from, to);
        this.#finish(from, to);
      }
    }
    if (pinned.isEmpty) this.#pinned.delete(receiver);
    return pinned.ranges;
  }

  #indexOf(parcel: Parcel<Payload>): number {
    const index = this.#parcels.indexOf(parcel);
    invariant(index >= 0, "a parcel is answered once");
    return index;
  }

  #advance(from: number, to: number): void {
    invariant(from >= this.#nextSequence && to > from, "records come in order of their sequences");
    this.#nextSequence = to;
  }

  #finish(from: number, to: number): void {
    this.#done.add(from, to);
    this.#resolvedThrough = this.#done.endOfRunAt(this.#resolvedThrough);
    this.#done.removeBelow(this.#resolvedThrough);
  }
}
