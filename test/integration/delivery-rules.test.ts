/** The delivery rules of producers and positions (P1-P5, L3, L4) through the real services. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { AppError, toWireSequence } from "@millrace/base";
import type { Client, PartitionWriter, ProduceAnswer, ProducerIdentity } from "@millrace/client";
import { encodeBatch } from "@millrace/record";
import type { Clock } from "@millrace/runtime";
import { systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Cluster, until } from "./cluster.ts";

let cluster: Cluster;
let client: Client;

beforeEach(async () => {
  cluster = await Cluster.start();
  client = await cluster.client();
});

afterEach(async () => {
  await cluster.stop();
});

const dayMs = 86_400_000;

/** The system's clock, moved. Timers run in real time. */
function movedClock(byMs: number): Clock {
  return {
    nowMs: () => systemClock.nowMs() + byMs,
    monotonicMs: () => systemClock.monotonicMs() + byMs,
    after: (delayMs, run) => systemClock.after(delayMs, run),
    sleep: (delayMs, signal) => systemClock.sleep(delayMs, signal),
  };
}

interface Named extends ProducerIdentity {
  readonly topicId: string;
  readonly writer: PartitionWriter;
}

async function named(topic: string, name: string): Promise<Named> {
  const { topicId } = await client.metadata.byName(topic);
  const identity = await client.admin.initProducer(name);
  return { ...identity, topicId, writer: client.partitionWriter({ topicId, partition: 0 }) };
}

/** Writes records `from` .. `to` - 1 as one batch at those positions. */
function write(
  { writer, producerId, producerEpoch }: Named,
  from: number,
  to: number,
  options: { readonly resetSequence?: boolean } = {},
): Promise<ProduceAnswer> {
  const records = Array.from({ length: to - from }, (_, i) => ({
    key: null,
    value: Buffer.from(`n${from + i}`),
    headers: [],
    timestampMs: systemClock.nowMs(),
  }));
  const batch = encodeBatch(records, { producerId, producerEpoch, baseSequence: toWireSequence(from) });
  return writer.write(batch, options);
}

async function failureOf(work: Promise<unknown>): Promise<AppError> {
  try {
    await work;
  } catch (thrown) {
    return AppError.from(thrown);
  }
  throw new Error("nothing failed");
}

async function values(topic: string, partition = 0): Promise<string[]> {
  const { offset: end } = await client.admin.listOffsets(topic, partition, "end");
  const consumer = client.consumer();
  await consumer.assign([{ topic, partition, from: "start" }]);
  const found: string[] = [];
  for (let next = 0; next < end; ) {
    const batch = await consumer.next(AbortSignal.timeout(15_000));
    if (batch === undefined) throw new Error(`reading stopped at ${next} of ${end}`);
    found.push(...batch.records.map((record) => Buffer.from(record.value ?? []).toString()));
    next = batch.nextOffset;
  }
  consumer.close();
  return found;
}

/** Value of a metric of the storage node without labels. */
async function metric(name: string): Promise<number> {
  const text = await cluster.telemetry.metrics.text();
  return Number(new RegExp(`^millrace_${name}\\{.*\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
}

function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, i) => `n${from + i}`);
}

describe("retries", () => {
  it("P3: an ack that never arrives, the connection cut, the retry: each record once, at its first offset", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("t", { value: "n0" });
    cluster.proxy.swallowAnswers = true;
    const sends = Array.from({ length: 20 }, (_, i) => producer.send("t", { value: `n${i + 1}` }));
    await until(
      async () => (await metric("storage_produced_records_total")) > 1,
      "records are in the log without an ack",
    );
    cluster.proxy.cut();
    cluster.proxy.swallowAnswers = false;
    const acks = await Promise.all(sends);
    expect(acks.map((ack) => ack.offset)).toEqual(acks.map((_, i) => i + 1));
    expect(await values("t")).toEqual(numbers(0, 21));
    await producer.close();
  });

  it("P3: connections cut again and again under load: nothing lost, nothing twice, order kept", async () => {
    await client.admin.createTopic({ name: "t", partitions: 3 });
    const producer = client.producer({ lingerMs: 1, batchBytes: 2_000 });
    let isDone = false;
    let cuts = 0;
    const cutting = (async () => {
      while (!isDone) {
        await systemClock.sleep(30);
        cluster.proxy.swallowAnswers = cuts % 2 === 0;
        await systemClock.sleep(15);
        cluster.proxy.cut();
        cluster.proxy.swallowAnswers = false;
        cuts++;
      }
    })();
    const total = 3_000;
    for (let i = 0; i < total; i += 100) {
      await Promise.all(
        Array.from({ length: 100 }, (_, k) =>
          producer.send("t", { value: `n${i + k}` }, { partition: (i + k) % 3 }),
        ),
      );
    }
    isDone = true;
    await cutting;
    await producer.close();
    expect(cuts).toBeGreaterThan(3);
    for (const partition of [0, 1, 2]) {
      const expected = numbers(0, total).filter((_, i) => i % 3 === partition);
      expect(await values("t", partition), `partition ${partition}`).toEqual(expected);
    }
  });

  it("P3: the storage node restarted under load: nothing lost, nothing twice, order kept", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 1, batchBytes: 2_000 });
    const sends: Promise<unknown>[] = [];
    const sending = (async () => {
      for (let i = 0; i < 2_000; i++) {
        sends.push(producer.send("t", { value: `n${i}` }));
        if (i % 20 === 0) await systemClock.sleep(5);
      }
    })();
    await systemClock.sleep(100);
    await cluster.restartStorage();
    await systemClock.sleep(100);
    await cluster.restartStorage();
    await sending;
    await Promise.all(sends);
    await producer.close();
    expect(await values("t")).toEqual(numbers(0, 2_000));
  });

  it("goes on with the leader it knows while the metadata service is away", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("t", { value: "n0" });
    await cluster.stopMetadata();
    await producer.send("t", { value: "n1" });
    cluster.proxy.cut();
    await producer.send("t", { value: "n2" });
    await cluster.startMetadata();
    await producer.send("t", { value: "n3" });
    expect(await values("t")).toEqual(numbers(0, 4));
    await producer.close();
  });
});

describe("named producers", () => {
  it("P1, P3: a batch sent again is recognised, also re-batched; the node restarted in between", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    expect(await write(producer, 0, 10)).toMatchObject({ baseOffset: 0, isDuplicate: false });
    expect(await write(producer, 0, 10)).toMatchObject({ baseOffset: 0, isDuplicate: true });
    expect(await write(producer, 10, 20)).toMatchObject({ baseOffset: 10, isDuplicate: false });
    expect(await write(producer, 3, 15)).toMatchObject({ isDuplicate: true });
    await cluster.restartStorage();
    expect(await write(producer, 12, 20)).toMatchObject({ isDuplicate: true });
    expect(await write(producer, 20, 21)).toMatchObject({ baseOffset: 20, isDuplicate: false });
    expect(await values("t")).toEqual(numbers(0, 21));
  });

  it("P1: sequences go on across epochs; the older epoch is fenced", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const first = await named("t", "agent-1");
    await write(first, 0, 5);
    const second = await named("t", "agent-1");
    expect(second.producerId).toBe(first.producerId);
    expect(second.producerId).toBeGreaterThanOrEqual(2 ** 40);
    expect(second.producerEpoch).toBe(first.producerEpoch + 1);
    expect(await write(second, 0, 5)).toMatchObject({ isDuplicate: true });
    expect(await write(second, 5, 8)).toMatchObject({ baseOffset: 5 });
    expect((await failureOf(write(first, 8, 9))).reason).toBe("PRODUCER_FENCED");
  });

  it("P1: a re-sent batch is recognised after 30 days, where an anonymous producer is forgotten", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    await write(producer, 0, 10);
    const anonymous = client.producer({ lingerMs: 0 });
    await anonymous.send("t", { value: "n10" });
    await cluster.restartStorage(movedClock(30 * dayMs));
    expect(await write(producer, 0, 10)).toMatchObject({ isDuplicate: true });
    expect(await write(producer, 10, 12)).toMatchObject({ isDuplicate: false });
    // the anonymous producer's state is gone: it goes on under a new id, and loses nothing
    await anonymous.send("t", { value: "n13" });
    expect(await values("t")).toEqual([...numbers(0, 11), "n10", "n11", "n13"]);
    await anonymous.close();
  });

  it("P1: state is kept until the producer is removed by name", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    await write(producer, 0, 3);
    expect(await client.describeProducer(producer.topicId, 0, producer.producerId)).toMatchObject({
      lastSequence: 2,
      lastOffset: 2,
    });
    expect(await client.admin.removeProducer("agent-1")).toBe(producer.producerId);
    await until(
      async () => (await client.describeProducer(producer.topicId, 0, producer.producerId)) === undefined,
      "the partition has forgotten the producer",
    );
    expect((await failureOf(write(producer, 3, 4))).reason).toBe("UNKNOWN_PRODUCER");
    expect((await named("t", "agent-1")).producerId).not.toBe(producer.producerId);
  });

  it("P2: sequences wrap at 2^31 and are still compared rightly", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    const nearWrap = 2 ** 31 - 3;
    await write(producer, nearWrap, nearWrap + 2, { resetSequence: true });
    expect(await write(producer, nearWrap + 2, nearWrap + 6)).toMatchObject({
      baseOffset: 2,
      isDuplicate: false,
    });
    expect(await write(producer, nearWrap + 1, nearWrap + 5)).toMatchObject({ isDuplicate: true });
    expect(await write(producer, 2 ** 31 + 3, 2 ** 31 + 4)).toMatchObject({ baseOffset: 6 });
    expect((await failureOf(write(producer, 2 ** 31 + 9, 2 ** 31 + 10))).reason).toBe(
      "OUT_OF_ORDER_SEQUENCE",
    );
  });

  it("P2: a name whose epochs are used up gets a new id that goes on at the last sequence; the old one is fenced", async () => {
    await client.admin.createTopic({ name: "t", partitions: 2 });
    const old = await named("t", "agent-1");
    await write(old, 0, 3);
    // 32,767 starts later. What the metadata service then answers is tested with its decisions.
    const newId = old.producerId + 7;
    const fresh: Named = {
      ...old,
      producerId: newId,
      producerEpoch: 0,
      previousProducerId: old.producerId,
      writer: client.partitionWriter({
        topicId: old.topicId,
        partition: 0,
        previousProducerId: old.producerId,
      }),
    };
    expect(await write(fresh, 0, 3)).toMatchObject({ isDuplicate: true });
    expect((await failureOf(write(fresh, 2, 5))).metadata["lastSequence"]).toBe("2");
    expect(await write(fresh, 3, 5)).toMatchObject({ baseOffset: 3, isDuplicate: false });
    expect((await failureOf(write(old, 3, 5))).reason).toBe("PRODUCER_FENCED");
    await cluster.restartStorage();
    expect(await write(fresh, 1, 5)).toMatchObject({ isDuplicate: true });
    expect(await write(fresh, 5, 6)).toMatchObject({ baseOffset: 5 });
    expect((await failureOf(write(old, 0, 1))).reason).toBe("PRODUCER_FENCED");
    expect(await values("t")).toEqual(numbers(0, 6));
  });

  it("P3: partly there is refused with the last sequence, the sender trims; what was written behind it is refused too", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    await write(producer, 0, 10);
    const partly = write(producer, 5, 15);
    const behind = write(producer, 15, 20);
    const failure = await failureOf(partly);
    expect([failure.reason, failure.metadata["lastSequence"]]).toEqual(["SEQUENCE_PARTLY_PRESENT", "9"]);
    expect((await failureOf(behind)).reason).toBe("SEQUENCE_PARTLY_PRESENT");
    await Promise.all([write(producer, 10, 15), write(producer, 15, 20)]);
    expect(await values("t")).toEqual(numbers(0, 20));
  });

  it("P5: a gap is refused until the sender says that it resets; the reset is logged and counted", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    await write(producer, 0, 3);
    const failure = await failureOf(write(producer, 7, 9));
    expect([failure.reason, failure.metadata["lastSequence"]]).toEqual(["OUT_OF_ORDER_SEQUENCE", "2"]);
    expect(await write(producer, 7, 9, { resetSequence: true })).toMatchObject({ baseOffset: 3 });
    expect(await write(producer, 9, 10)).toMatchObject({ baseOffset: 5 });
    expect(await write(producer, 7, 9, { resetSequence: true })).toMatchObject({ isDuplicate: true });
    expect(await cluster.telemetry.metrics.text()).toMatch(
      /^millrace_storage_sequence_resets_total\{.*\} 1$/m,
    );
    expect(await values("t")).toEqual(["n0", "n1", "n2", "n7", "n8", "n9"]);
  });

  it("P4: what a partition knows of a producer survives the node's restart", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = await named("t", "agent-1");
    await write(producer, 0, 4);
    await write(producer, 4, 9);
    const before = await client.describeProducer(producer.topicId, 0, producer.producerId);
    await cluster.restartStorage();
    expect(await client.describeProducer(producer.topicId, 0, producer.producerId)).toEqual(before);
    expect(before).toMatchObject({ lastSequence: 8, lastOffset: 8, producerEpoch: producer.producerEpoch });
  });
});

describe("topics and positions", () => {
  it("L3: a position in a deleted and re-created topic is an error that names it, never a skip", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("t", { value: "n0" });
    const consumer = client.consumer();
    await consumer.assign([{ topic: "t", partition: 0, from: "start" }]);
    const batch = await consumer.next();
    const position = consumer.position(batch!.topicId, 0)!;
    expect(position).toMatchObject({ topicId: batch!.topicId, partition: 0, offset: 1 });
    expect(position.leaderEpoch).toBeGreaterThanOrEqual(0);

    const running = failureOf(consumer.next(AbortSignal.timeout(15_000)));
    await client.admin.deleteTopic("t");
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const failure = await running;
    expect(failure.reason).toBe("UNKNOWN_TOPIC_ID");
    expect(failure.message).toContain(`topic "t" (id ${position.topicId}) was deleted`);

    const later = client.consumer();
    for (const topic of [{ topic: "t" }, {}]) {
      const refused = await failureOf(later.assign([{ ...topic, partition: 0, from: position }]));
      expect(refused.reason).toBe("UNKNOWN_TOPIC_ID");
      expect(refused.message).toContain(position.topicId);
    }
    // the name's followers go on in the new topic
    await until(async () => {
      try {
        return (await producer.send("t", { value: "new" })).offset === 0;
      } catch (thrown) {
        expect(AppError.from(thrown).reason).toBe("UNKNOWN_TOPIC_ID");
        return false;
      }
    }, "the producer reaches the new topic");
    await later.assign([{ topic: "t", partition: 0, from: "start" }]);
    const first = await later.next();
    expect(Buffer.from(first!.records[0]!.value!).toString()).toBe("new");
    expect(first!.topicId).not.toBe(position.topicId);
    consumer.close();
    later.close();
    await producer.close();
  });

  it("L3: the data of a deleted topic is gone from the directory, its namesake starts empty, also over a restart", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("t", { value: "old" });
    await cluster.storage.stop();
    await client.admin.deleteTopic("t");
    await cluster.restartStorage();
    await client.admin.createTopic({ name: "t", partitions: 1 });
    expect((await client.admin.listOffsets("t", 0, "end")).offset).toBe(0);
    const folders = await readdir(join(cluster.folder, "storage", "topics"));
    expect(folders.filter((name) => name.startsWith("t-"))).toEqual(["t-0"]);
    producer.abort(new AppError("CANCELLED", "done"));
  });

  it("L4: a stored position resumes exactly, over restarts; one whose leader epoch is not in the log is refused", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 0 });
    for (const value of numbers(0, 5)) await producer.send("t", { value });
    const consumer = client.consumer();
    await consumer.assign([{ topic: "t", partition: 0, from: "start" }]);
    let batch = await consumer.next();
    while (batch!.nextOffset < 5) batch = await consumer.next();
    const position = consumer.position(batch!.topicId, 0)!;
    consumer.close();
    await producer.send("t", { value: "n5" });
    await cluster.restartStorage();

    const resumed = client.consumer();
    await resumed.assign([{ partition: 0, from: position }]);
    const next = await resumed.next();
    expect(next!.records.map((record) => [record.offset, Buffer.from(record.value!).toString()])).toEqual([
      [5, "n5"],
    ]);

    await resumed.assign([{ partition: 0, from: { ...position, leaderEpoch: position.leaderEpoch + 7 } }]);
    expect((await failureOf(resumed.next())).reason).toBe("LOG_TRUNCATED");
    await resumed.assign([{ partition: 0, from: { ...position, offset: 100 } }]);
    expect((await failureOf(resumed.next())).reason).toBe("LOG_TRUNCATED");
    await resumed.assign([{ topic: "t", partition: 0, from: 100 }]);
    const outOfRange = await failureOf(resumed.next());
    expect(outOfRange.reason).toBe("OFFSET_OUT_OF_RANGE");
    expect(outOfRange.message).toContain("which has 0 to 6");
    resumed.close();
    await producer.close();
  });

  it("a consumer goes on where it stood after cut connections and a restart: no record twice, none left out", async () => {
    await client.admin.createTopic({ name: "t", partitions: 1 });
    const producer = client.producer({ lingerMs: 1, batchBytes: 1_000 });
    const consumer = client.consumer();
    await consumer.assign([{ topic: "t", partition: 0, from: "start" }]);
    const found: string[] = [];
    const reading = (async () => {
      while (found.length < 1_500) {
        const batch = await consumer.next();
        found.push(...batch!.records.map((record) => Buffer.from(record.value!).toString()));
      }
    })();
    for (let round = 0; round < 5; round++) {
      await producer.sendMany(
        "t",
        numbers(round * 300, round * 300 + 300).map((value) => ({ value })),
      );
      cluster.proxy.cut();
      if (round === 2) await cluster.restartStorage();
    }
    await reading;
    expect(found).toEqual(numbers(0, 1_500));
    consumer.close();
    await producer.close();
  });
});
