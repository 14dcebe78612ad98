import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RangeSet } from "./range-set.ts";

const positions = 40;
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe("RangeSet", () => {
  it("agrees with a plain set of numbers after any sequence of additions and removals", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("add" as const), from: fc.nat(positions), length: fc.nat(6) }),
      fc.record({ kind: fc.constant("remove" as const), from: fc.nat(positions), length: fc.nat(6) }),
      fc.record({
        kind: fc.constant("removeBelow" as const),
        from: fc.nat(positions),
        length: fc.constant(0),
      }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.nat(positions), fc.nat(positions), (steps, a, b) => {
        const ranges = new RangeSet();
        const model = new Set<number>();
        for (const { kind, from, length } of steps) {
          if (kind === "add") {
            ranges.add(from, from + length);
            for (let p = from; p < from + length; p++) model.add(p);
          } else if (kind === "remove") {
            ranges.remove(from, from + length);
            for (let p = from; p < from + length; p++) model.delete(p);
          } else {
            ranges.removeBelow(from);
            for (const p of [...model]) if (p < from) model.delete(p);
          }
        }
        expect(ranges.count).toBe(model.size);
        for (let p = 0; p < positions + 8; p++) expect(ranges.has(p)).toBe(model.has(p));
        const [from, to] = a < b ? [a, b] : [b, a];
        const missing = ranges.missing(from, to).flatMap((gap) => numbers(gap.from, gap.to));
        expect(missing).toEqual(numbers(from, to).filter((p) => !model.has(p)));
        const overlap = ranges.overlap(from, to).flatMap((part) => numbers(part.from, part.to));
        expect(overlap).toEqual(numbers(from, to).filter((p) => model.has(p)));
        let run = a;
        while (model.has(run)) run++;
        expect(ranges.endOfRunAt(a)).toBe(run);
        for (let i = 1; i < ranges.ranges.length; i++) {
          expect((ranges.ranges[i] as { from: number }).from).toBeGreaterThan(
            (ranges.ranges[i - 1] as { to: number }).to,
          );
        }
      }),
    );
  });

  it("refuses ranges that are not ordered safe integers", () => {
    const ranges = new RangeSet();
    expect(() => ranges.add(5, 4)).toThrow();
    expect(() => ranges.add(-1, 4)).toThrow();
    expect(() => ranges.add(0.5, 4)).toThrow();
    expect(() => ranges.add(0, 2 ** 53)).toThrow();
  });
});
