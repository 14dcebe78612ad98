/** Shared by this library's tests: batches, and directories on a simulated disk. */
import { decodeBatch, encodeBatch, iterateBatches, type Record as LogRecord } from "@millrace/record";
import { SimClock, SimDisk } from "@millrace/testkit";
import { openDataDirectory } from "../directory.ts";
import type { LogEvent } from "../events.ts";
import { defaultLogConfig } from "../limits.ts";
import type { DataDirectory, DirectoryOptions, Log, LogConfig, LogId } from "../types.ts";

export const testPath = "/data";

export const topicId: LogId = {
  kind: "topic",
  topicId: "AAAAAAAAAAAAAAAAAAAAAA",
  topicName: "topic",
  partition: 0,
};
export const otherId: LogId = {
  kind: "topic",
  topicId: "BBBBBBBBBBBBBBBBBBBBBB",
  topicName: "other",
  partition: 1,
};
export const channelId: LogId = { kind: "channel", channelId: "channel", channelName: "channel" };

/** Small segments, so that a few batches roll. */
export const smallConfig: LogConfig = {
  ...defaultLogConfig,
  segmentBytes: 2000,
  indexIntervalBytes: 200,
  retentionMs: -1,
};

export interface BatchOptions {
  readonly count?: number;
  readonly valueBytes?: number;
  readonly timestampMs?: number;
  readonly producer?: {
    readonly producerId: number;
    readonly producerEpoch: number;
    readonly baseSequence: number;
  };
}

/** A batch of records `<name>:<i>`, padded. */
export function batchOf(name: string, options: BatchOptions = {}): Uint8Array {
  const { count = 1, valueBytes = 100, timestampMs = 1_700_000_000_000 } = options;
  const records: LogRecord[] = Array.from({ length: count }, (_, i) => ({
    key: null,
    value: Buffer.from(`${name}:${i}`.padEnd(valueBytes, " ")),
    headers: [],
    timestampMs,
  }));
  return encodeBatch(records, options.producer ?? {});
}

export interface OpenedWorld {
  readonly disk: SimDisk;
  readonly clock: SimClock;
  readonly events: LogEvent[];
  readonly directory: DataDirectory;
}

/** Opens a directory on `disk` (a new one by default). */
export async function openSim(
  disk = new SimDisk(),
  options: Partial<DirectoryOptions> = {},
  clock = new SimClock(),
): Promise<OpenedWorld> {
  const events: LogEvent[] = [];
  const directory = await openDataDirectory({
    path: testPath,
    disk,
    clock,
    identity: { role: "storage" },
    journalFileBytes: 64 * 1024,
    onEvent: (event) => events.push(event),
    ...options,
  });
  return { disk, clock, events, directory };
}

/** Appends one batch to logs and waits until it is durable; returns the base offsets. */
export async function append(
  directory: DataDirectory,
  logs: readonly Log[],
  batch: Uint8Array,
  leaderEpoch = 0,
): Promise<readonly number[]> {
  const { baseOffsets, durable } = directory.commit([{ logs, batch, leaderEpoch }]);
  await durable;
  return baseOffsets[0] ?? [];
}

/** The batches of a log from `from` on: [base offset, name of its first record]. */
export async function readAll(
  log: Log,
  from = log.startOffset,
  upTo: "durable" | "end" = "durable",
): Promise<[number, string][]> {
  const found: [number, string][] = [];
  let offset = from;
  for (;;) {
    const chunks = await log.read(offset, 500, upTo);
    if (chunks.length === 0) return found;
    for (const chunk of chunks) {
      for (const { position, header } of iterateBatches(chunk)) {
        const value = decodeBatch(chunk, position)[0]?.value ?? new Uint8Array();
        found.push([header.baseOffset, Buffer.from(value).toString().split(":")[0] ?? "?"]);
        offset = header.nextOffset;
      }
    }
  }
}

/** Lets pending work go on: some turns of the event loop. */
export async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
