/**
 * What is to be sent where (rules H1, H3, H4), pure.
 *
 * A parcel is a run of consecutive channel sequences. It is free to go to the receiver that the name leads to, or
 * pinned to the one receiver that may have it already. Parcels are sent in order, answered in any.
 */
import { invariant, RangeSet } from "@millrace/base";

/** Consecutive records to be sent as one. */
export interface Parcel<Payload> {
  readonly from: number;
  readonly to: number;
  readonly payload: Payload;
  /** Directory id of the only receiver it may go to; undefined = any. */
  readonly pinnedTo: string | undefined;
  /** True: a receiver that was given up may have it (H4). */
  readonly possibleDuplicate: boolean;
  isInFlight: boolean;
}

/** The unanswered parcels of one channel, in order of sequences. */
export class Dispatch<Payload> {
  #parcels: Parcel<Payload>[] = [];
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

  /** Parcels not answered. */
  get count(): number {
    return this.#parcels.length;
  }

  /** Sequence after the last one added. */
  get nextSequence(): number {
    return this.#nextSequence;
  }

  /** Adds records to be sent, to `pinnedTo` only or to anyone. */
  add(
    from: number,
    to: number,
    payload: Payload,
    pinnedTo: string | undefined,
    possibleDuplicate = false,
  ): void {
    this.#advance(from, to);
    this.#parcels.push({ from, to, payload, pinnedTo, possibleDuplicate, isInFlight: false });
  }

  /** Notes records that a receiver has said it holds: nothing to send. */
  addHeld(from: number, to: number): void {
    this.#advance(from, to);
    this.#finish(from, to);
  }

  /** The next parcel for `receiver`, in order; `isPrimary`: it gets what is free, too. */
  next(receiver: string, isPrimary: boolean): Parcel<Payload> | undefined {
    return this.#parcels.find(
      ({ isInFlight, pinnedTo }) =>
        !isInFlight && (pinnedTo === receiver || (pinnedTo === undefined && isPrimary)),
    );
  }

  /** True while something waits for `receiver` alone. */
  isAwaited(receiver: string): boolean {
    return this.#parcels.some(({ pinnedTo }) => pinnedTo === receiver);
  }

  /** The parcel is at its receiver, or set aside. */
  answered(parcel: Parcel<Payload>): void {
    this.#parcels = this.#parcels.filter((other) => other !== parcel);
    this.#finish(parcel.from, parcel.to);
  }

  /** Replaces a parcel that was refused as a whole by pieces of it. */
  split(
    parcel: Parcel<Payload>,
    pieces: readonly { readonly from: number; readonly to: number; readonly payload: Payload }[],
  ): void {
    const parts = pieces.map((piece) => ({ ...parcel, ...piece, isInFlight: false }));
    this.#parcels.splice(this.#parcels.indexOf(parcel), 1, ...parts);
  }

  /** H4: `receiver` is given up; what waited for it may go anywhere, marked. Returns how many records that are. */
  free(receiver: string): number {
    let count = 0;
    this.#parcels = this.#parcels.map((parcel) => {
      if (parcel.pinnedTo !== receiver) return parcel;
      count += parcel.to - parcel.from;
      return { ...parcel, pinnedTo: undefined, possibleDuplicate: true, isInFlight: false };
    });
    return count;
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
