/** `millrace produce`: lines into a topic. */
import { createReadStream } from "node:fs";
import { AppError } from "@millrace/base";
import type { Client, Producer, ProducerRecord } from "@millrace/client";
import { type Command, Option } from "commander";
import {
  type ClusterOptions,
  collect,
  type FormatOptions,
  keyValues,
  onTopic,
  withClient,
  withCluster,
  withFormat,
} from "../cluster.ts";
import { addExamples } from "../help.ts";
import { linesOf } from "../lines.ts";
import { wholeNumber } from "../numbers.ts";
import { count, Output } from "../output.ts";

/** Groups of lines that wait for their acks at once; bytes are bounded by the producer's buffer. */
const groupsInFlightMax = 256;

interface ProduceOptions extends ClusterOptions, FormatOptions {
  readonly file?: string;
  readonly keySeparator?: string;
  readonly partition?: number;
  readonly header?: readonly string[];
  readonly compression: "none" | "gzip" | "zstd";
}

/** Adds `produce`. */
export function addProduceCommand(program: Command): void {
  const command = program
    .command("produce")
    .description("Write lines of stdin or a file into a topic, each as one record, and wait for the acks.")
    .argument("<topic>", "name")
    .option("-f, --file <path>", "read lines from this file instead of stdin")
    .option("--key-separator <text>", "what stands before it in a line is the key")
    .option("-p, --partition <number>", "write to this partition only", wholeNumber(0, 1_000_000))
    .option("-H, --header <key=value>", "header of every record; may be repeated", collect)
    .addOption(
      new Option("--compression <codec>", "codec of the batches")
        .choices(["none", "gzip", "zstd"])
        .default("none"),
    )
    .action(produce);
  addExamples(withFormat(withCluster(command)), [
    ["one record", "echo hello | millrace produce logs"],
    ["a file's lines", "millrace produce logs -f access.log"],
    ["with keys", "printf 'alice:1\\nbob:2\\n' | millrace produce clicks --key-separator :"],
  ]);
}

async function produce(topic: string, options: ProduceOptions): Promise<void> {
  const output = new Output();
  const headers = Object.entries(keyValues(options.header ?? [], "-H")).map(([key, value]) => ({
    key,
    value: Buffer.from(value),
  }));
  await withClient(options, (client) =>
    onTopic(client, topic, async () => {
      // Known before the first byte is read: a wrong name must not swallow the input.
      await client.metadata.byName(topic);
      if (options.file === undefined && process.stdin.isTTY) output.note("one record a line, Ctrl-D ends");
      const toRecord = (line: Uint8Array): ProducerRecord => ({
        ...splitKey(line, options.keySeparator),
        ...(headers.length === 0 ? {} : { headers }),
      });
      const totals = await send(client, topic, toRecord, options);
      const text = `${count(totals.records, "record")} acknowledged in ${topic}\n`;
      await output.print({ data: { topic, ...totals }, text }, options.output);
    }),
  );
}

interface Totals {
  records: number;
  bytes: number;
}

async function send(
  client: Client,
  topic: string,
  toRecord: (line: Uint8Array) => ProducerRecord,
  options: ProduceOptions,
): Promise<Totals> {
  const producer = client.producer({ compression: options.compression });
  const acknowledged: Totals = { records: 0, bytes: 0 };
  try {
    await sendLines(producer, topic, toRecord, options, acknowledged);
    await producer.close();
    return acknowledged;
  } catch (thrown) {
    const error = AppError.from(thrown);
    if (error.reason === "TOPIC_NOT_FOUND") throw error;
    throw new AppError(
      error.reason,
      `${error.message} (${count(acknowledged.records, "record")} acknowledged before)`,
      {
        metadata: error.metadata,
        cause: error,
      },
    );
  }
}

async function sendLines(
  producer: Producer,
  topic: string,
  toRecord: (line: Uint8Array) => ProducerRecord,
  options: ProduceOptions,
  acknowledged: Totals,
): Promise<void> {
  const sendOptions = options.partition === undefined ? {} : { partition: options.partition };
  const inFlight = new Set<Promise<void>>();
  let failure: unknown;
  const input = options.file === undefined ? process.stdin : fileStream(options.file);
  for await (const lines of linesOf(input as AsyncIterable<Uint8Array>)) {
    const bytes = lines.reduce((sum, line) => sum + line.byteLength, 0);
    const work: Promise<void> = producer.sendMany(topic, lines.map(toRecord), sendOptions).then(
      () => {
        acknowledged.records += lines.length;
        acknowledged.bytes += bytes;
        inFlight.delete(work);
      },
      (error: unknown) => {
        failure ??= error;
        inFlight.delete(work);
      },
    );
    inFlight.add(work);
    while (failure === undefined && inFlight.size >= groupsInFlightMax) await Promise.race(inFlight);
    if (failure !== undefined) break;
  }
  await producer.flush();
  await Promise.all(inFlight);
  if (failure !== undefined) throw AppError.from(failure);
}

async function* fileStream(path: string): AsyncGenerator<Uint8Array, void, void> {
  try {
    yield* createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw new AppError("INVALID_REQUEST", `-f ${path}: ${AppError.from(error).message}`, { cause: error });
  }
}

/** Key and value of a line; a line without the separator has no key. */
export function splitKey(
  line: Uint8Array,
  separator: string | undefined,
): { readonly key: Uint8Array | null; readonly value: Uint8Array } {
  if (separator === undefined || separator === "") return { key: null, value: line };
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.byteLength);
  const at = bytes.indexOf(separator);
  if (at < 0) return { key: null, value: line };
  return { key: bytes.subarray(0, at), value: bytes.subarray(at + Buffer.byteLength(separator)) };
}
