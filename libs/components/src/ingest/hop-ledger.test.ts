import { AppError } from "@millrace/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  checkCurrent,
  formatLedger,
  isOver,
  type LedgerState,
  missingRanges,
  openLedger,
  parseLedger,
  type TransferSender,
  withHeld,
  withResolved,
} from "./hop-ledger.ts";

const sender = (overrides: Partial<TransferSender> = {}): TransferSender => ({
  agentId: "A",
  agentName: "a",
  channelId: "C",
  starts: ["s1"],
  startNumber: 1,
  session: 1,
  resolvedThrough: 0,
  isVolatile: false,
  ...overrides,
});

function reasonOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return AppError.from(error).reason;
  }
  return "none";
}

const positions = 60;
const step = fc.record({
  do: fc.constantFrom("put" as const, "resolve" as const, "open" as const),
  from: fc.nat(positions),
  length: fc.integer({ min: 1, max: 12 }),
});

describe("the receiver's ledger", () => {
  it("H2: every sequence is new exactly once, and below what is resolved none ever", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const taken = new Set<number>();
        let session = 1;
        let resolved = 0;
        let state: LedgerState = openLedger(undefined, sender());
        for (const one of steps) {
          // as after a restart: all there is of it is what is stored
          state = parseLedger(formatLedger(state));
          if (one.do === "put") {
            for (const { from, to } of missingRanges(state, one.from, one.from + one.length)) {
              for (let s = from; s < to; s++) {
                expect(taken.has(s) || s < resolved, `${s} is taken again`).toBe(false);
                taken.add(s);
              }
            }
            state = withHeld(state, one.from, one.from + one.length);
            expect(missingRanges(state, one.from, one.from + one.length)).toEqual([]);
          } else if (one.do === "resolve") {
            resolved = Math.max(resolved, one.from);
            state = withResolved(state, one.from);
          } else
            state = openLedger(
              state,
              sender({ session: ++session, resolvedThrough: one.from < resolved ? one.from : resolved }),
            );
          expect(state.resolvedThrough).toBe(resolved);
          expect(state.held.every(({ from, to }) => from >= resolved && to > from)).toBe(true);
        }
      }),
    );
  });

  it("H2: is as small as there are gaps, however many records it has seen", () => {
    let state = openLedger(undefined, sender());
    for (let from = 0; from < 100_000; from += 100) state = withHeld(state, from, from + 100);
    expect(state.held).toEqual([{ from: 0, to: 100_000 }]);
    state = withResolved(state, 100_000);
    expect(state.held).toEqual([]);
    expect(formatLedger(state).byteLength).toBeLessThan(200);
  });

  it("H3: a lower start or session is stale, an equal or higher one is current", () => {
    const state = openLedger(undefined, sender({ starts: ["s1", "s2"], startNumber: 2, session: 5 }));
    const reason = (startNumber: number, session: number): string =>
      reasonOf(() => checkCurrent(state, { startNumber, session }));
    expect(reason(2, 5)).toBe("none");
    expect(reason(2, 6)).toBe("none");
    expect(reason(3, 1)).toBe("none");
    expect(reason(2, 4)).toBe("STALE_SESSION");
    expect(reason(1, 9)).toBe("STALE_SESSION");
    const old = sender({ starts: ["s1", "s2"], startNumber: 2, session: 4 });
    expect(reasonOf(() => openLedger(state, old))).toBe("STALE_SESSION");
  });

  it("L1: only a history that contains the last start seen goes on", () => {
    const state = openLedger(undefined, sender({ starts: ["s1", "s2"], startNumber: 2 }));
    const next = sender({ starts: ["s1", "s2", "s3"], startNumber: 3 });
    expect(openLedger(state, next).start).toBe("s3");
    const copy = sender({ starts: ["s1", "t2"], startNumber: 2, session: 9 });
    expect(reasonOf(() => openLedger(state, copy))).toBe("LINEAGE_REFUSED");
    expect(() => openLedger(state, copy)).toThrow("identity");
  });

  it("a ledger of a channel in memory is over with its start", () => {
    const volatile = openLedger(undefined, sender({ isVolatile: true }));
    expect(isOver(volatile, 1)).toBe(false);
    expect(isOver(volatile, 2)).toBe(true);
    expect(isOver(openLedger(undefined, sender()), 2)).toBe(false);
  });
});
