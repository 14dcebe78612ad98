/** The producer against a model of a partition's leader: Kafka's sequence rules, with faults as a seed decides. */
import { AppError, advanceWireSequence, Prng, type Reason } from "@millrace/base";
import { decodeBatch, readBatchHeader } from "@millrace/record";
import { type Clock, systemClock } from "@millrace/runtime";
import { describe, expect, it } from "vitest";
import type { TopicInfo } from "./metadata-cache.ts";
import type { ProduceCall } from "./produce-stream.ts";
import { Producer } from "./producer.ts";
import type { ProducerOptions } from "./producer-api.ts";

const topic: TopicInfo = {
  topicId: "t",
  name: "t",
  partitions: [{ partition: 0, leaderId: "a", leaderAddress: "a:1", leaderEpoch: 1 }],
  config: {},
  createdMs: 0,
};

/** Back-offs cost nothing. */
const hastyClock: Clock = {
  nowMs: () => systemClock.nowMs(),
  monotonicMs: () => systemClock.monotonicMs(),
  after: (delayMs, run) => systemClock.after(delayMs, run),
  sleep: (delayMs) => systemClock.sleep(Math.min(delayMs, 1)),
};

/** One partition's log and what it knows of producers. */
class ModelLeader {
  readonly log: string[] = [];
  recordBytesMax = Infinity;
  /** False: batches arrive, nothing is answered. */
  answers = true;
  unanswered = 0;
  readonly #producers = new Map<
    number,
    { last: number; batches: { first: number; last: number; offset: number }[] }
  >();

  /** Forgets all producers, as after their expiry. */
  forget(): void {
    this.#producers.clear();
  }

  to(): { send(call: ProduceCall): void } {
    return { send: (call) => setImmediate(() => this.receive(call)) };
  }

  receive(call: ProduceCall): void {
    const reply = this.decide(call);
    if (this.answers) reply();
    else this.unanswered++;
  }

  /** Appends or refuses now; the reply is given by the caller, or never. */
  decide(call: ProduceCall): () => void {
    const header = readBatchHeader(call.bytes);
    const records = decodeBatch(call.bytes);
    const known = this.#producers.get(header.producerId);
    const first = header.baseSequence;
    const last = advanceWireSequence(first, header.lastOffsetDelta);
    const same = known?.batches.find((batch) => batch.first === first && batch.last === last);
    if (same !== undefined)
      return () => call.onAnswer({ baseOffset: same.offset, isDuplicate: true, leaderEpoch: 1 });
    if (known === undefined && first !== 0) return refusal(call, "UNKNOWN_PRODUCER");
    if (known !== undefined && first !== advanceWireSequence(known.last, 1))
      return refusal(call, "OUT_OF_ORDER_SEQUENCE");
    if (records.some((record) => (record.value?.length ?? 0) > this.recordBytesMax))
      return refusal(call, "RECORD_TOO_LARGE");
    const offset = this.log.length;
    this.log.push(...records.map((record) => Buffer.from(record.value ?? []).toString()));
    const batches = [...(known?.batches ?? []), { first, last, offset }].slice(-5);
    this.#producers.set(header.producerId, { last, batches });
    return () => call.onAnswer({ baseOffset: offset, isDuplicate: false, leaderEpoch: 1 });
  }
}

function refusal(call: ProduceCall, reason: Reason): () => void {
  return () =>
    call.onFailure({ error: new AppError(reason, reason), isUnanswered: false, isStreamFailure: false });
}

function producerOf(
  leader: { to(address: string): { send(call: ProduceCall): void } },
  options: ProducerOptions = {},
): Producer {
  let nextId = 0;
  return new Producer(
    { lingerMs: 0, batchBytes: 200, ...options },
    {
      streams: leader,
      cache: { byName: async () => topic, peek: () => topic, isGone: async () => false },
      clock: hastyClock,
      newIdentity: async () => ({ producerId: ++nextId, producerEpoch: 0, previousProducerId: 0 }),
    },
  );
}

function values(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => `value ${String(from + i).padStart(6, "0")}`);
}

describe("Producer", () => {
  it("P3: faults of every kind: each record in the log once, in order, each ack names its offset", async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const prng = new Prng(seed);
      const leader = new ModelLeader();
      const broken = new AppError("UNAVAILABLE", "broken");
      let queue: (() => void)[] = [];
      const faulty = {
        to: () => ({
          send: (call: ProduceCall) => {
            // in order of arrival, as on one stream
            queue.push(() => {
              const isLost = prng.chance(0.05);
              const isRefused = prng.chance(0.1);
              if (isRefused) return refusal(call, prng.pick(["DISK_FULL", "NOT_LEADER"] as const))();
              const reply = isLost ? undefined : leader.decide(call);
              if (isLost || prng.chance(0.1))
                call.onFailure({ error: broken, isUnanswered: true, isStreamFailure: true });
              else reply?.();
            });
            setImmediate(() => queue.shift()?.());
          },
        }),
      };
      const producer = producerOf(faulty);
      const sent = values(300);
      const acks = await Promise.all(sent.map((value) => producer.send("t", { value })));
      expect(leader.log, `seed ${seed}`).toEqual(sent);
      expect(
        acks.map((ack) => ack.offset),
        `seed ${seed}`,
      ).toEqual(sent.map((_, i) => i));
      await producer.close();
      queue = [];
    }
  });

  it("a record that is refused for good fails alone; what was in its batch and in flight behind it arrives, once", async () => {
    const leader = new ModelLeader();
    leader.recordBytesMax = 100;
    const producer = producerOf(leader);
    const sent = values(60);
    const group = producer.sendMany(
      "t",
      values(5, 60).map((value) => ({ value })),
    );
    const outcomes = await Promise.allSettled(
      sent.map((value, i) => producer.send("t", { value: i % 20 === 10 ? "x".repeat(150) : value })),
    );
    const refused = outcomes.flatMap((outcome, i) => (outcome.status === "rejected" ? [i] : []));
    expect(refused).toEqual([10, 30, 50]);
    expect(leader.log).toEqual([...values(5, 60), ...sent.filter((_, i) => !refused.includes(i))]);
    const offsets = outcomes.flatMap((outcome) =>
      outcome.status === "fulfilled" ? [outcome.value.offset] : [],
    );
    expect(offsets.map((offset) => leader.log[offset])).toEqual(sent.filter((_, i) => !refused.includes(i)));
    expect((await group).reduce((sum, range) => sum + range.count, 0)).toBe(5);
    await producer.flush();
    expect(producer.bufferedBytes).toBe(0);
    await producer.close();
  });

  it("P1: an anonymous producer that the partition has forgotten goes on under a new id and loses nothing", async () => {
    const leader = new ModelLeader();
    const producer = producerOf(leader);
    await Promise.all(values(20).map((value) => producer.send("t", { value })));
    leader.forget();
    await Promise.all(values(20, 20).map((value) => producer.send("t", { value })));
    expect(leader.log).toEqual(values(40));
    await producer.close();
  });

  it("what may be in the log when its time is over is given up, never sent again under another id", async () => {
    const leader = new ModelLeader();
    const producer = producerOf(leader, { deliveryTimeoutMs: 150 });
    await producer.send("t", { value: "first" });
    leader.answers = false;
    const outcomes = await Promise.allSettled(values(30).map((value) => producer.send("t", { value })));
    const reasons = outcomes.map((outcome) =>
      outcome.status === "rejected" ? AppError.from(outcome.reason).reason : "acked",
    );
    expect(new Set(reasons)).toEqual(new Set(["TIMED_OUT"]));
    expect(leader.unanswered).toBeGreaterThan(0);
    leader.answers = true;
    await producer.send("t", { value: "after" });
    expect(leader.log.filter((value) => value === "after")).toHaveLength(1);
    expect(new Set(leader.log).size).toBe(leader.log.length);
    await producer.close();
  });

  it("a record the format cannot hold fails itself; flush does not wait for it", async () => {
    const leader = new ModelLeader();
    const producer = producerOf(leader);
    const bad = producer.send("t", { value: "x", timestampMs: 0.5 });
    await expect(bad).rejects.toMatchObject({ reason: "INVALID_RECORD" });
    await producer.flush();
    const group = producer.sendMany("t", [
      { value: "a" },
      { value: "b", timestampMs: Number.NaN },
      { value: "c" },
    ]);
    await expect(group).rejects.toMatchObject({ reason: "INVALID_RECORD" });
    expect(leader.log).toEqual(["a", "c"]);
    expect(producer.bufferedBytes).toBe(0);
    await producer.close();
  });

  it("accepts only so many bytes, and so many waiting sends; closing tells those that wait", async () => {
    const leader = new ModelLeader();
    leader.answers = false;
    const producer = producerOf(leader, { bufferBytes: 1_000 });
    const outcomes = Array.from({ length: 100_200 }, () => producer.send("t", { value: "x".repeat(40) }));
    const settled = Promise.allSettled(outcomes);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(producer.bufferedBytes).toBeLessThanOrEqual(1_000);
    producer.abort(new AppError("CANCELLED", "stopped"));
    const reasons = new Map<string, number>();
    for (const outcome of await settled) {
      const reason = outcome.status === "rejected" ? AppError.from(outcome.reason).reason : "acked";
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    }
    expect(reasons.get("LIMIT_EXCEEDED")).toBeGreaterThan(0);
    expect([...reasons.keys()].sort()).toEqual(["CANCELLED", "LIMIT_EXCEEDED"]);
    await expect(producer.send("t", { value: "late" })).rejects.toMatchObject({ reason: "CANCELLED" });
  });

  it("refuses settings that would break the rules", () => {
    expect(() => producerOf(new ModelLeader(), { maxInFlightPerPartition: 6 })).toThrow(/at most 5/);
  });
});
