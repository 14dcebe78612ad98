/** Records into a topic and out of it, through the SDK; metadata and storage are processes of their own. */
import { randomBytes } from "node:crypto";
import type { Client, Producer } from "@millrace/client";
import { type BenchCase, type BenchContext, type Figure, percentile } from "../bench.ts";
import { BenchCluster } from "../cluster.ts";
import { memoryMb, pause, rateOf } from "../measure.ts";

const topic = "bench";
/** Records of one `sendMany`. */
const groupRecords = 500;
/** Sends under way at once, bytes. */
const inFlightBytesMax = 16_000_000;
/** Latency is measured at this rate. */
const latencyBytesPerSecond = 10_000_000;
const latencyValueBytes = 1024;
/** Time between two bursts of the latency case, milliseconds. */
const latencyTickMs = 2;

async function withCluster(
  folder: string,
  run: (cluster: BenchCluster, client: Client) => Promise<Figure[]>,
): Promise<Figure[]> {
  const cluster = await BenchCluster.start(folder);
  const client = await cluster.client();
  try {
    await client.admin.createTopic({ name: topic, partitions: 1 });
    return await run(cluster, client);
  } finally {
    client.close();
    await cluster.stop();
  }
}

/** Sends as fast as acks come, for a time. Durable before ack. Gives MB of values acknowledged per second. */
async function produceFor(client: Client, valueBytes: number, seconds: number): Promise<number> {
  const producer = client.producer();
  const value = randomBytes(valueBytes);
  const records = Array.from({ length: groupRecords }, () => ({ value }));
  const sendersCount = Math.max(2, Math.floor(inFlightBytesMax / (groupRecords * valueBytes)));
  let acked = 0;
  let isOver = false;
  const senders = Array.from({ length: sendersCount }, async () => {
    while (!isOver) {
      await producer.sendMany(topic, records);
      acked += groupRecords;
    }
  });
  const { perSecond } = await rateOf(() => acked, seconds);
  isOver = true;
  await Promise.all(senders);
  await producer.close();
  return (perSecond * valueBytes) / 1e6;
}

/** Reads everything there is, from the start, `seconds` at least, over and over. Gives MB of values per second. */
async function consumeFor(client: Client, seconds: number): Promise<number> {
  const { offset: end } = await client.admin.listOffsets(topic, 0, "end");
  let bytes = 0;
  const over = new AbortController();
  const isOver = (): boolean => over.signal.aborted;
  const reading = (async () => {
    while (!isOver()) {
      const consumer = client.consumer();
      await consumer.assign([{ topic, partition: 0, from: "start" }]);
      for await (const batch of consumer) {
        for (const { value } of batch.records) bytes += value?.byteLength ?? 0;
        if (isOver() || batch.nextOffset >= end) break;
      }
      consumer.close();
    }
  })();
  const { perSecond } = await rateOf(() => bytes, seconds);
  over.abort();
  await reading;
  return perSecond / 1e6;
}

const size = (valueBytes: number): string => (valueBytes === 1024 ? "1 KB" : `${valueBytes} B`);

async function produceAndConsume(
  { folder, seconds }: BenchContext,
  valueBytes: number,
  goals: { readonly produce: number; readonly consume?: number },
): Promise<Figure[]> {
  return withCluster(folder, async (cluster, client) => {
    const produced = await produceFor(client, valueBytes, seconds);
    const consumed = await consumeFor(client, seconds);
    const rss = memoryMb(cluster.storage.pid, "VmHWM");
    return [
      {
        name: `produce ${size(valueBytes)}, fsync before ack`,
        value: produced,
        unit: "MB/s",
        goal: goals.produce,
      },
      {
        name: `consume ${size(valueBytes)}`,
        value: consumed,
        unit: "MB/s",
        ...(goals.consume === undefined ? {} : { goal: goals.consume }),
      },
      ...(rss === undefined || valueBytes !== 1024
        ? []
        : [{ name: "storage under load, peak RSS", value: rss, unit: "MB", goal: 300 }]),
    ];
  });
}

/** Produce and consume 1 KB. */
export const produceCase: BenchCase = {
  name: "produce",
  summary: "1 KB records into a topic, fsync before ack, and out of it; peak RSS of the storage service",
  run: (context) => produceAndConsume(context, 1024, { produce: 150, consume: 200 }),
};

/** Produce and consume 100 B. */
export const produceSmallCase: BenchCase = {
  name: "produce-small",
  summary: "the same with 100 B",
  run: (context) => produceAndConsume(context, 100, { produce: 60 }),
};

/** From `send` to the consumer's hands, at 10 MB/s. */
export const latencyCase: BenchCase = {
  name: "latency",
  summary: "from send to consumed, 1 KB records at 10 MB/s",
  run: ({ folder, seconds }) =>
    withCluster(folder, async (_cluster, client) => {
      await paced(client, seconds / 3);
      const samples = await paced(client, seconds);
      return [
        { name: "produce to consumed at 10 MB/s, p50", value: percentile(samples, 0.5), unit: "ms" },
        {
          name: "produce to consumed at 10 MB/s, p99",
          value: percentile(samples, 0.99),
          unit: "ms",
          goal: 20,
        },
      ];
    }),
};

/** Sends at the rate for a time; gives the milliseconds of every record. The time of a send is written into its value. */
async function paced(client: Client, seconds: number): Promise<number[]> {
  const consumer = client.consumer();
  await consumer.assign([{ topic, partition: 0, from: "end" }]);
  const producer = client.producer();
  const samples: number[] = [];
  const total = Math.floor((latencyBytesPerSecond / latencyValueBytes) * seconds);
  const reading = (async () => {
    for await (const batch of consumer) {
      const now = performance.now();
      for (const { value } of batch.records) if (value !== null) samples.push(now - sentMs(value));
      if (samples.length >= total) break;
    }
  })();
  await sendPaced(producer, total);
  await reading;
  consumer.close();
  await producer.close();
  return samples;
}

/** A record's due time counts, not the moment it was sent at: a sender that stalls hides nothing. */
async function sendPaced(producer: Producer, total: number): Promise<void> {
  const start = performance.now();
  const perMs = latencyBytesPerSecond / latencyValueBytes / 1000;
  const sends: Promise<unknown>[] = [];
  for (let sent = 0; sent < total; ) {
    const due = Math.min(total, Math.floor((performance.now() - start) * perMs));
    for (; sent < due; sent++) {
      const value = Buffer.alloc(latencyValueBytes);
      value.writeDoubleLE(start + sent / perMs);
      sends.push(producer.send(topic, { value }));
    }
    await pause(latencyTickMs);
  }
  await Promise.all(sends);
}

function sentMs(value: Uint8Array): number {
  return new DataView(value.buffer, value.byteOffset, 8).getFloat64(0, true);
}
