/** Topics into files through the real metadata, storage and connector services (C1, C9, L1, L3, L4, S1, S2). */
import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Client } from "@millrace/client";
import { readCommitLog } from "@millrace/components";
import { TaskState } from "@millrace/proto/controller";
import { encodeBatch } from "@millrace/record";
import { realDisk } from "@millrace/runtime";
import type { ConnectorService } from "@millrace/service-connector";
import { createTelemetry, discardedTotal } from "@millrace/telemetry";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Cluster, until } from "./cluster.ts";
import {
  createFileConnector,
  produce,
  publishedLines,
  sorted,
  startInstance,
  values,
} from "./connector-fixture.ts";

let cluster: Cluster;
let client: Client;
const instances = new Set<ConnectorService>();

beforeEach(async () => {
  cluster = await Cluster.start();
  client = await cluster.client();
});

afterEach(async () => {
  await Promise.all([...instances].map((instance) => instance.stop()));
  instances.clear();
  await cluster.stop();
});

async function start(
  name: string,
  ...rest: [Parameters<typeof startInstance>[2]?]
): Promise<ConnectorService> {
  const instance = await startInstance(cluster, name, ...rest);
  instances.add(instance);
  return instance;
}

async function stop(instance: ConnectorService): Promise<void> {
  instances.delete(instance);
  expect(await instance.stop()).toEqual([]);
}

async function untilPublished(directory: string, count: number): Promise<string[]> {
  let lines: string[] = [];
  await until(
    async () => (lines = await publishedLines(directory)).length >= count,
    `${count} lines published`,
  );
  return lines;
}

describe("a file connector", () => {
  it("publishes each record of each partition once, in order; its books say so (S1)", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 3 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    const instance = await start("c1");
    await produce(client, "logs", 0, 3000);
    const lines = await untilPublished(directory, 3000);
    expect(sorted(lines)).toEqual(values(0, 3000));
    // Files are named by partition and offset, so their order is the partition's.
    const numbers = lines.map((line) => Number(line.slice(2)));
    for (let partition = 0; partition < 3; partition++) {
      const own = numbers.filter((n) => n % 3 === partition);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
    await until(
      () => instance.status().every((task) => task.resume === 1000),
      "all resume offsets at the end",
    );
    expect(instance.status()).toHaveLength(3);
    for (const task of instance.status()) {
      expect(task).toMatchObject({ connector: "out", topic: "logs", state: "running", error: "" });
      expect(task).toMatchObject({ begun: 0, published: 1000, setAside: 0, highWatermark: 1000 });
    }
    const books = await readCommitLog(realDisk, directory);
    expect(books.map((entry) => entry.totals.records)).toEqual([1000, 1000, 1000]);
    // Heartbeats carry it to `connector status`.
    await until(async () => {
      const { statuses } = await client.admin.connectors.describe("out");
      return statuses.reduce((sum, status) => sum + status.publishedCount, 0) === 3000;
    }, "the controller knows");
    const { statuses } = await client.admin.connectors.describe("out");
    expect(statuses.every((s) => s.state === TaskState.RUNNING && s.resumeOffset === 1000)).toBe(true);
  });

  it("goes on where it stood after a restart, and with what was produced meanwhile", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 2 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    const first = await start("c1");
    await produce(client, "logs", 0, 500);
    await untilPublished(directory, 500);
    await stop(first);
    await produce(client, "logs", 500, 1000);
    await start("c1");
    expect(sorted(await untilPublished(directory, 1000))).toEqual(values(0, 1000));
  });

  it("stopping publishes what was read, whatever the roll says", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"], { rollInterval: 0 });
    const instance = await start("c1");
    await produce(client, "logs", 0, 100);
    await until(() => instance.status()[0]?.highWatermark === 100, "the records are heard of");
    expect(await publishedLines(directory)).toEqual([]);
    await until(async () => {
      await instance.flush();
      return (await publishedLines(directory)).length === 100;
    }, "flush publishes");
    await produce(client, "logs", 100, 150);
    await until(() => instance.status()[0]?.highWatermark === 150, "the records are heard of");
    await stop(instance);
    const [resumed] = await readCommitLog(realDisk, directory);
    const lines = await publishedLines(directory);
    expect(lines).toEqual(values(0, resumed?.resume.offset ?? -1));
  });

  it("a connector created before its topic begins when the topic comes", async () => {
    const directory = await createFileConnector(client, cluster, "out", ["later"]);
    await start("c1");
    await client.admin.createTopic({ name: "later", partitions: 2 });
    await produce(client, "later", 0, 100);
    expect(sorted(await untilPublished(directory, 100))).toEqual(values(0, 100));
  });

  it("tasks are shared out, move when an instance leaves, and nothing is doubled (C1)", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 4 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    const a = await start("a");
    const b = await start("b");
    await until(() => a.status().length === 2 && b.status().length === 2, "two tasks each");
    let isProducing = true;
    let produced = 0;
    const producing = (async () => {
      for (; isProducing; produced += 200) await produce(client, "logs", produced, produced + 200);
    })();
    await untilPublished(directory, 400);
    await stop(a);
    await until(() => b.status().length === 4, "all tasks moved");
    const c = await start("c");
    await until(() => c.status().length === 2, "the new instance gets its share");
    const before = produced;
    await untilPublished(directory, before + 400);
    isProducing = false;
    await producing;
    expect(sorted(await untilPublished(directory, produced))).toEqual(values(0, produced));
  });
});

describe("the connector's configuration", () => {
  it("a wrong one fails its tasks with a message and does not disturb others", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    await client.admin.connectors.create({
      name: "bad",
      topics: ["logs"],
      sinkConfigJson: '{"type":"file","directry":"x"}',
    });
    const directory = await createFileConnector(client, cluster, "good", ["logs"]);
    const instance = await start("c1");
    await produce(client, "logs", 0, 10);
    await untilPublished(directory, 10);
    await until(() => instance.status().some((task) => task.state === "failed"), "the bad one fails");
    const bad = instance.status().find((task) => task.connector === "bad");
    expect(bad?.error).toMatch(/unknown key directry.*directory/s);
    await until(async () => {
      const { statuses } = await client.admin.connectors.describe("bad");
      return statuses[0]?.state === TaskState.FAILED && statuses[0].error.includes("directry");
    }, "the controller knows");
  });

  it("deleted and created again: resumes; with reset it starts over beside the old files (C9)", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    await start("c1");
    await produce(client, "logs", 0, 50);
    await untilPublished(directory, 50);
    await client.admin.connectors.delete("out");
    await produce(client, "logs", 50, 100);
    await createFileConnector(client, cluster, "out", ["logs"]);
    expect(await untilPublished(directory, 100)).toEqual(values(0, 100));
    await client.admin.connectors.delete("out");
    const sink = { type: "file", directory, rollInterval: 0.1 };
    await client.admin.connectors.create({
      name: "out",
      topics: ["logs"],
      sinkConfigJson: JSON.stringify(sink),
      reset: true,
    });
    const lines = await untilPublished(directory, 200);
    expect(sorted(lines)).toEqual(sorted([...values(0, 100), ...values(0, 100)]));
  });

  it("a sink without standing is at-least-once and reports what it was given", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    await produce(client, "logs", 0, 100);
    await client.admin.connectors.create({
      name: "sink",
      topics: ["logs"],
      sinkConfigJson: '{"type":"null"}',
    });
    const instance = await start("c1");
    await until(() => instance.status()[0]?.resume === 100, "everything is delivered");
    expect(instance.status()[0]).toMatchObject({ begun: 0, published: 100 });
  });
});

describe("topics that go", () => {
  it("deleted and created again under a running connector: the new one from its offset 0, nothing skipped (L3)", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    const instance = await start("c1");
    await produce(client, "logs", 0, 100, "old");
    await untilPublished(directory, 100);
    await client.admin.deleteTopic("logs");
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    await produce(client, "logs", 0, 40, "new");
    const lines = await untilPublished(directory, 140);
    expect(lines.filter((line) => line.startsWith("old"))).toEqual(values(0, 100, "old"));
    expect(lines.filter((line) => line.startsWith("new"))).toEqual(values(0, 40, "new"));
    expect(instance.status()).toMatchObject([{ resume: 40, published: 40 }]);
    expect(await instance.telemetry.metrics.value(discardedTotal)).toBe(0);
  });

  it("what a deleted topic still held is counted (L3)", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    // Its directory cannot be made: the task knows of the records and delivers none.
    const blocked = join(cluster.folder, "metadata", "meta", "out");
    await createFileConnector(client, cluster, "out", ["logs"], { directory: blocked });
    const instance = await start("c1");
    await produce(client, "logs", 0, 30);
    await until(() => instance.status()[0]?.state === "failed", "the task fails");
    await until(() => instance.status()[0]?.highWatermark === 30, "it knows what waits for it");
    expect(instance.status()[0]?.error).toContain(blocked);
    await client.admin.deleteTopic("logs");
    await until(() => instance.status().length === 0, "the task ends");
    await until(
      async () =>
        (await instance.telemetry.metrics.value(discardedTotal, { reason: "topic_deleted" })) === 30,
      "30 records counted",
    );
  });
});

describe("what cannot be delivered", () => {
  it("a batch that does not decode is a dead letter, counted, and never a stop", async () => {
    const topic = await client.admin.createTopic({ name: "logs", partitions: 1 });
    await produce(client, "logs", 0, 10);
    // Compressed batches are not walked by the leader: this one has a good checksum and garbage inside.
    const records = [{ key: null, value: Buffer.alloc(5000, "x"), headers: [], timestampMs: 1 }];
    const batch = await garbled(records);
    const writer = client.partitionWriter({ topicId: topic.topicId, partition: 0 });
    await writer.write(batch);
    writer.close();
    await produce(client, "logs", 11, 20);
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    const instance = await start("c1");
    expect(await untilPublished(directory, 19)).toEqual([...values(0, 10), ...values(11, 20)]);
    await until(() => instance.status()[0]?.resume === 20, "the end is reached");
    expect(instance.status()[0]).toMatchObject({ published: 19, setAside: 1 });
    const letters = await readFile(join(cluster.folder, "c1", "dead-letters", "out.jsonl"), "utf8");
    const letter = JSON.parse(letters.trimEnd()) as Record<string, unknown>;
    expect(letter).toMatchObject({
      topic: "logs",
      topicId: topic.topicId,
      partition: 0,
      offset: 10,
      nextOffset: 11,
    });
    // Base offset and leader epoch are the leader's to set.
    expect(Buffer.from(String(letter["value"]), "base64").subarray(16)).toEqual(
      Buffer.from(batch).subarray(16),
    );
    expect(await instance.telemetry.metrics.value(discardedTotal, { component: "connector" })).toBe(1);
  });

  it("a record the sink refuses is a dead letter with its reason, and the next ones go on", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"], { newlines: "reject" });
    const producer = client.producer();
    for (const value of ["a", "b\nc", "d"])
      await producer.send("logs", { key: null, value: Buffer.from(value) });
    await producer.close();
    const instance = await start("c1");
    expect(await untilPublished(directory, 2)).toEqual(["a", "d"]);
    await until(() => instance.status()[0]?.resume === 3, "the end is reached");
    expect(instance.status()[0]).toMatchObject({ published: 2, setAside: 1 });
    const letters = await readFile(join(cluster.folder, "c1", "dead-letters", "out.jsonl"), "utf8");
    expect(JSON.parse(letters.trimEnd())).toMatchObject({ offset: 1, reason: "newline-in-value" });
  });
});

describe("retention (S2)", () => {
  async function overtake(
    hold: boolean,
  ): Promise<{ directory: string; instance: ConnectorService; start: number }> {
    const config = { "segment.bytes": "1048576", "retention.bytes": "1048576" };
    const topic = await client.admin.createTopic({ name: "logs", partitions: 1, config });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    const first = await start("c1");
    await produce(client, "logs", 0, 50);
    await untilPublished(directory, 50);
    await stop(first);
    if (hold) expect(cluster.storage.holdRetention(topic.topicId, 0, 50)).toBe(true);
    for (let from = 50; from < 5050; from += 250) await produce(client, "logs", from, from + 250, "r", 1000);
    await cluster.storage.applyRetention();
    const { offset } = await client.admin.listOffsets("logs", 0, "start");
    return { directory, instance: await start("c1"), start: offset };
  }

  it("that overtakes a stopped connector is a counted loss; it goes on where the log begins", async () => {
    const { directory, instance, start: logStart } = await overtake(false);
    expect(logStart).toBeGreaterThan(50);
    const lines = await untilPublished(directory, 50 + 5050 - logStart);
    expect(lines.map((line) => line.trimEnd())).toEqual([...values(0, 50), ...values(logStart, 5050)]);
    const lost = logStart - 50;
    expect(await instance.telemetry.metrics.value(discardedTotal, { reason: "retention" })).toBe(lost);
    // The books tell the loss too: offsets below resume that are neither published nor set aside.
    await until(() => instance.status()[0]?.resume === 5050, "the end is reached");
    expect(instance.status()[0]).toMatchObject({ begun: 0, published: 5050 - lost, setAside: 0 });
  });

  it("held at its resume offset never overtakes it", async () => {
    const { directory, instance, start: logStart } = await overtake(true);
    expect(logStart).toBeLessThanOrEqual(50);
    const lines = await untilPublished(directory, 5050);
    expect(lines.map((line) => line.trimEnd())).toEqual(values(0, 5050));
    expect(await instance.telemetry.metrics.value(discardedTotal)).toBe(0);
  });
});

describe("the instance", () => {
  it("goes on delivering while the metadata service is away", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    await start("c1");
    await produce(client, "logs", 0, 10);
    await untilPublished(directory, 10);
    const producer = client.producer();
    await producer.send("logs", { key: null, value: Buffer.from("r 10") });
    await cluster.stopMetadata();
    for (let n = 11; n < 30; n++) await producer.send("logs", { key: null, value: Buffer.from(`r ${n}`) });
    expect(await untilPublished(directory, 30)).toEqual(values(0, 30));
    await cluster.startMetadata();
    await producer.close();
  });

  it("survives a restart of the storage node: each record once", async () => {
    await client.admin.createTopic({ name: "logs", partitions: 1 });
    const directory = await createFileConnector(client, cluster, "out", ["logs"]);
    await start("c1");
    await produce(client, "logs", 0, 100);
    await untilPublished(directory, 50);
    await cluster.restartStorage();
    await produce(client, "logs", 100, 200);
    expect(await untilPublished(directory, 200)).toEqual(values(0, 200));
  });

  it("a copied directory is refused with the command that helps (L1)", async () => {
    const first = await start("c1");
    await stop(first);
    const copy = join(cluster.folder, "copy");
    await cp(join(cluster.folder, "c1"), copy, { recursive: true });
    await rm(join(copy, ".lock.owner"), { force: true });
    await start("c1");
    const { startConnector } = await import("@millrace/service-connector");
    const second = await startConnector({
      dataDirectory: copy,
      bootstrapServers: [cluster.metadata.address],
      telemetry: createTelemetry({ service: "connector", node: "copy", destination: "silent" }),
    });
    instances.add(second);
    await expect(second.ready).rejects.toMatchObject({ reason: "LINEAGE_REFUSED" });
    expect(await second.failed).toMatchObject({ reason: "LINEAGE_REFUSED" });
  });
});

/** A gzip batch whose compressed bytes are spoiled and whose checksum is right. */
async function garbled(records: Parameters<typeof encodeBatch>[0]): Promise<Uint8Array> {
  const { crc32c } = await import("@millrace/record");
  const batch = encodeBatch(records, { compression: "gzip" });
  batch.fill(0xa5, batch.length - 20);
  new DataView(batch.buffer, batch.byteOffset).setUint32(17, crc32c(batch.subarray(21)));
  return batch;
}
