/** The pipeline that `up` runs: files -> file channel -> topic. Kept in the data directory as a YAML file to read and learn from. */

import type { Layout } from "./layout.ts";
import { machineLogs, type UpPlan } from "./plan.ts";

/** Topic and connector of `up`. */
export const topicName = "logs";

/** Name of the agent of `up`. */
export const agentName = "up";

/** Partitions of the topic. */
export const partitionCount = 3;

/** Of a file of the machine that was not seen before, at most so much is read. */
const firstSightBytes = 16 * 1024 * 1024;

/** Longest line kept in one record; the topic takes batches that hold it. */
const lineBytesMax = 4 * 1024 * 1024;

/** `max.message.bytes` of the topic: a longest line with its headers. */
export const messageBytesMax = 5 * 1024 * 1024;

/** Records of one transaction: one fsync. */
const batchRecords = 2_000;

/** Records in the channel at most. */
const channelRecordsMax = 5_000_000;

/** The pipeline's configuration. */
export function pipelineOf(plan: UpPlan, layout: Layout): Record<string, unknown> {
  const isMachine = plan.tails.length === 0;
  return {
    agent: { name: agentName },
    sources: {
      files: {
        type: "taildir",
        paths: isMachine ? [`${machineLogs}/**/*`, layout.logFile] : plan.tails,
        ...(isMachine ? { alwaysRead: [layout.logFile], skipBinary: true } : {}),
        ...(plan.from === "last" ? { firstSightBytes } : {}),
        ...(plan.from === "end" ? { skipToEnd: true } : {}),
        maxLineBytes: lineBytesMax,
        batchSize: batchRecords,
        fileHeader: true,
        byteOffsetHeader: true,
        interceptors: [{ name: "host", type: "host", useIP: false }],
        channels: ["channel"],
      },
    },
    channels: {
      channel: {
        type: "file",
        capacity: channelRecordsMax,
        byteCapacity: plan.limits.channel,
        maxFileSize: plan.limits.segment,
      },
    },
    sinks: { topic: { type: "millrace", topic: topicName, channel: "channel" } },
  };
}
