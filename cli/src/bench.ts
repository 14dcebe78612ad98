/** The measuring loops of `millrace bench`. */
import { randomBytes } from "node:crypto";
import type { Client, Producer } from "@millrace/client";
import { systemClock } from "@millrace/runtime";
import type { BenchConsumeOptions, BenchProduceOptions } from "./commands/bench.ts";
import { table, type View } from "./output.ts";

const mebibyte = 1024 * 1024;
/** Records of one send: acks are timed per send. */
const groupRecords = 100;
/** Bytes of sends under way beyond which the next waits. */
const bytesInFlightMax = 16 * mebibyte;

/** Sends records and waits for every ack. */
export async function benchProduce(
  client: Client,
  topic: string,
  options: BenchProduceOptions,
): Promise<View> {
  await client.metadata.byName(topic);
  const producer = client.producer({ batchBytes: options.batchBytes, lingerMs: options.linger });
  const value = randomBytes(options.size);
  const latencies: number[] = [];
  const startMs = systemClock.monotonicMs();
  await sendAll(producer, topic, value, options, latencies, startMs);
  await producer.close();
  const seconds = (systemClock.monotonicMs() - startMs) / 1000;
  const mebibytes = (options.records * options.size) / mebibyte;
  latencies.sort((a, b) => a - b);
  const average = latencies.reduce((sum, each) => sum + each, 0) / latencies.length;
  const data = {
    records: options.records,
    recordsPerSecond: options.records / seconds,
    mebibytesPerSecond: mebibytes / seconds,
    latencyMsAverage: average,
    latencyMsMax: percentile(latencies, 1),
    latencyMsP50: percentile(latencies, 0.5),
    latencyMsP95: percentile(latencies, 0.95),
    latencyMsP99: percentile(latencies, 0.99),
    latencyMsP999: percentile(latencies, 0.999),
  };
  return { data, text: produceLine(data) };
}

/** The line of kafka-producer-perf-test. */
function produceLine(data: {
  readonly records: number;
  readonly recordsPerSecond: number;
  readonly mebibytesPerSecond: number;
  readonly latencyMsAverage: number;
  readonly latencyMsMax: number;
  readonly latencyMsP50: number;
  readonly latencyMsP95: number;
  readonly latencyMsP99: number;
  readonly latencyMsP999: number;
}): string {
  const { records, recordsPerSecond, mebibytesPerSecond } = data;
  return (
    `${records} records sent, ${recordsPerSecond.toFixed(1)} records/sec (${mebibytesPerSecond.toFixed(2)} MB/sec), ` +
    `${data.latencyMsAverage.toFixed(2)} ms avg latency, ${data.latencyMsMax.toFixed(2)} ms max latency, ` +
    `${data.latencyMsP50.toFixed(0)} ms 50th, ${data.latencyMsP95.toFixed(0)} ms 95th, ` +
    `${data.latencyMsP99.toFixed(0)} ms 99th, ${data.latencyMsP999.toFixed(0)} ms 99.9th.\n`
  );
}

async function sendAll(
  producer: Producer,
  topic: string,
  value: Uint8Array,
  options: BenchProduceOptions,
  latencies: number[],
  startMs: number,
): Promise<void> {
  const inFlight = new Set<Promise<void>>();
  const groupsMax = Math.max(1, Math.floor(bytesInFlightMax / (groupRecords * options.size)));
  for (let sent = 0; sent < options.records; ) {
    const size = Math.min(groupRecords, options.records - sent);
    if (options.rate > 0) await pace(startMs, sent, options.rate);
    const sentMs = systemClock.monotonicMs();
    const records = Array.from({ length: size }, () => ({ value }));
    const work = producer.sendMany(topic, records).then(() => {
      latencies.push(systemClock.monotonicMs() - sentMs);
      inFlight.delete(work);
    });
    inFlight.add(work);
    sent += size;
    while (inFlight.size >= groupsMax) await Promise.race(inFlight);
  }
  await producer.flush();
  await Promise.all(inFlight);
}

async function pace(startMs: number, sent: number, perSecond: number): Promise<void> {
  const waitMs = startMs + (sent / perSecond) * 1000 - systemClock.monotonicMs();
  if (waitMs >= 1) await systemClock.sleep(waitMs);
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** Reads from the start of every partition until so many records were there, or until the end. */
export async function benchConsume(
  client: Client,
  topic: string,
  options: BenchConsumeOptions,
): Promise<View> {
  const info = await client.metadata.byName(topic);
  const ends = await Promise.all(
    info.partitions.map(({ partition }) => client.admin.listOffsets(topic, partition, "end")),
  );
  const starts = await Promise.all(
    info.partitions.map(({ partition }) => client.admin.listOffsets(topic, partition, "start")),
  );
  const available = ends.reduce((sum, end, i) => sum + end.offset - (starts[i]?.offset ?? 0), 0);
  const wanted = Math.min(options.records, available);
  const consumer = client.consumer();
  const startedMs = systemClock.nowMs();
  const startMs = systemClock.monotonicMs();
  await consumer.assign(info.partitions.map(({ partition }) => ({ topic, partition, from: "start" })));
  let records = 0;
  let bytes = 0;
  while (records < wanted) {
    const batch = await consumer.next();
    if (batch === undefined) break;
    records += batch.records.length;
    for (const record of batch.records)
      bytes += (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0);
  }
  const seconds = (systemClock.monotonicMs() - startMs) / 1000;
  consumer.close();
  const data = {
    startTime: new Date(startedMs).toISOString(),
    endTime: new Date(startedMs + seconds * 1000).toISOString(),
    mebibytes: bytes / mebibyte,
    mebibytesPerSecond: bytes / mebibyte / seconds,
    records,
    recordsPerSecond: records / seconds,
  };
  const row = [
    data.startTime,
    data.endTime,
    data.mebibytes.toFixed(4),
    data.mebibytesPerSecond.toFixed(4),
    String(records),
    data.recordsPerSecond.toFixed(4),
  ];
  const headers = [
    "start.time",
    "end.time",
    "data.consumed.in.MB",
    "MB.sec",
    "data.consumed.in.nMsg",
    "nMsg.sec",
  ];
  return { data, text: table(headers, [row]) };
}
