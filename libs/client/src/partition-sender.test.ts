/** A sender against a model of a leader (rule P3) that refuses, forgets to answer and breaks, as a seed decides. */
import { AppError, Prng, type Reason } from "@millrace/base";
import { type Clock, systemClock } from "@millrace/runtime";
import { describe, expect, it } from "vitest";
import type { TopicInfo } from "./metadata-cache.ts";
import { PartitionSender, type SenderBatch } from "./partition-sender.ts";
import type { ProduceAnswer, ProduceCall } from "./produce-stream.ts";

const topic: TopicInfo = {
  topicId: "t",
  name: "t",
  partitions: [{ partition: 0, leaderId: "a", leaderAddress: "a:1", leaderEpoch: 1 }],
  config: {},
  createdMs: 0,
};

/** Time that passes as soon as everybody waits: back-offs cost nothing. */
const hastyClock: Clock = {
  ...systemClock,
  nowMs: () => 0,
  monotonicMs: () => systemClock.monotonicMs(),
  after: (delayMs, run) => systemClock.after(Math.min(delayMs, 2), run),
  sleep: () => new Promise((resolve) => setImmediate(resolve)),
};

/** Takes only the next number, as a leader takes only the next sequence. */
class ModelLeader {
  readonly log: number[] = [];
  readonly #prng: Prng;
  readonly #faults: number;
  #pending: (() => void)[] = [];

  constructor(seed: number, faults: number) {
    this.#prng = new Prng(seed);
    this.#faults = faults;
  }

  to(): { send(call: ProduceCall): void } {
    return { send: (call) => this.#receive(call) };
  }

  #receive(call: ProduceCall): void {
    const number = call.bytes[0] as number;
    const answer = this.#answer(call, number);
    if (this.#prng.chance(this.#faults / 2)) {
      // the stream breaks: nothing that is out is answered, this batch may have arrived or not
      if (this.#prng.chance(0.5)) answer();
      const error = new AppError("UNAVAILABLE", "broken");
      this.#pending.length = 0;
      queueMicrotask(() => call.onFailure({ error, isUnanswered: true, isStreamFailure: true }));
      return;
    }
    const reply = answer();
    this.#pending.push(reply);
    setImmediate(() => {
      // answers come in any order
      const index = this.#prng.nextInt(0, this.#pending.length);
      this.#pending.splice(index, 1)[0]?.();
      if (index > 0) this.#pending.shift()?.();
    });
  }

  /** Decides now, as a leader does on arrival; the reply is given later. */
  #answer(call: ProduceCall, number: number): () => () => void {
    return () => {
      const refuse = (reason: Reason) => () =>
        call.onFailure({ error: new AppError(reason, reason), isUnanswered: false, isStreamFailure: false });
      if (number < this.log.length)
        return () => call.onAnswer({ baseOffset: number, isDuplicate: true, leaderEpoch: 1 });
      if (this.#prng.chance(this.#faults))
        return refuse(this.#prng.pick(["DISK_FULL", "NOT_LEADER"] as const));
      if (number > this.log.length) return refuse("OUT_OF_ORDER_SEQUENCE");
      this.log.push(number);
      return () => call.onAnswer({ baseOffset: number, isDuplicate: false, leaderEpoch: 1 });
    };
  }
}

interface Outcome {
  readonly acked: Map<number, ProduceAnswer>;
  readonly refused: Map<number, AppError>;
}

function batchOf(number: number, outcome: Outcome, deadlineMs = Infinity): SenderBatch {
  return {
    bytes: Uint8Array.of(number),
    slab: undefined,
    resetSequence: false,
    deadlineMs,
    mayBeInLog: false,
    order: 0,
    attempt: 0,
    isInFlight: false,
    error: undefined,
    isExpired: false,
    onAcked: (answer) => outcome.acked.set(number, answer),
  };
}

describe("PartitionSender", () => {
  it("P3: whatever a leader refuses and whatever answer is lost, each batch is in the log once, in order, and acknowledged", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const leader = new ModelLeader(seed, 0.15);
      const outcome: Outcome = { acked: new Map(), refused: new Map() };
      const sender = new PartitionSender<SenderBatch>({
        topicId: "t",
        partition: 0,
        inFlightMax: 5,
        streams: leader,
        cache: { peek: () => topic, isGone: async () => false },
        clock: hastyClock,
        onRefused: (head, error, window) => {
          outcome.refused.set(head.bytes[0] as number, error);
          window.remove(head);
        },
      });
      const total = 40;
      for (let i = 0; i < total; i++) sender.add(batchOf(i, outcome));
      for (let turn = 0; turn < 5_000 && sender.unackedCount > 0; turn++)
        await new Promise((resolve) => setTimeout(resolve, 1));
      expect([...outcome.refused.values()], `seed ${seed}`).toEqual([]);
      expect(leader.log, `seed ${seed}`).toEqual(Array.from({ length: total }, (_, i) => i));
      expect(outcome.acked.size, `seed ${seed}`).toBe(total);
    }
  });

  it("gives the first batch up when its time is over, with the last failure in the message", async () => {
    const outcome: Outcome = { acked: new Map(), refused: new Map() };
    const refusal = new AppError("DISK_FULL", "no room on /data");
    const given = Promise.withResolvers<AppError>();
    const sender = new PartitionSender<SenderBatch>({
      topicId: "t",
      partition: 0,
      inFlightMax: 5,
      streams: {
        to: () => ({
          send: (call) =>
            setImmediate(() =>
              call.onFailure({ error: refusal, isUnanswered: false, isStreamFailure: false }),
            ),
        }),
      },
      cache: { peek: () => topic, isGone: async () => false },
      clock: systemClock,
      onRefused: (head, error, window) => {
        window.remove(head);
        given.resolve(error);
      },
    });
    sender.add(batchOf(0, outcome, systemClock.monotonicMs() + 100));
    const error = await given.promise;
    expect(error.reason).toBe("TIMED_OUT");
    expect(error.message).toContain("no room on /data");
  });

  it("L3: a topic that is gone is told, and not waited for", async () => {
    const given = Promise.withResolvers<AppError>();
    const unknown = new AppError("UNKNOWN_TOPIC_ID", "not here");
    const sender = new PartitionSender<SenderBatch>({
      topicId: "t",
      partition: 0,
      inFlightMax: 5,
      streams: {
        to: () => ({
          send: (call) =>
            setImmediate(() =>
              call.onFailure({ error: unknown, isUnanswered: false, isStreamFailure: false }),
            ),
        }),
      },
      cache: { peek: () => topic, isGone: async () => true },
      clock: hastyClock,
      onRefused: (head, error, window) => {
        window.remove(head);
        given.resolve(error);
      },
    });
    sender.add(batchOf(0, { acked: new Map(), refused: new Map() }));
    const error = await given.promise;
    expect(error.reason).toBe("UNKNOWN_TOPIC_ID");
    expect(error.message).toContain("was deleted");
  });
});
