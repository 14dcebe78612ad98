/** The channel types with their configuration: Flume's keys where Flume has them. */
import { size, z } from "@millrace/config";
import {
  fileCapacityBytes,
  fileCapacityRecords,
  fileTransactionRecords,
  keepAliveMsDefault,
  memoryCapacityBytes,
  memoryCapacityRecords,
  recordBytesMax,
  segmentBytesDefault,
} from "./limits.ts";
import type { ChannelLimits } from "./types.ts";

/** A channel type. */
export interface ChannelDefinition {
  readonly type: "file" | "memory";
  readonly aliases: readonly string[];
  readonly summary: string;
  readonly guaranteeNote: string;
  readonly config: z.ZodType;
  /** Flume's keys that are accepted and have no meaning here, with the reason. */
  readonly withoutMeaning: Readonly<Record<string, string>>;
  /** Limits and the like, from a parsed configuration. */
  readonly read: (config: unknown) => ChannelSettings;
  readonly examples: readonly { readonly title: string; readonly yaml: string }[];
}

/** What a channel is opened with. */
export interface ChannelSettings {
  readonly type: "file" | "memory";
  readonly limits: ChannelLimits;
  /** File channel: size of a segment file. */
  readonly segmentBytes?: number;
}

const count = (fallback: number, description: string) =>
  z.number().int().min(1).max(1_000_000_000).default(fallback).meta({ description });

const ignored = z.union([z.string(), z.number(), z.boolean()]).optional();

const keepAlive = z
  .number()
  .min(0)
  .max(3_600)
  .default(keepAliveMsDefault / 1_000)
  .meta({ description: "Seconds a put waits for room before it is refused." });

const checkpoint = "there is no queue checkpoint to configure";
const fileIgnored = {
  checkpointDir: checkpoint,
  useDualCheckpoints: checkpoint,
  backupCheckpointDir: checkpoint,
  compressBackupCheckpoint: checkpoint,
  checkpointInterval: checkpoint,
  checkpointOnClose: checkpoint,
  dataDirs: "channels live in the agent's data directory (--data-directory)",
  minimumRequiredSpace: "a full disk pauses puts by itself",
  fsyncPerTransaction: "every put is durable before it is acknowledged",
  fsyncInterval: "every put is durable before it is acknowledged",
  "use-log-replay-v1": "there is one way to recover",
  "use-fast-replay": "there is one way to recover",
};

const fileConfig = z.strictObject({
  capacity: count(fileCapacityRecords, "Undelivered records it takes before its sources wait."),
  transactionCapacity: count(fileTransactionRecords, "Records in one put."),
  "keep-alive": keepAlive,
  byteCapacity: size({ min: 1 })
    .default(fileCapacityBytes)
    .describe("Bytes of undelivered records it takes before its sources wait."),
  maxFileSize: size({ min: 1024 * 1024, max: 2 ** 31 - 1 })
    .default(segmentBytesDefault)
    .describe("Size of a segment file; delivered records are removed from disk in these units."),
  ...ignoredKeys(fileIgnored),
});

const memoryIgnored = { byteCapacityBufferPercentage: "headers are counted as they are" };

const memoryConfig = z.strictObject({
  capacity: count(memoryCapacityRecords, "Undelivered records it takes before its sources wait."),
  transactionCapacity: count(memoryCapacityRecords, "Records in one put."),
  "keep-alive": keepAlive,
  byteCapacity: size({ min: 1 })
    .default(memoryCapacityBytes)
    .describe("Bytes of undelivered records it takes before its sources wait."),
  ...ignoredKeys(memoryIgnored),
});

function ignoredKeys(reasons: Readonly<Record<string, string>>): Record<string, typeof ignored> {
  return Object.fromEntries(
    Object.entries(reasons).map(([key, reason]) => [
      key,
      ignored.meta({ description: `Accepted for Flume's sake: ${reason}.` }),
    ]),
  );
}

interface CommonConfig {
  readonly capacity: number;
  readonly transactionCapacity: number;
  readonly "keep-alive": number;
  readonly byteCapacity: number;
}

function limitsOf(config: CommonConfig): ChannelLimits {
  return {
    records: config.capacity,
    bytes: config.byteCapacity,
    transactionRecords: config.transactionCapacity,
    recordBytes: Math.min(recordBytesMax, config.byteCapacity),
    keepAliveMs: config["keep-alive"] * 1_000,
  };
}

/** All channel types. */
export const channelDefinitions: readonly ChannelDefinition[] = [
  {
    type: "file",
    aliases: ["org.apache.flume.channel.file.FileChannel"],
    summary: "Keeps records in the write-ahead log of the agent's data directory.",
    guaranteeNote:
      "A put is durable (fsync) before its source is answered. A put into several file channels is in all of them or in none.",
    config: fileConfig,
    withoutMeaning: fileIgnored,
    read: (parsed) => {
      const config = parsed as z.output<typeof fileConfig>;
      return { type: "file", limits: limitsOf(config), segmentBytes: config.maxFileSize };
    },
    examples: [{ title: "With a limit of its own", yaml: "type: file\nbyteCapacity: 10GiB" }],
  },
  {
    type: "memory",
    aliases: ["org.apache.flume.channel.MemoryChannel"],
    summary: "Keeps records in memory: fast, and gone when the process dies.",
    guaranteeNote:
      "Positions of sources are saved only when the sinks have delivered, so a source that can read again loses nothing; a sender that was answered may lose what was not delivered.",
    config: memoryConfig,
    withoutMeaning: memoryIgnored,
    read: (parsed) => ({ type: "memory", limits: limitsOf(parsed as z.output<typeof memoryConfig>) }),
    examples: [
      {
        title: "Room for bursts",
        yaml: "type: memory\ncapacity: 10000\ntransactionCapacity: 1000",
      },
    ],
  },
];

/** The channel type of this name, any case. */
export function channelDefinition(type: string): ChannelDefinition | undefined {
  const wanted = type.toLowerCase();
  return channelDefinitions.find(
    (one) => one.type === wanted || one.aliases.some((alias) => alias.toLowerCase() === wanted),
  );
}
