import type { SinkRecord } from "@millrace/flow";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { counterKey, SequenceCounters } from "./counters.ts";
import {
  generationAt,
  partitionOf,
  pruned,
  type RoutingHistory,
  withGeneration,
  withoutTopic,
} from "./routing.ts";

const record = (offset: number, streamId?: string, key?: string): SinkRecord => ({
  offset,
  key: key === undefined ? null : Buffer.from(key),
  value: null,
  headers: [],
  timestampMs: 0,
  ...(streamId === undefined ? {} : { streamId }),
});

const topicA = { topic: "a", topicId: "A", partitionCount: 3, keyHeader: "" };
const history: RoutingHistory = { v: 1, generations: [{ ...topicA, start: 0 }] };

describe("A4: routing is a function of record, sequence and generation", () => {
  it("gives every record the same partition and producer sequence after a crash at any take position", () => {
    const streams = fc.array(fc.option(fc.constantFrom("x", "y", "z", "w"), { nil: undefined }), {
      minLength: 1,
      maxLength: 300,
    });
    fc.assert(
      fc.property(streams, fc.nat(300), fc.array(fc.nat(300), { maxLength: 5 }), (list, crashAt, reports) => {
        const routeAll = (counters: SequenceCounters, from: number): string[] =>
          list.slice(from).map((stream, i) => {
            const generation = generationAt(history, from + i);
            const key = counterKey(generation.topicId, partitionOf(record(from + i, stream), generation));
            return `${from + i} ${key} ${counters.route(from + i, key)}`;
          });
        const first = new SequenceCounters(0, undefined);
        const sent = routeAll(first, 0);
        const through = Math.min(crashAt, list.length);
        // progress is reported in arbitrary steps up to the crash
        for (const step of reports.filter((r) => r < through).sort((a, b) => a - b)) first.advance(step);
        const checkpoint = first.advance(through);
        const again = routeAll(new SequenceCounters(through, checkpoint), through);
        expect(again).toEqual(sent.slice(through));
      }),
    );
  });

  it("A5: a refused record uses no sequence, and a replay that leaves it out gives the others theirs", () => {
    const first = new SequenceCounters(0, undefined);
    expect(first.route(0, "p")).toBe(0);
    first.skip(1);
    expect(first.route(2, "p")).toBe(1);
    const checkpoint = first.advance(2);
    expect(new SequenceCounters(2, checkpoint).route(2, "p")).toBe(1);
  });

  it("keeps a stream in one partition, prefers an explicit key, and spreads the rest by chunks", () => {
    const generation = { ...topicA, start: 0 };
    const ofStream = new Set(
      Array.from({ length: 5000 }, (_, i) => partitionOf(record(i, "file"), generation)),
    );
    expect(ofStream.size).toBe(1);
    const spread = new Set(Array.from({ length: 5000 }, (_, i) => partitionOf(record(i), generation)));
    expect(spread.size).toBe(3);
    expect(partitionOf(record(1, "file", "k"), generation)).toBe(
      partitionOf(record(9, undefined, "k"), generation),
    );
  });

  it("refuses to route out of order", () => {
    const counters = new SequenceCounters(5, undefined);
    expect(() => counters.route(4, "p")).toThrow();
    counters.route(5, "p");
    expect(() => counters.route(5, "p")).toThrow();
  });
});

describe("A5: routing generations", () => {
  const topicB = { ...topicA, topic: "b", topicId: "B" };

  it("begin where nothing was put yet, and what was put before keeps the old routing", () => {
    const changed = withGeneration(history, topicB, { first: 10, later: 500 });
    expect(generationAt(changed, 499).topicId).toBe("A");
    expect(generationAt(changed, 500).topicId).toBe("B");
    expect(withGeneration(changed, topicB, { first: 10, later: 900 })).toBe(changed);
    expect(withGeneration(undefined, topicA, { first: 7, later: 900 }).generations[0]?.start).toBe(7);
  });

  it("L3: after a topic's deletion everything not delivered goes to the topic of the name", () => {
    const replaced = withoutTopic(history, "A", { ...topicA, topicId: "A2" }, 120);
    expect(replaced.generations).toEqual([{ ...topicA, topicId: "A2", start: 120 }]);
  });

  it("are forgotten when no sequence belongs to them any more", () => {
    const changed = withGeneration(history, topicB, { first: 0, later: 500 });
    expect(pruned(changed, 499)).toBe(changed);
    expect(pruned(changed, 500).generations.map((generation) => generation.topicId)).toEqual(["B"]);
  });
});
