/** A storage node under hard conditions: a disk that hangs or is full, one stuck partition, slow readers, plain clients. */
import { AppError } from "@millrace/base";
import type { Client } from "@millrace/client";
import {
  type FetchedData,
  type FetchRequest,
  OffsetQuery,
  type ProduceResult,
  StorageServiceService,
} from "@millrace/proto/storage";
import { encodeBatch } from "@millrace/record";
import { connect, makeHandshake, type RpcConnection } from "@millrace/rpc";
import { type Disk, type DiskFile, realDisk, systemClock } from "@millrace/runtime";
import { afterEach, describe, expect, it } from "vitest";
import { Cluster, type ClusterOptions, until } from "./cluster.ts";

let cluster: Cluster;
let client: Client;
let connection: RpcConnection;

async function start(options: ClusterOptions = {}): Promise<void> {
  cluster = await Cluster.start(options);
  client = await cluster.client();
  connection = connect(cluster.storage.address);
}

afterEach(async () => {
  connection.close();
  await cluster.stop();
});

/** The real disk with a gate in front of the journal's fsync. */
class GatedDisk {
  #gate: PromiseWithResolvers<void> | undefined;
  waiting = 0;

  readonly disk: Disk = {
    ...bound(realDisk),
    open: async (path, mode) => {
      const file = await realDisk.open(path, mode);
      return path.includes("/journal/") ? this.#gated(file) : file;
    },
  };

  close(): void {
    this.#gate = Promise.withResolvers();
  }

  open(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  #gated(file: DiskFile): DiskFile {
    const through = async (): Promise<void> => {
      this.waiting++;
      await this.#gate?.promise;
      this.waiting--;
      await file.dataSync();
    };
    return new Proxy(file, {
      get: (target, name) => {
        if (name === "dataSync") return through;
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
  }
}

function bound(disk: Disk): Disk {
  return {
    open: (path, mode) => disk.open(path, mode),
    stat: (path) => disk.stat(path),
    list: (path) => disk.list(path),
    makeDirectory: (path) => disk.makeDirectory(path),
    rename: (from, to) => disk.rename(from, to),
    link: (from, to) => disk.link(from, to),
    removeFile: (path) => disk.removeFile(path),
    removeTree: (path) => disk.removeTree(path),
    syncDirectory: (path) => disk.syncDirectory(path),
    freeBytes: (path) => disk.freeBytes(path),
  };
}

function batchOf(
  values: readonly string[],
  stamp: { producerId?: number; baseSequence?: number } = {},
): Uint8Array {
  const records = values.map((value) => ({
    key: null,
    value: Buffer.from(value),
    headers: [],
    timestampMs: 5,
  }));
  return encodeBatch(
    records,
    stamp.producerId === undefined ? {} : { producerEpoch: 0, baseSequence: 0, ...stamp },
  );
}

/** A bare produce stream, as a client without the SDK's care would use it. */
async function openProduce() {
  const stream = connection.duplex(StorageServiceService.produce);
  const results = new Map<number, ProduceResult>();
  let creditBytes = 0;
  const ended = stream.receive(({ message }) => {
    if (message?.$case === "opened") creditBytes = message.value.creditBytes;
    else if (message?.$case === "result") results.set(message.value.correlationId, message.value);
  });
  ended.catch(() => {});
  stream.write({ message: { $case: "open", value: caller() } });
  await until(() => creditBytes > 0, "the stream is open");
  return {
    creditBytes,
    results,
    ended,
    stream,
    send: (correlationId: number, topicId: string, partition: number, bytes: Uint8Array) =>
      stream.write({
        message: {
          $case: "batch",
          value: {
            correlationId,
            topicId,
            partition,
            leaderEpoch: -1,
            resetSequence: false,
            previousProducerId: 0,
            data: { $case: "batch", value: bytes },
          },
        },
      }),
  };
}

function caller(clusterId = client.clusterId) {
  return makeHandshake({ clusterId, nodeId: "test", incarnation: "x", nodeEpoch: 0 });
}

async function topicIdOf(name: string, partitions = 1, config: Record<string, string> = {}): Promise<string> {
  await client.admin.createTopic({ name, partitions, config });
  const { topicId } = await client.metadata.byName(name);
  await client.admin.listOffsets(name, partitions - 1, "end"); // it is open
  return topicId;
}

describe("produce stream", () => {
  it("P3: a repetition is acknowledged only once the first copy is durable", async () => {
    const gate = new GatedDisk();
    await start({ storage: { disk: gate.disk } });
    const topicId = await topicIdOf("t");
    const produce = await openProduce();
    gate.close();
    const batch = batchOf(["a", "b"], { producerId: 7 });
    produce.send(1, topicId, 0, batch);
    await until(() => gate.waiting > 0, "the first copy waits for its fsync");
    produce.send(2, topicId, 0, batch);
    produce.send(3, topicId, 0, batchOf(["c"], { producerId: 8, baseSequence: 4 }));
    await until(() => produce.results.has(3), "a refusal behind them is answered at once");
    expect([...produce.results.keys()]).toEqual([3]);
    expect(produce.results.get(3)?.error?.reason).toBe("UNKNOWN_PRODUCER");
    // nothing that is not durable is readable either
    expect((await client.admin.listOffsets("t", 0, "end")).offset).toBe(0);
    gate.open();
    await until(() => produce.results.size === 3, "both are acknowledged");
    expect(produce.results.get(1)).toMatchObject({ error: undefined, baseOffset: 0, isDuplicate: false });
    expect(produce.results.get(2)).toMatchObject({ error: undefined, baseOffset: 0, isDuplicate: true });
    expect((await client.admin.listOffsets("t", 0, "end")).offset).toBe(2);
    produce.stream.cancel();
  });

  it("a partition holds at most a quarter of the credit: beyond it is refused retriably, others go on", async () => {
    const gate = new GatedDisk();
    await start({ storage: { disk: gate.disk, streamCreditBytes: 400_000, requestBytesMax: 100_000 } });
    const topicId = await topicIdOf("t", 2);
    const produce = await openProduce();
    expect(produce.creditBytes).toBe(400_000);
    gate.close();
    const large = batchOf(["x".repeat(60_000)]);
    produce.send(1, topicId, 0, large);
    produce.send(2, topicId, 0, large);
    produce.send(3, topicId, 1, large);
    await until(() => produce.results.has(2), "the second is refused");
    expect(produce.results.get(2)?.error?.reason).toBe("CREDIT_EXCEEDED");
    expect(new AppError("CREDIT_EXCEEDED", "").isRetriable).toBe(true);
    gate.open();
    await until(() => produce.results.size === 3, "all are answered");
    expect([1, 3].map((id) => produce.results.get(id)?.error)).toEqual([undefined, undefined]);
    produce.send(4, topicId, 0, large);
    await until(() => produce.results.has(4), "the refused one goes through later");
    expect(produce.results.get(4)?.error).toBeUndefined();
    produce.stream.cancel();
  });

  it("more than the whole credit ends the stream with a reason", async () => {
    const gate = new GatedDisk();
    await start({ storage: { disk: gate.disk, streamCreditBytes: 400_000, requestBytesMax: 100_000 } });
    const topicId = await topicIdOf("t", 5);
    const produce = await openProduce();
    gate.close();
    for (let partition = 0; partition < 5; partition++)
      produce.send(partition, topicId, partition, batchOf(["x".repeat(90_000)]));
    await expect(produce.ended).rejects.toMatchObject({ reason: "CREDIT_EXCEEDED" });
    gate.open();
  });

  it("a bad batch costs itself, not the stream", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const produce = await openProduce();
    const corrupt = batchOf(["a"]);
    corrupt[corrupt.length - 3] = 1;
    produce.send(1, topicId, 0, corrupt);
    produce.send(2, topicId, 0, new Uint8Array(7));
    produce.send(3, topicId, 9, batchOf(["a"]));
    produce.send(4, "A".repeat(22), 0, batchOf(["a"]));
    produce.send(5, topicId, 0, batchOf(["good"]));
    await until(() => produce.results.size === 5, "all are answered");
    expect([1, 2, 3, 4, 5].map((id) => produce.results.get(id)?.error?.reason)).toEqual([
      "RECORD_CORRUPT",
      "RECORD_CORRUPT",
      "UNKNOWN_TOPIC_ID",
      "UNKNOWN_TOPIC_ID",
      undefined,
    ]);
    produce.stream.cancel();
  });

  it("refuses another cluster's clients and streams without a handshake", async () => {
    await start();
    const stranger = connection.duplex(StorageServiceService.produce);
    const refused = stranger.receive(() => {});
    stranger.write({ message: { $case: "open", value: caller("Z".repeat(22)) } });
    await expect(refused).rejects.toMatchObject({ reason: "CLUSTER_MISMATCH" });
    const rude = connection.duplex(StorageServiceService.fetch);
    const refusedToo = rude.receive(() => {});
    rude.write({ message: { $case: "credit", value: { bytes: 1 } } });
    await expect(refusedToo).rejects.toMatchObject({ reason: "INVALID_REQUEST" });
  });

  it("a stopping node answers what it has taken before it ends its streams", async () => {
    const gate = new GatedDisk();
    await start({ storage: { disk: gate.disk } });
    const topicId = await topicIdOf("t");
    const produce = await openProduce();
    gate.close();
    produce.send(1, topicId, 0, batchOf(["a"]));
    await until(() => gate.waiting > 0, "the batch waits for its fsync");
    const stopping = cluster.storage.stop();
    await systemClock.sleep(50);
    gate.open();
    await produce.ended;
    expect(produce.results.get(1)).toMatchObject({ error: undefined, baseOffset: 0 });
    expect(await stopping).toEqual([]);
  });
});

describe("fetch stream", () => {
  async function openFetch() {
    const stream = connection.duplex(StorageServiceService.fetch);
    const data: FetchedData[] = [];
    const ended = stream.receive(({ message }) => {
      if (message?.$case === "data") data.push(message.value);
    });
    ended.catch(() => {});
    const write = (message: FetchRequest["message"]): boolean => stream.write({ message });
    write({ $case: "open", value: caller() });
    const subscribe = (
      subscriptionId: number,
      topicId: string,
      options: { offset?: number; asRecords?: boolean; bytesMax?: number } = {},
    ): boolean =>
      write({
        $case: "partition",
        value: {
          subscriptionId,
          topicId,
          partition: 0,
          leaderEpoch: -1,
          positionEpoch: -1,
          offset: options.offset ?? 0,
          bytesMax: options.bytesMax ?? 0,
          asRecords: options.asRecords ?? false,
        },
      });
    return {
      stream,
      data,
      subscribe,
      grant: (bytes: number) => write({ $case: "credit", value: { bytes } }),
      write,
    };
  }

  function bytesOf(data: readonly FetchedData[]): number {
    return data.reduce(
      (sum, each) => sum + (each.data?.$case === "batches" ? each.data.value.byteLength : 0),
      0,
    );
  }

  it("sends no more than the reader granted; a reader that grants nothing slows nobody", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const producer = client.producer({ batchBytes: 10_000, lingerMs: 1 });
    await producer.sendMany(
      "t",
      Array.from({ length: 500 }, () => ({ value: "x".repeat(1_000) })),
    );
    const slow = await openFetch();
    slow.grant(25_000);
    slow.subscribe(1, topicId, { bytesMax: 10_000 });
    await until(() => bytesOf(slow.data) >= 25_000, "what was granted arrived");
    const consumer = client.consumer();
    await consumer.assign([{ topic: "t", partition: 0, from: "start" }]);
    for (let next = 0; next < 500; ) next = (await consumer.next())!.nextOffset;
    consumer.close();
    expect(bytesOf(slow.data)).toBeLessThan(25_000 + 11_000);
    const before = slow.data.length;
    slow.grant(10_000);
    await until(() => slow.data.length > before, "a grant goes on");
    await producer.close();
    slow.stream.cancel();
  });

  it("tells a reader at the end where it is, and wakes it; a stopped subscription is silent", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const fetch = await openFetch();
    fetch.grant(1_000_000);
    fetch.subscribe(1, topicId);
    fetch.subscribe(2, topicId);
    await until(() => fetch.data.length === 2, "both are told the end");
    expect(fetch.data[0]).toMatchObject({
      data: undefined,
      error: undefined,
      highWatermark: 0,
      nextOffset: 0,
    });
    fetch.write({ $case: "stop", value: { subscriptionId: 2 } });
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("t", { value: "one" });
    await producer.send("t", { value: "two" });
    await until(() => fetch.data.some((data) => data.nextOffset === 2), "the records arrived");
    expect(fetch.data.slice(2).every((data) => data.subscriptionId === 1)).toBe(true);
    await producer.close();
    fetch.stream.cancel();
  });

  it("gives plain records to clients without a batch codec", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const producer = client.producer({ lingerMs: 0, compression: "zstd" });
    await producer.sendMany("t", [{ key: "k", value: "one" }, { value: null }]);
    const fetch = await openFetch();
    fetch.grant(1_000);
    fetch.subscribe(5, topicId, { asRecords: true });
    await until(() => fetch.data.length > 0, "data arrived");
    const { data } = fetch.data[0]!;
    expect(data?.$case).toBe("records");
    if (data?.$case !== "records") return;
    expect(
      data.value.records.map(({ key, value, offset }) => [
        key && Buffer.from(key).toString(),
        value && Buffer.from(value).toString(),
        offset,
      ]),
    ).toEqual([
      ["k", "one", 0],
      [undefined, undefined, 1],
    ]);
    await producer.close();
    fetch.stream.cancel();
  });

  it("ends a subscription with the reason when its topic is deleted; the stream goes on", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const other = await topicIdOf("u");
    const fetch = await openFetch();
    fetch.grant(1_000_000);
    fetch.subscribe(1, topicId);
    fetch.subscribe(2, other);
    await until(() => fetch.data.length === 2, "both are open");
    await client.admin.deleteTopic("t");
    await until(() => fetch.data.some((data) => data.error !== undefined), "the subscription ended");
    expect(fetch.data.find((data) => data.error !== undefined)).toMatchObject({
      subscriptionId: 1,
      error: { reason: "UNKNOWN_TOPIC_ID" },
    });
    const producer = client.producer({ lingerMs: 0 });
    await producer.send("u", { value: "x" });
    await until(
      () => fetch.data.some((data) => data.subscriptionId === 2 && data.nextOffset === 1),
      "the other goes on",
    );
    await producer.close();
    fetch.stream.cancel();
  });
});

describe("unary calls", () => {
  it("produce and fetch plain records, waiting for one that is not there yet", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const fetchOnce = (offset: number, waitMs: number) =>
      connection.unary(StorageServiceService.fetchOnce, {
        clusterId: client.clusterId,
        waitMs,
        partition: {
          subscriptionId: 0,
          topicId,
          partition: 0,
          leaderEpoch: -1,
          positionEpoch: -1,
          offset,
          bytesMax: 0,
          asRecords: true,
        },
      });
    expect((await fetchOnce(0, 0)).data).toMatchObject({ data: undefined, nextOffset: 0, highWatermark: 0 });
    const waiting = fetchOnce(0, 20_000);
    const produced = await connection.unary(StorageServiceService.produceOnce, {
      clusterId: "",
      batch: {
        correlationId: 0,
        topicId,
        partition: 0,
        leaderEpoch: -1,
        resetSequence: false,
        previousProducerId: 0,
        data: {
          $case: "records",
          value: {
            records: [
              { key: undefined, value: Buffer.from("hello"), headers: [], timestampMs: undefined, offset: 0 },
            ],
          },
        },
      },
    });
    expect(produced).toEqual({ baseOffset: 0, isDuplicate: false, recordCount: 1 });
    const { data } = await waiting;
    expect(
      data?.data?.$case === "records" && Buffer.from(data.data.value.records[0]!.value!).toString(),
    ).toBe("hello");
    expect(data?.nextOffset).toBe(1);
  });

  it("refuse what is of another cluster, out of range or unknown, by reason", async () => {
    await start();
    const topicId = await topicIdOf("t");
    const query = (fields: object) =>
      connection.unary(StorageServiceService.listOffsets, {
        topicId,
        partition: 0,
        leaderEpoch: -1,
        query: OffsetQuery.END,
        timestampMs: 0,
        ...fields,
      });
    expect(await query({})).toMatchObject({ offset: 0, positionEpoch: -1 });
    await expect(query({ partition: 3 })).rejects.toMatchObject({ reason: "UNKNOWN_TOPIC_ID" });
    await expect(query({ leaderEpoch: 1_000 })).rejects.toMatchObject({ reason: "UNKNOWN_LEADER_EPOCH" });
    await expect(query({ query: OffsetQuery.UNSPECIFIED })).rejects.toMatchObject({
      reason: "INVALID_REQUEST",
    });
    await expect(
      connection.unary(StorageServiceService.produceOnce, { clusterId: "Z".repeat(22), batch: undefined }),
    ).rejects.toMatchObject({ reason: "CLUSTER_MISMATCH" });
  });
});

describe("retention", () => {
  it("a reader that retention has overtaken is told the range that is left, never moved silently", async () => {
    await start();
    const topicId = await topicIdOf("t", 1, { "segment.bytes": "1048576", "retention.bytes": "1048576" });
    const producer = client.producer({ batchBytes: 100_000, lingerMs: 0 });
    await producer.sendMany(
      "t",
      Array.from({ length: 5_000 }, () => ({ value: "x".repeat(1_000) })),
    );
    await cluster.storage.applyRetention();
    const startOffset = (await client.admin.listOffsets("t", 0, "start")).offset;
    expect(startOffset).toBeGreaterThan(0);
    const consumer = client.consumer();
    await consumer.assign([{ topicId, partition: 0, from: 0 }]);
    await expect(consumer.next()).rejects.toThrow(`which has ${startOffset} to 5000`);
    // the application decides; then it goes on
    await consumer.seek(topicId, 0, "start");
    expect((await consumer.next())?.records[0]?.offset).toBe(startOffset);
    consumer.close();
    await producer.close();
  });

  it("S2: retention does not pass a hold", async () => {
    await start();
    const topicId = await topicIdOf("t", 1, { "segment.bytes": "1048576", "retention.bytes": "1048576" });
    expect(cluster.storage.holdRetention(topicId, 0, 10)).toBe(true);
    const producer = client.producer({ batchBytes: 100_000, lingerMs: 0 });
    await producer.sendMany(
      "t",
      Array.from({ length: 5_000 }, () => ({ value: "x".repeat(1_000) })),
    );
    await cluster.storage.applyRetention();
    expect((await client.admin.listOffsets("t", 0, "start")).offset).toBeLessThanOrEqual(10);
    cluster.storage.holdRetention(topicId, 0, Infinity);
    await cluster.storage.applyRetention();
    expect((await client.admin.listOffsets("t", 0, "start")).offset).toBeGreaterThan(10);
    await producer.close();
  });
});
