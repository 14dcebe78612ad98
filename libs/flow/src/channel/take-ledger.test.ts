import { Prng } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { TakeLedger } from "./take-ledger.ts";

describe("TakeLedger", () => {
  it("gives free runs in order, skipping what is committed above the position", () => {
    const ledger = new TakeLedger(5, [{ from: 8, to: 10 }]);
    expect(ledger.nextFree(20)).toEqual({ from: 5, to: 8 });
    ledger.take(5, 8);
    expect(ledger.nextFree(20)).toEqual({ from: 10, to: 20 });
    expect(ledger.nextFree(10)).toBeUndefined();
    ledger.commit(5, 8);
    expect(ledger.position).toBe(10);
  });

  it("refuses to commit or roll back what is not outstanding", () => {
    const ledger = new TakeLedger();
    expect(() => ledger.commit(0, 1)).toThrow("outstanding");
    ledger.take(0, 10);
    expect(() => ledger.take(5, 6)).toThrow("taken twice");
    ledger.commit(4, 6);
    expect(() => ledger.rollback(3, 5)).toThrow("outstanding");
    expect(() => ledger.commit(5, 7)).toThrow("outstanding");
    ledger.rollback(6, 10);
    expect(ledger.nextFree(10)).toEqual({ from: 6, to: 10 });
  });

  it("a restored ledger settles ranges that touch the position", () => {
    const ledger = new TakeLedger(3, [
      { from: 3, to: 5 },
      { from: 7, to: 8 },
    ]);
    expect([ledger.position, ledger.committedCount, ledger.outstandingCount]).toEqual([5, 1, 0]);
  });

  it("agrees with a state per record, whatever takes, commits and rollbacks come (A1, A2)", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Prng(seed);
      const ledger = new TakeLedger();
      const states: ("free" | "taken" | "done")[] = [];
      const ranges: { from: number; to: number }[] = [];
      let end = 0;
      for (let step = 0; step < 60; step++) {
        end += random.nextInt(0, 5);
        while (states.length < end) states.push("free");
        const choice = random.nextInt(0, 2);
        const free = ledger.nextFree(end);
        expect(free?.from).toBe(states.indexOf("free") < 0 ? undefined : states.indexOf("free"));
        if (choice === 0 && free !== undefined) {
          const to = random.nextInt(free.from + 1, free.to);
          ledger.take(free.from, to);
          states.fill("taken", free.from, to);
          ranges.push({ from: free.from, to });
        } else if (ranges.length > 0) {
          const [range] = ranges.splice(random.nextInt(0, ranges.length - 1), 1);
          const { from, to } = range!;
          const middle = random.nextInt(from, to);
          ledger.commit(from, middle);
          states.fill("done", from, middle);
          if (choice === 1) {
            ledger.rollback(middle, to);
            states.fill("free", middle, to);
          } else if (middle < to) ranges.push({ from: middle, to });
        }
        const position = states.findIndex((state) => state !== "done");
        expect(ledger.position).toBe(position < 0 ? states.length : position);
        expect(ledger.outstandingCount).toBe(states.filter((state) => state === "taken").length);
      }
    }
  });
});
