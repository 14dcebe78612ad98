import { RangeSet } from "@millrace/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Dispatch, type Parcel } from "./dispatch.ts";

const lengths = fc.array(
  fc.record({
    kind: fc.constantFrom("parcel" as const, "done" as const, "pinned" as const),
    length: fc.integer({ min: 1, max: 5 }),
  }),
  { minLength: 1, maxLength: 30 },
);

function sendAll(dispatch: Dispatch<string>): Parcel<string>[] {
  const sent: Parcel<string>[] = [];
  for (let parcel = dispatch.next(); parcel !== undefined; parcel = dispatch.next()) {
    parcel.isInFlight = true;
    sent.push(parcel);
  }
  return sent;
}

describe("the dispatch of the agent sink", () => {
  it("H1: resolves the contiguous prefix of what is answered, whatever the order of answers", () => {
    fc.assert(
      fc.property(lengths, fc.infiniteStream(fc.nat()), (runs, dice) => {
        const dispatch = new Dispatch<string>(7);
        const open = new Set<number>();
        let next = 7;
        for (const { kind, length } of runs) {
          const to = next + length;
          if (kind === "parcel") dispatch.add(next, to, "payload");
          else if (kind === "done") dispatch.addDone(next, to);
          else dispatch.addPinned(next, to, "x");
          if (kind !== "done") for (let s = next; s < to; s++) open.add(s);
          next = to;
        }
        const sent = sendAll(dispatch);
        expect(sent.map(({ from }) => from)).toEqual(sent.map(({ from }) => from).sort((a, b) => a - b));
        let toldAt = 3;
        while (sent.length > 0) {
          const roll = dice.next().value as number;
          const [parcel] = sent.splice(roll % sent.length, 1) as [Parcel<string>];
          if (toldAt-- === 0) {
            dispatch.told("x", new RangeSet([{ from: 0, to: next }]));
            for (const range of runsOf(runs, "pinned"))
              for (let s = range.from; s < range.to; s++) open.delete(s);
          }
          dispatch.answered(parcel);
          for (let s = parcel.from; s < parcel.to; s++) open.delete(s);
          expect(dispatch.resolvedThrough).toBe(Math.min(next, ...open));
        }
        dispatch.told("x", new RangeSet([{ from: 0, to: next }]));
        expect(dispatch.isEmpty).toBe(true);
        expect(dispatch.resolvedThrough).toBe(next);
      }),
    );
  });

  it("H3: what is pinned to a receiver is not sent, and only what it does not hold is left", () => {
    const dispatch = new Dispatch<string>(0);
    dispatch.addPinned(0, 10, "x");
    dispatch.add(10, 12, "free");
    dispatch.addPinned(12, 15, "y");
    expect(sendAll(dispatch).map(({ from }) => from)).toEqual([10]);
    expect(dispatch.awaited).toEqual(["x", "y"]);
    const left = dispatch.told(
      "x",
      new RangeSet([
        { from: 0, to: 4 },
        { from: 9, to: 11 },
      ]),
    );
    expect(left).toEqual([{ from: 4, to: 9 }]);
    expect(dispatch.resolvedThrough).toBe(4);
    expect(dispatch.told("y", new RangeSet([{ from: 0, to: 20 }]))).toEqual([]);
    expect(dispatch.awaited).toEqual(["x"]);
  });

  it("sends the pieces of a refused parcel in its place, with its mark (H4)", () => {
    const dispatch = new Dispatch<string>(0);
    dispatch.add(0, 4, "abcd", true);
    dispatch.add(4, 6, "ef");
    const [first, second] = sendAll(dispatch) as [Parcel<string>, Parcel<string>];
    dispatch.split(first, [
      { from: 0, to: 2, payload: "ab" },
      { from: 2, to: 4, payload: "cd" },
    ]);
    expect(() => dispatch.answered(first)).toThrow("answered once");
    const pieces = sendAll(dispatch);
    expect(pieces.map(({ payload, possibleDuplicate }) => [payload, possibleDuplicate])).toEqual([
      ["ab", true],
      ["cd", true],
    ]);
    dispatch.answered(second);
    for (const piece of pieces) dispatch.answered(piece);
    expect(dispatch.resolvedThrough).toBe(6);
    expect(dispatch.isEmpty).toBe(true);
  });

  it("refuses records out of order", () => {
    const dispatch = new Dispatch<string>(5);
    expect(() => dispatch.add(4, 6, "")).toThrow("in order");
    dispatch.add(5, 6, "");
    expect(() => dispatch.addDone(5, 7)).toThrow("in order");
  });
});

function runsOf(
  runs: readonly { readonly kind: string; readonly length: number }[],
  kind: string,
): { from: number; to: number }[] {
  let next = 7;
  return runs.flatMap((run) => {
    const range = { from: next, to: next + run.length };
    next = range.to;
    return run.kind === kind ? [range] : [];
  });
}
