/**
 * Producer sequences (rule P2): counted in int64 inside, carried mod 2^31 on the wire, compared in serial arithmetic.
 */

/** Sequences on the wire wrap here: 2^31 - 1 is followed by 0 (Kafka). */
export const wireSequenceModulus = 2 ** 31;

const halfWindow = 2 ** 30;

/** The wire form of an int64 position. */
export function toWireSequence(position: number): number {
  return position % wireSequenceModulus;
}

/** Signed distance from wire sequence `from` to `to`, in (-2^30, 2^30]; positive when `to` is ahead. */
export function wireDistance(from: number, to: number): number {
  const forward = (to - from + wireSequenceModulus) % wireSequenceModulus;
  return forward <= halfWindow ? forward : forward - wireSequenceModulus;
}

/** The int64 position whose wire form is `wire` and which lies nearest to `near`. */
export function fromWireSequence(wire: number, near: number): number {
  return near + wireDistance(toWireSequence(near), wire);
}

/** The wire sequence `count` after `wire`. */
export function advanceWireSequence(wire: number, count: number): number {
  return (wire + count) % wireSequenceModulus;
}
