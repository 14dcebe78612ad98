import type { BatchHeader } from "@millrace/record";
import { encodeBatch, readBatchHeader } from "@millrace/record";
import { describe, expect, it } from "vitest";
import { anonymousProducerExpiryMs, anonymousProducersMax } from "./limits.ts";
import { ProducerStates } from "./producer-state.ts";
import { namedProducerIdMin } from "./types.ts";

const named = namedProducerIdMin + 1;

function batch(
  producerId: number,
  producerEpoch: number,
  baseSequence: number,
  count = 1,
  timestampMs = 1000,
): BatchHeader {
  const record = { key: null, value: null, headers: [], timestampMs };
  return readBatchHeader(
    encodeBatch(
      Array.from({ length: count }, () => record),
      { producerId, producerEpoch, baseSequence },
    ),
  );
}

/** A state into which the batches went one after another, from offset 0. */
function stateAfter(...batches: BatchHeader[]): ProducerStates {
  const states = new ProducerStates();
  let offset = 0;
  for (const header of batches) {
    expect(states.check(header).kind).toBe("append");
    states.apply(header, offset, 0);
    offset += header.recordCount;
  }
  return states;
}

const refused = (reason: string, lastSequence: number): object => ({ kind: "refused", reason, lastSequence });

describe("P3 anonymous producers", () => {
  it("takes the next sequence and refuses a gap", () => {
    const states = stateAfter(batch(1, 0, 0, 3));
    expect(states.check(batch(1, 0, 3))).toEqual({ kind: "append" });
    expect(states.check(batch(1, 0, 4))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 2));
  });

  it("recognises the same batch within the window of five, with its offset", () => {
    const states = stateAfter(...[0, 1, 2, 3, 4, 5].map((sequence) => batch(1, 0, sequence)));
    for (const sequence of [1, 2, 3, 4, 5]) {
      expect(states.check(batch(1, 0, sequence))).toEqual({
        kind: "duplicate",
        baseOffset: sequence,
        throughOffset: sequence,
      });
    }
    expect(states.check(batch(1, 0, 0))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 5));
  });

  it("refuses other cuts of what it has: anonymous producers do not re-batch", () => {
    const states = stateAfter(batch(1, 0, 0, 3), batch(1, 0, 3, 3));
    expect(states.check(batch(1, 0, 2, 2))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 5));
    expect(states.check(batch(1, 0, 5, 2))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 5));
  });

  it("refuses an unknown producer whose sequence is not 0", () => {
    expect(new ProducerStates().check(batch(1, 0, 1))).toEqual(refused("UNKNOWN_PRODUCER", -1));
    expect(new ProducerStates().check(batch(1, 0, 0))).toEqual({ kind: "append" });
  });

  it("P1: a higher epoch starts at 0, a lower one is fenced", () => {
    const states = stateAfter(batch(1, 4, 0, 2));
    expect(states.check(batch(1, 3, 2))).toEqual(refused("PRODUCER_FENCED", 1));
    expect(states.check(batch(1, 5, 2))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 1));
    expect(states.check(batch(1, 5, 0))).toEqual({ kind: "append" });
    states.apply(batch(1, 5, 0), 2, 0);
    expect(states.check(batch(1, 5, 0))).toEqual({ kind: "duplicate", baseOffset: 2, throughOffset: 2 });
    expect(states.check(batch(1, 5, 1))).toEqual({ kind: "append" });
  });

  it("P2: nobody takes over from an anonymous producer, whose id may be 0 like none", () => {
    const states = stateAfter(batch(0, 0, 0, 3));
    expect(states.check(batch(named, 0, 3), 0)).toEqual(refused("UNKNOWN_PRODUCER", -1));
    expect(states.check(batch(named, 0, 0), 0)).toEqual({ kind: "append" });
    expect(states.check(batch(1, 0, 3), 0)).toEqual(refused("UNKNOWN_PRODUCER", -1));
  });

  it("P2: sequences wrap at 2^31 - 1", () => {
    const states = new ProducerStates();
    states.apply(batch(1, 0, 2 ** 31 - 2, 4), 10, 0);
    expect(states.check(batch(1, 0, 2))).toEqual({ kind: "append" });
    expect(states.check(batch(1, 0, 2 ** 31 - 2, 4))).toEqual({
      kind: "duplicate",
      baseOffset: 10,
      throughOffset: 13,
    });
    expect(states.check(batch(1, 0, 3))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 1));
  });

  it("lets batches without a producer through", () => {
    expect(new ProducerStates().check(batch(-1, -1, -1))).toEqual({ kind: "append" });
  });
});

describe("P3 P1 named producers", () => {
  it("counts every sequence up to the last as held, however it is batched", () => {
    const states = stateAfter(batch(named, 0, 0, 5), batch(named, 0, 5, 5));
    expect(states.check(batch(named, 0, 3, 4))).toEqual({
      kind: "duplicate",
      baseOffset: 3,
      throughOffset: 6,
    });
    for (let sequence = 10; sequence < 16; sequence++) states.apply(batch(named, 0, sequence), sequence, 0);
    expect(states.check(batch(named, 0, 0, 5))).toEqual({
      kind: "duplicate",
      baseOffset: -1,
      throughOffset: 15,
    });
  });

  it("tells the last sequence of a batch that is partly there", () => {
    const states = stateAfter(batch(named, 0, 0, 5));
    expect(states.check(batch(named, 0, 3, 5))).toEqual({ kind: "partlyPresent", lastSequence: 4 });
  });

  it("goes on with its sequence under a higher epoch, fences a lower one, refuses gaps", () => {
    const states = stateAfter(batch(named, 1, 0, 5));
    expect(states.check(batch(named, 2, 5))).toEqual({ kind: "append" });
    expect(states.check(batch(named, 2, 0, 5))).toEqual({
      kind: "duplicate",
      baseOffset: 0,
      throughOffset: 4,
    });
    expect(states.check(batch(named, 0, 5))).toEqual(refused("PRODUCER_FENCED", 4));
    expect(states.check(batch(named, 2, 6))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 4));
  });
});

describe("P4 producer state as a function of the log", () => {
  it("survives snapshot and restore with the last batch", () => {
    const states = stateAfter(batch(1, 2, 0, 3), batch(1, 2, 3, 4), batch(named, 0, 0, 2));
    const restored = new ProducerStates();
    restored.restore(states.snapshot(), 0);
    expect(restored.snapshot()).toEqual(states.snapshot());
    expect(restored.check(batch(1, 2, 3, 4))).toEqual({ kind: "duplicate", baseOffset: 3, throughOffset: 6 });
    expect(restored.check(batch(1, 2, 7))).toEqual({ kind: "append" });
  });

  it("after a restart an older sequence of the same epoch counts as held, until the window is full again", () => {
    const states = stateAfter(...[0, 1, 2, 3].map((sequence) => batch(1, 0, sequence)));
    const restored = new ProducerStates();
    restored.restore(states.snapshot(), 0);
    expect(restored.check(batch(1, 0, 1))).toEqual({ kind: "duplicate", baseOffset: -1, throughOffset: 3 });
    for (let sequence = 4; sequence < 9; sequence++) restored.apply(batch(1, 0, sequence), sequence, 0);
    expect(restored.check(batch(1, 0, 1))).toEqual(refused("OUT_OF_ORDER_SEQUENCE", 8));
  });

  it("P1: forgets anonymous producers after a day by both clocks, named ones never", () => {
    const forgotten: number[] = [];
    const states = new ProducerStates((producerId) => forgotten.push(producerId));
    const day = anonymousProducerExpiryMs;
    states.apply(batch(1, 0, 0, 1, 0), 0, 0);
    states.apply(batch(2, 0, 0, 1, 0), 1, day);
    states.apply(batch(3, 0, 0, 1, day), 2, 0);
    states.apply(batch(named, 0, 0, 1, 0), 3, 0);
    states.expire(day + 1);
    expect(forgotten).toEqual([1]);
    states.expire(10 * day);
    expect(forgotten).toEqual([1, 2, 3]);
    expect(states.snapshot().map((entry) => entry.producerId)).toEqual([named]);
  });

  it("bounds the anonymous producers it remembers and keeps the named ones", () => {
    let forgotten = 0;
    const states = new ProducerStates(() => forgotten++);
    states.apply(batch(named, 0, 0), 0, 0);
    const header = batch(1, 0, 0);
    for (let id = 1; id <= anonymousProducersMax + 1; id++)
      states.apply({ ...header, producerId: id }, id, id);
    expect(states.count).toBeLessThanOrEqual(anonymousProducersMax + 1);
    expect(forgotten).toBeGreaterThan(0);
    expect(states.lastOffsetOf(named)).toBe(0);
    expect(states.lastOffsetOf(anonymousProducersMax + 1)).toBe(anonymousProducersMax + 1);
  });
});
