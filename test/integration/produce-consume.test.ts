/** Records through the real metadata and storage services and the SDK, on loopback. */
import { AppError } from "@millrace/base";
import { Client, type Consumer, type ConsumerBatch, type StartAt } from "@millrace/client";
import { partitionForKey } from "@millrace/record";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster, until } from "./cluster.ts";

let cluster: Cluster;
let client: Client;

beforeAll(async () => {
  cluster = await Cluster.start();
  client = await cluster.client();
});

afterAll(async () => {
  await cluster.stop();
});

/** Values read from one partition until `count` are there. */
async function read(
  topic: string,
  partition: number,
  count: number,
  from: StartAt = "start",
): Promise<string[]> {
  const consumer = client.consumer();
  await consumer.assign([{ topic, partition, from }]);
  const values = await take(consumer, count);
  consumer.close();
  return values;
}

async function take(consumer: Consumer, count: number): Promise<string[]> {
  const values: string[] = [];
  while (values.length < count) {
    const batch = await consumer.next(AbortSignal.timeout(15_000));
    if (batch === undefined) throw new Error(`only ${values.length} of ${count} records came`);
    for (const record of batch.records) values.push(text(record.value));
  }
  return values;
}

function text(value: Uint8Array | null): string {
  return value === null ? "null" : Buffer.from(value).toString();
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (thrown) {
    return AppError.from(thrown).reason;
  }
}

describe("produce and consume", () => {
  it("gives back what was sent, with keys, headers and timestamps, in order and at the promised offsets", async () => {
    await client.admin.createTopic({ name: "round", partitions: 1 });
    const producer = client.producer();
    const acks = await Promise.all(
      Array.from({ length: 500 }, (_, i) =>
        producer.send("round", {
          key: i % 3 === 0 ? null : `key ${i}`,
          value: i === 7 ? null : `value ${i}`,
          headers: [{ key: "n", value: Buffer.from(String(i)) }],
          timestampMs: 1_000_000 + i,
        }),
      ),
    );
    await producer.close();
    expect(acks.map((ack) => ack.offset)).toEqual(acks.map((_, i) => i));
    const consumer = client.consumer();
    await consumer.assign([{ topic: "round", partition: 0, from: "start" }]);
    const batches: ConsumerBatch[] = [];
    while ((batches.at(-1)?.nextOffset ?? 0) < 500) batches.push((await consumer.next()) as ConsumerBatch);
    consumer.close();
    const records = batches.flatMap((batch) => batch.records);
    expect(records.map((record) => record.offset)).toEqual(acks.map((ack) => ack.offset));
    expect(records.map((record) => text(record.value))).toEqual(
      acks.map((_, i) => (i === 7 ? "null" : `value ${i}`)),
    );
    expect(records[8]).toMatchObject({ timestampMs: 1_000_008, key: Buffer.from("key 8") });
    expect(text(records[8]!.headers[0]!.value)).toBe("8");
    expect(batches.at(-1)?.highWatermark).toBe(500);
  });

  it("spreads keys as Kafka does and keeps each key's order", async () => {
    await client.admin.createTopic({ name: "keyed", partitions: 4 });
    const producer = client.producer({ batchBytes: 2_000 });
    await producer.sendMany(
      "keyed",
      Array.from({ length: 2_000 }, (_, i) => ({ key: `k${i % 17}`, value: `k${i % 17} ${i}` })),
    );
    await producer.close();
    const consumer = client.consumer();
    await consumer.assign(
      [0, 1, 2, 3].map((partition) => ({ topic: "keyed", partition, from: "start" as const })),
    );
    const byKey = new Map<string, number[]>();
    for (let count = 0; count < 2_000; ) {
      const batch = (await consumer.next()) as ConsumerBatch;
      for (const record of batch.records) {
        const [key, number] = text(record.value).split(" ") as [string, string];
        expect(partitionForKey(Buffer.from(key), 4)).toBe(batch.partition);
        byKey.set(key, [...(byKey.get(key) ?? []), Number(number)]);
        count++;
      }
    }
    consumer.close();
    expect(byKey.size).toBe(17);
    for (const numbers of byKey.values()) expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  });

  it("compressed batches come back as they were", async () => {
    await client.admin.createTopic({ name: "zipped", partitions: 1 });
    for (const compression of ["gzip", "zstd"] as const) {
      const producer = client.producer({ compression });
      await producer.sendMany(
        "zipped",
        Array.from({ length: 300 }, (_, i) => ({ value: `${compression} ${i}` })),
      );
      await producer.close();
    }
    const values = await read("zipped", 0, 600);
    expect(values[0]).toBe("gzip 0");
    expect(values[599]).toBe("zstd 299");
  });

  it("a consumer at the end gets what comes later, and finds offsets by time", async () => {
    await client.admin.createTopic({ name: "times", partitions: 1 });
    const producer = client.producer({ lingerMs: 0 });
    for (const timestampMs of [1_000, 2_000, 3_000])
      await producer.send("times", { value: `at ${timestampMs}`, timestampMs });
    const consumer = client.consumer();
    await consumer.assign([{ topic: "times", partition: 0, from: "end" }]);
    const later = take(consumer, 1);
    await producer.send("times", { value: "later", timestampMs: 4_000 });
    expect(await later).toEqual(["later"]);
    consumer.close();
    expect(await client.admin.listOffsets("times", 0, { timestampMs: 1_500 })).toMatchObject({
      offset: 1,
      timestampMs: 2_000,
    });
    expect((await client.admin.listOffsets("times", 0, "end")).offset).toBe(4);
    expect(await read("times", 0, 2, { timestampMs: 2_500 })).toEqual(["at 3000", "later"]);
    await producer.close();
  });

  it("several readers may wait on one consumer: each batch reaches one of them, closing ends all", async () => {
    await client.admin.createTopic({ name: "shared", partitions: 1 });
    const consumer = client.consumer();
    await consumer.assign([{ topic: "shared", partition: 0, from: "end" }]);
    const waiting = [consumer.next(), consumer.next(), consumer.next()];
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("shared", { value: "one" });
    await producer.send("shared", { value: "two" });
    await until(() => consumer.highWatermark(consumer.assignment[0]!.topicId, 0) === 2, "both arrived");
    consumer.close();
    const batches = (await Promise.all(waiting)).filter((batch) => batch !== undefined);
    expect(batches.flatMap((batch) => batch.records.map((record) => record.offset)).sort()).toEqual([0, 1]);
    await producer.close();
  });

  it("a refused record costs itself only; max.message.bytes changes while the topic is in use", async () => {
    await client.admin.createTopic({ name: "small", partitions: 1, config: { "max.message.bytes": "2000" } });
    const producer = client.producer({ lingerMs: 0 });
    const sends = [
      producer.send("small", { value: "first" }),
      producer.send("small", { value: Buffer.alloc(5_000) }),
    ];
    expect(await reasonOf(Promise.all(sends))).toBe("RECORD_TOO_LARGE");
    expect((await producer.send("small", { value: "second" })).offset).toBeGreaterThanOrEqual(0);
    await client.admin.alterTopic("small", { set: { "max.message.bytes": "100000" } });
    await until(
      async () => (await reasonOf(producer.send("small", { value: Buffer.alloc(5_000) }))) === "none",
      "the new limit holds",
    );
    await producer.close();
  });

  it("a producer waits when its buffer is full and loses nothing", async () => {
    await client.admin.createTopic({ name: "pressed", partitions: 2 });
    const producer = client.producer({ bufferBytes: 20_000, batchBytes: 5_000 });
    const sends = Array.from({ length: 3_000 }, (_, i) =>
      producer.send("pressed", { value: `${i}`.padEnd(100) }),
    );
    expect(producer.bufferedBytes).toBeLessThanOrEqual(20_000);
    const acks = await Promise.all(sends);
    expect(new Set(acks.map((ack) => `${ack.partition} ${ack.offset}`)).size).toBe(3_000);
    await producer.close();
  });

  it("many producers and partitions at once, each partition's records once and in order", async () => {
    await client.admin.createTopic({ name: "many", partitions: 8 });
    const producers = Array.from({ length: 4 }, () => client.producer({ batchBytes: 4_000, lingerMs: 1 }));
    await Promise.all(
      producers.map(async (producer, p) => {
        for (let round = 0; round < 10; round++) {
          await producer.sendMany(
            "many",
            Array.from({ length: 200 }, (_, i) => ({ value: `${p} ${round * 200 + i}` })),
            { partition: (p * 2 + (round % 2)) % 8 },
          );
        }
        await producer.close();
      }),
    );
    const all = await Promise.all(
      [0, 1, 2, 3, 4, 5, 6, 7].map((partition) => read("many", partition, 1_000)),
    );
    for (const [partition, values] of all.entries()) {
      const numbers = values.map((value) => Number(value.split(" ")[1]));
      expect(new Set(numbers).size, `partition ${partition}`).toBe(1_000);
      expect(numbers, `partition ${partition}`).toEqual([...numbers].sort((a, b) => a - b));
    }
  });

  it("says in one line when nothing answers, within two seconds", async () => {
    const startMs = performance.now();
    const opening = Client.open({ bootstrapServers: ["127.0.0.1:1"] });
    await expect(opening).rejects.toThrow(/^no Millrace cluster answers at 127\.0\.0\.1:1: /);
    expect(performance.now() - startMs).toBeLessThan(4_000);
  });

  it("names a topic and a partition that are not there", async () => {
    const producer = client.producer();
    await expect(producer.send("nowhere", { value: "x" })).rejects.toMatchObject({
      reason: "TOPIC_NOT_FOUND",
    });
    await expect(producer.send("round", { value: "x" }, { partition: 9 })).rejects.toThrow(
      /partitions 0 to 0, not 9/,
    );
    await producer.close();
    const consumer = client.consumer();
    await expect(consumer.assign([{ topic: "nowhere", partition: 0, from: "start" }])).rejects.toMatchObject({
      reason: "TOPIC_NOT_FOUND",
    });
    consumer.close();
  });
});
