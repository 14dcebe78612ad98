/**
 * Reads all services in one turn of the event loop: one consistent cut (rule S1).
 *
 * The topic is followed by its name (L3): when it was deleted and made anew, the account goes on with the new one, and
 * what had gone into the old one is left out of it. That number is kept in the data directory.
 */
import { readFileSync } from "node:fs";
import { AppError, fromWireSequence } from "@millrace/base";
import { realDisk, replaceFile } from "@millrace/runtime";
import { type Cut, goneBefore, type PartitionCut } from "./account.ts";
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
  /** True: the channel's sink has opened once, so that what it sent can be told from what others did. */
  readonly isAccountable: boolean;
  /** True: the sources have looked for their files, and every partition's task knows where it stands. */
  readonly isComplete: boolean;
  /** What a component reports as its failure; undefined when all is well. */
  readonly trouble: string | undefined;
  /** Per partition, the offset below which everything is published (rule S2). */
  readonly published: readonly {
    readonly topicId: string;
    readonly partition: number;
    readonly offset: number;
  }[];
}

/** What is kept of earlier topics. An agent with a new identity (L1) is another producer: the account begins again too. */
interface Kept {
  readonly topicId: string;
  readonly agentId: string;
  readonly gone: number;
}

const formatVersion = 1;

/** Reads again and again. */
export class Reader {
  readonly #services: Services;
  readonly #path: string;
  #kept: Kept | undefined;

  /** `path`: file of what is kept. Throws UNSUPPORTED_VERSION for one of a newer version. */
  constructor(services: Services, path: string) {
    this.#services = services;
    this.#path = path;
    this.#kept = readKept(path);
  }

  /** Reads everything; synchronous. */
  read(): Reading {
    const { agent, storage, connector } = this.#services;
    const pipeline = agent.status();
    const [source] = pipeline.sources;
    const [channel] = pipeline.channels;
    const [sink] = pipeline.sinks;
    if (source === undefined || channel === undefined || sink === undefined)
      throw new TypeError("the pipeline of up has a source, a channel and a sink");
    const partitions = storage.partitions().filter(({ topic }) => topic === topicName);
    const topicId = partitions[0]?.topicId;
    const tasks = connector
      .status()
      .filter((task) => task.connector === topicName && task.topicId === topicId);
    const taskOf = (partition: number) => tasks.find((task) => task.partition === partition);

    const producerId = sink.details["producerId"];
    const isAccountable = typeof producerId === "number";
    const isComplete =
      isAccountable &&
      source.state !== "starting" &&
      partitions.length > 0 &&
      partitions.every(({ partition }) => taskOf(partition)?.state === "running");
    const raw: Cut = {
      read: source.counts.read,
      setAsideBefore: source.counts.withheld,
      channelEnd: channel.putCount,
      channelDone: channel.putCount - channel.depthCount,
      channelTaken: channel.takenCount,
      setAsideBySink: sink.setAsideCount,
      gone: 0,
      partitions: partitions.map((partition) =>
        partitionCut(partition, taskOf(partition.partition), producerId),
      ),
    };
    return {
      cut: { ...raw, gone: this.#gone(raw, topicId, pipeline.agentId, isComplete) },
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
      isAccountable,
      isComplete,
      trouble: [source.error, sink.error, ...tasks.map((task) => task.error)].find((error) => error),
      published: partitions.map(({ topicId: id, partition }) => ({
        topicId: id,
        partition,
        // Nothing goes before its task has said where it stands.
        offset: taskOf(partition)?.resume ?? 0,
      })),
    };
  }

  /** Decided once per topic, when everything is there to be read; until then whatever leaves nothing open. */
  #gone(cut: Cut, topicId: string | undefined, agentId: string, isComplete: boolean): number {
    if (this.#kept?.topicId === topicId && this.#kept?.agentId === agentId) return this.#kept.gone;
    // The first topic of a directory: nothing went anywhere else.
    const gone = this.#kept === undefined ? 0 : goneBefore(cut);
    if (topicId === undefined || !isComplete) return goneBefore(cut);
    this.#kept = { topicId, agentId, gone };
    const text = JSON.stringify({ formatVersion, ...this.#kept });
    replaceFile(realDisk, this.#path, Buffer.from(`${text}\n`)).catch(() => {
      // Tried again with the next start; the figures shown now are right.
    });
    return gone;
  }
}

function partitionCut(
  partition: ReturnType<Services["storage"]["partitions"]>[number],
  task: ReturnType<Services["connector"]["status"]>[number] | undefined,
  producerId: string | number | undefined,
): PartitionCut {
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
}

function readKept(path: string): Kept | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  const kept = JSON.parse(text) as Kept & { readonly formatVersion?: number };
  if (kept.formatVersion !== formatVersion) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${path} is of format ${kept.formatVersion ?? "unknown"}, this version knows ${formatVersion}: use the Millrace that wrote it`,
    );
  }
  return kept;
}
