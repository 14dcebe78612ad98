/** `millrace consume`: a topic's records onto stdout. */
import { AppError } from "@millrace/base";
import type { Client, Consumer, ConsumerBatch, StartAt } from "@millrace/client";
import type { Command } from "commander";
import { type ClusterOptions, onTopic, withClient, withCluster } from "../cluster.ts";
import { addExamples } from "../help.ts";
import { type ConsumeFrom, consumeFrom, wholeNumber } from "../numbers.ts";
import { exitCode, Output } from "../output.ts";
import { recordJson } from "../record-text.ts";

interface ConsumeOptions extends ClusterOptions {
  readonly offset: ConsumeFrom;
  readonly partition?: readonly number[];
  readonly count?: number;
  readonly exit?: boolean;
  readonly json?: boolean;
}

/** Adds `consume`. */
export function addConsumeCommand(program: Command): void {
  const command = program
    .command("consume")
    .description("Print a topic's records, one a line, as they are there and as they come.")
    .argument("<topic>", "name")
    .option(
      "-o, --offset <from>",
      "start, end, an offset, or @TIME (ms since 1970 or ISO 8601)",
      consumeFrom,
      "start",
    )
    .option("-p, --partition <number>", "only this partition; may be repeated", collectPartition)
    .option("-n, --count <records>", "stop after so many records", wholeNumber(1))
    .option("-e, --exit", "stop at the end, as it was when reading began")
    .option("--json", "one JSON object a line: offset, time, key, value, headers")
    .action(consume);
  addExamples(withCluster(command), [
    ["what comes from now on", "millrace consume logs -o end"],
    ["everything there is, then stop", "millrace consume logs -e"],
    [
      "ten records since a time, with keys and headers",
      "millrace consume logs -o @2026-01-01T00:00:00Z -n 10 --json",
    ],
  ]);
}

function collectPartition(text: string, before: readonly number[] = []): number[] {
  return [...before, wholeNumber(0, 1_000_000)(text)];
}

async function consume(topic: string, options: ConsumeOptions): Promise<void> {
  const closed = new AbortController();
  const output = new Output(process, () => closed.abort());
  await withClient(options, (client) =>
    onTopic(client, topic, async () => {
      const plan = await planOf(client, topic, options);
      const consumer = client.consumer();
      await consumer.assign(plan.map(({ partition, from }) => ({ topic, partition, from })));
      const printed = await printRecords(consumer, output, plan, options, closed.signal);
      if (printed.poisonCount > 0) process.exitCode = exitCode.failure;
    }),
  );
}

/** A partition to read: from where, and where `-e` stops. */
interface Part {
  readonly partition: number;
  readonly from: StartAt;
  /** Offset to stop at; undefined: never. */
  readonly until: number | undefined;
}

/** What is to be read; partitions with nothing to read before their end are left out with `-e`. */
async function planOf(client: Client, topic: string, options: ConsumeOptions): Promise<Part[]> {
  const info = await client.metadata.byName(topic);
  const numbers = options.partition ?? info.partitions.map(({ partition }) => partition);
  for (const partition of numbers) {
    if (info.partitions[partition] !== undefined) continue;
    throw new AppError(
      "INVALID_REQUEST",
      `topic ${topic} has no partition ${partition}: it has 0 to ${info.partitions.length - 1}`,
    );
  }
  const parts = await Promise.all(
    [...new Set(numbers)].map(async (partition): Promise<Part | undefined> => {
      if (options.exit !== true) return { partition, from: options.offset, until: undefined };
      const { offset: until } = await client.admin.listOffsets(topic, partition, "end");
      const from = await startOf(client, topic, partition, options.offset);
      return from < until ? { partition, from, until } : undefined;
    }),
  );
  return parts.filter((part) => part !== undefined);
}

async function startOf(client: Client, topic: string, partition: number, from: ConsumeFrom): Promise<number> {
  if (typeof from === "number") return from;
  return (await client.admin.listOffsets(topic, partition, from)).offset;
}

async function printRecords(
  consumer: Consumer,
  output: Output,
  plan: readonly Part[],
  options: ConsumeOptions,
  signal: AbortSignal,
): Promise<{ readonly poisonCount: number }> {
  const reading = new Map(plan.map((part) => [part.partition, part.until ?? Number.POSITIVE_INFINITY]));
  let left = options.count ?? Number.POSITIVE_INFINITY;
  let poisonCount = 0;
  while (left > 0 && reading.size > 0 && output.isOpen) {
    const batch = await consumer.next(signal);
    if (batch === undefined) break;
    const { topicId, partition, nextOffset } = batch;
    const until = reading.get(partition) ?? 0;
    const wanted = batch.records.filter((record) => record.offset < until).slice(0, left);
    left -= wanted.length;
    if (batch.poison !== undefined) {
      poisonCount++;
      output.note(
        `millrace: partition ${partition}: a batch before offset ${nextOffset} does not decode: left out`,
      );
    }
    if (wanted.length > 0) await output.write(textOf(batch, wanted, options.json === true));
    if (nextOffset >= until) {
      reading.delete(partition);
      consumer.remove(topicId, partition);
    }
  }
  consumer.close();
  return { poisonCount };
}

const newline = Buffer.from("\n");

/** The values' bytes as they are, one a line; or one JSON object a line. */
function textOf(
  batch: ConsumerBatch,
  records: ConsumerBatch["records"],
  asJson: boolean,
): Uint8Array | string {
  if (asJson) return records.map((record) => recordJson(batch, record)).join("");
  return Buffer.concat(
    records.flatMap((record) => (record.value === null ? [newline] : [record.value, newline])),
  );
}
