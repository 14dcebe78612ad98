import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  advanceWireSequence,
  fromWireSequence,
  toWireSequence,
  wireDistance,
  wireSequenceModulus,
} from "./sequence.ts";

describe("P2: sequences are int64 inside and modulo 2^31 on the wire", () => {
  it("finds the position again from its wire form, anywhere within 2^30 of a known one", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2 ** 31, max: 2 ** 50 }),
        fc.integer({ min: -(2 ** 30) + 1, max: 2 ** 30 }),
        (near, distance) => {
          expect(fromWireSequence(toWireSequence(near + distance), near)).toBe(near + distance);
        },
      ),
    );
  });

  it("goes from 2^31 - 1 to 0", () => {
    expect(advanceWireSequence(wireSequenceModulus - 1, 1)).toBe(0);
    expect(wireDistance(wireSequenceModulus - 1, 0)).toBe(1);
    expect(wireDistance(0, wireSequenceModulus - 1)).toBe(-1);
  });
});
