/** Reads all services in one turn of the event loop: one consistent cut (rule S1). */
import { fromWireSequence } from "@millrace/base";
import type { Cut, PartitionCut } from "./account.ts";
import type { Sizes } from "./hold.ts";
import { topicName } from "./pipeline.ts";
import type { Services } from "./services.ts";

/** What is read at once. */
export interface Reading {
  readonly cut: Cut;
  readonly sizes: Sizes;
  /** Share of the channel's capacity in use, 0 to 1. */
  readonly channelShare: number;
  /** 99 % of the records of the last minute were durable in the topic so soon after they were read. */
  readonly p99Ms: number | undefined;
  /** Files that are followed. */
  readonly streamCount: number;
  /** Files that are published. */
  readonly publishedFileCount: number;
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
  /** True: the sources have looked for their files, and every partition's task knows where it stands. */
  readonly isComplete: boolean;
  /** What a component reports as its failure; undefined when all is well. */
  readonly trouble: string | undefined;
  /** Offsets below which partitions are published (rule S2). */
  readonly published: readonly { readonly partition: number; readonly offset: number }[];
}

/** Reads everything; synchronous. */
export function readServices({ agent, storage, connector, topicId }: Services): Reading {
  const pipeline = agent.status();
  const [source] = pipeline.sources;
  const [channel] = pipeline.channels;
  const [sink] = pipeline.sinks;
  if (source === undefined || channel === undefined || sink === undefined)
    throw new TypeError("the pipeline of up has a source, a channel and a sink");
  const tasks = connector.status().filter((task) => task.connector === topicName && task.topicId === topicId);
  const partitions = storage.partitions().filter((partition) => partition.topicId === topicId);
  const producerId = sink.details["producerId"];

  const cuts = partitions.map((partition): PartitionCut => {
    const task = tasks.find((each) => each.partition === partition.partition);
    const last = typeof producerId === "number" ? partition.lastSequences.get(producerId) : undefined;
    return {
      start: partition.startOffset,
      end: partition.endOffset,
      // On the wire it is modulo 2^31 (P2); it is never above the end.
      sent: last === undefined || last < 0 ? 0 : fromWireSequence(last, partition.endOffset) + 1,
      begun: task?.begun ?? 0,
      resume: task?.resume ?? 0,
      published: task?.published ?? 0,
      setAside: task?.setAside ?? 0,
    };
  });
  return {
    cut: {
      read: source.counts.read,
      setAsideBefore: source.counts.withheld,
      channelEnd: channel.putCount,
      channelDone: channel.putCount - channel.depthCount,
      channelTaken: channel.takenCount,
      setAsideBySink: sink.setAsideCount,
      partitions: cuts,
    },
    sizes: {
      topic: partitions.reduce((sum, partition) => sum + partition.sizeBytes, 0),
      channel: channel.sizeBytes,
      channelDepth: channel.depthBytes,
    },
    channelShare: Math.max(
      channel.depthBytes / channel.capacityBytes,
      channel.depthCount / channel.capacityCount,
    ),
    p99Ms: sink.delayMsP99,
    streamCount: source.streamCount,
    publishedFileCount: tasks.reduce((sum, task) => sum + (task.files ?? 0), 0),
    skipped: source.skipped,
    isComplete:
      source.state !== "starting" &&
      partitions.length > 0 &&
      partitions.every(({ partition }) =>
        tasks.some((task) => task.partition === partition && task.state === "running"),
      ),
    trouble: [source.error, sink.error, ...tasks.map((task) => task.error)].find((error) => error),
    published: tasks.map(({ partition, resume }) => ({ partition, offset: resume })),
  };
}
