/**
 * Which partitions this node hosts and leads: the metadata carried out on the data directory.
 *
 * Data flow: MetadataView change -> leadership updated at once (what is no longer led is no longer served) -> reconcile,
 * one at a time: logs created, opened, configured, deleted by topic id; a new leader epoch is durable before anything
 * is served under it. A topic's logs are deleted only when the followed history says that the topic is gone.
 */
import { AppError } from "@millrace/base";
import type { MetadataView } from "@millrace/client";
import type { DataDirectory, Log, LogConfig } from "@millrace/log";
import type { Listener, Node, Partition, Topic } from "@millrace/proto/metadata";
import type { Clock, Timer } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import {
  partitionDeleted,
  partitionFailed,
  partitionLed,
  partitionOpened,
  producerRemoved,
  staleLeaderEpoch,
} from "../events.ts";
import { bringUpRetryMs } from "../limits.ts";
import { toLogConfig } from "../topic-config.ts";
import { checkLeadership, type LeadershipState } from "./leadership.ts";

/** A partition that this node hosts. */
export class HostedPartition implements LeadershipState {
  readonly topicId: string;
  readonly topicName: string;
  readonly partition: number;
  readonly label: string;
  leaderId = "";
  leaderAddress = "";
  leaderEpoch = -1;
  servingEpoch: number | undefined;
  isToldToLead = false;
  log: Log | undefined;
  /** Called once each when the node stops serving the partition under the present epoch. */
  readonly onLost = new Set<(error: AppError) => void>();

  constructor(topicId: string, topicName: string, partition: number) {
    this.topicId = topicId;
    this.topicName = topicName;
    this.partition = partition;
    this.label = `${topicName}-${partition}`;
  }

  /** Stops serving. */
  lose(error: AppError): void {
    this.servingEpoch = undefined;
    const listeners = [...this.onLost];
    this.onLost.clear();
    for (const run of listeners) run(error);
  }
}

/** A partition that may be read and written now. */
export interface ServedPartition {
  readonly hosted: HostedPartition;
  readonly log: Log;
  readonly leaderEpoch: number;
}

/** A hosted partition at one moment. */
export interface PartitionStatus {
  readonly topicId: string;
  readonly topic: string;
  readonly partition: number;
  readonly startOffset: number;
  /** Next offset to be assigned. */
  readonly endOffset: number;
  readonly sizeBytes: number;
  /** Wire sequence of the last record of each producer the partition knows. */
  readonly lastSequences: ReadonlyMap<number, number>;
}

/** What the partitions work with. */
export interface PartitionsOptions {
  readonly directory: DataDirectory;
  readonly nodeId: string;
  readonly view: MetadataView;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
}

/** See the file's comment. */
export class Partitions {
  readonly #options: PartitionsOptions;
  readonly #hosted = new Map<string, HostedPartition>();
  #reconciling: Promise<void> | undefined;
  readonly #problems = new Map<string, AppError>();
  #retryTimer: Timer | undefined;
  #isDirty = false;
  #isStopping = false;

  constructor(options: PartitionsOptions) {
    this.#options = options;
  }

  /** What is hosted. */
  get all(): Iterable<HostedPartition> {
    return this.#hosted.values();
  }

  /** How the opened ones stand, all at one moment. */
  status(): PartitionStatus[] {
    return [...this.#hosted.values()].flatMap(({ topicId, topicName: topic, partition, log }) => {
      if (log === undefined) return [];
      const { startOffset, endOffset, sizeBytes } = log;
      const lastSequences = new Map(log.producers().map((each) => [each.producerId, each.lastSequence]));
      return [{ topicId, topic, partition, startOffset, endOffset, sizeBytes, lastSequences }];
    });
  }

  /** Takes the view's present state in. Resolves when the disk agrees with it. */
  update(): Promise<void> {
    this.#updateLeadership();
    this.#isDirty = true;
    this.#reconciling ??= this.#reconcile().finally(() => {
      this.#reconciling = undefined;
    });
    return this.#reconciling;
  }

  /** Stops serving everything. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#retryTimer?.cancel();
    for (const hosted of this.#hosted.values())
      hosted.lose(new AppError("NODE_STARTING", `${hosted.label}: the node is stopping; try again`));
    await this.#reconciling;
  }

  /**
   * The partition, when this node serves it to a request that knows `leaderEpoch` (-1 = does not tell).
   * Throws UNKNOWN_TOPIC_ID, NOT_LEADER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NODE_STARTING, STORAGE_FAILED.
   */
  serve(topicId: string, partition: number, leaderEpoch: number): ServedPartition {
    const hosted = this.#hosted.get(keyOf(topicId, partition));
    if (this.#isStopping) throw new AppError("NODE_STARTING", "the node is stopping; try again");
    if (hosted === undefined) {
      if (!this.#options.view.isLoaded)
        throw new AppError(
          "NODE_STARTING",
          "this node has not heard from the metadata service yet; try again",
        );
      throw new AppError(
        "UNKNOWN_TOPIC_ID",
        `no partition ${partition} of a topic with id ${topicId} is hosted here; refresh the metadata`,
        { metadata: { topicId, partition: String(partition) } },
      );
    }
    const epoch = checkLeadership(hosted, leaderEpoch);
    const { log } = hosted;
    if (log === undefined) throw new AppError("NODE_STARTING", `${hosted.label} is being opened; try again`);
    if (log.failure !== undefined) throw AppError.from(log.failure);
    return { hosted, log, leaderEpoch: epoch };
  }

  /** Keeps retention from removing offsets at or above `offset` (rule S2). False: the partition is not open here. */
  holdRetention(topicId: string, partition: number, offset: number): boolean {
    const log = this.#hosted.get(keyOf(topicId, partition))?.log;
    if (log === undefined) return false;
    log.retainFrom = offset;
    return true;
  }

  /** The synchronous part: who leads what. */
  #updateLeadership(): void {
    const { view, nodeId } = this.#options;
    if (!view.isLoaded || this.#isStopping) return;
    for (const topic of view.topics.values()) {
      for (const partition of topic.partitions) {
        if (!partition.replicaIds.includes(nodeId)) continue;
        const hosted = this.#hostedOf(topic, partition);
        const isLeader = partition.leaderId === nodeId;
        const changed = hosted.leaderEpoch !== partition.leaderEpoch || hosted.isToldToLead !== isLeader;
        hosted.leaderId = partition.leaderId;
        hosted.leaderAddress = addressOf(view.nodes.get(partition.leaderId));
        hosted.leaderEpoch = partition.leaderEpoch;
        hosted.isToldToLead = isLeader;
        if (changed && hosted.servingEpoch !== undefined) {
          hosted.lose(
            new AppError(
              "NOT_LEADER",
              `${hosted.label}: the leader or its epoch changed; refresh the metadata`,
            ),
          );
        }
      }
    }
    for (const [key, hosted] of this.#hosted) {
      const told = view.topics
        .get(hosted.topicId)
        ?.partitions.find((each) => each.partition === hosted.partition);
      if (told?.replicaIds.includes(nodeId) === true) continue;
      this.#hosted.delete(key);
      hosted.lose(
        new AppError(
          "UNKNOWN_TOPIC_ID",
          `${hosted.label} is not hosted here any more; refresh the metadata`,
          {
            metadata: { topicId: hosted.topicId },
          },
        ),
      );
    }
  }

  #hostedOf(topic: Topic, { partition }: Partition): HostedPartition {
    const key = keyOf(topic.topicId, partition);
    let hosted = this.#hosted.get(key);
    if (hosted === undefined) {
      hosted = new HostedPartition(topic.topicId, topic.name, partition);
      this.#hosted.set(key, hosted);
    }
    return hosted;
  }

  async #reconcile(): Promise<void> {
    const isOver = (): boolean => this.#isStopping;
    while (this.#isDirty && !isOver()) {
      this.#isDirty = false;
      this.#problems.clear();
      if (!this.#options.view.isLoaded) return;
      await this.#deleteGone();
      for (const hosted of [...this.#hosted.values()]) {
        if (isOver()) return;
        try {
          await this.#bringUp(hosted);
        } catch (thrown) {
          this.#report(hosted.label, AppError.from(thrown));
        }
      }
      this.#forgetProducers();
    }
    this.#reportReadiness();
  }

  /** What could not be brought up is tried again: a disk gets room, a folder its rights. */
  #reportReadiness(): void {
    const { telemetry, clock } = this.#options;
    const [first] = this.#problems;
    if (first === undefined) {
      telemetry.readiness.set("partitions", { ready: true });
      return;
    }
    const [label, error] = first;
    const others = this.#problems.size > 1 ? ` (and ${this.#problems.size - 1} more)` : "";
    telemetry.readiness.set("partitions", { ready: false, reason: `${label}: ${error.message}${others}` });
    this.#retryTimer?.cancel();
    this.#retryTimer = clock.after(bringUpRetryMs, () => void this.update());
  }

  async #deleteGone(): Promise<void> {
    const { directory, telemetry } = this.#options;
    for (const log of directory.logs) {
      if (log.id.kind !== "topic" || this.#hosted.has(keyOf(log.id.topicId, log.id.partition))) continue;
      try {
        await directory.deleteLog(log);
        telemetry.emit(partitionDeleted, { partition: log.label, topicId: log.id.topicId });
      } catch (thrown) {
        this.#report(log.label, AppError.from(thrown));
      }
    }
  }

  /** Opens and configures the log, and starts the epoch this node was told to lead under. */
  async #bringUp(hosted: HostedPartition): Promise<void> {
    const topic = this.#options.view.topics.get(hosted.topicId);
    if (topic === undefined) return; // gone meanwhile: the next round deletes it
    const config = toLogConfig(topic.config);
    const log = hosted.log ?? (await this.#openLog(hosted, config));
    log.alterConfig(config);
    await this.#lead(hosted, log);
  }

  async #openLog(hosted: HostedPartition, config: LogConfig): Promise<Log> {
    const { directory, telemetry } = this.#options;
    const { topicId, topicName, partition, label } = hosted;
    const id = { kind: "topic", topicId, topicName, partition } as const;
    const log = directory.getLog(id) ?? (await directory.createLog(id, config));
    hosted.log = log;
    telemetry.emit(partitionOpened, { partition: label, topicId, endOffset: log.endOffset });
    return log;
  }

  async #lead(hosted: HostedPartition, log: Log): Promise<void> {
    const { telemetry } = this.#options;
    const epoch = hosted.leaderEpoch;
    if (!hosted.isToldToLead || hosted.servingEpoch === epoch) return;
    if (epoch < log.leaderEpoch) {
      telemetry.emit(staleLeaderEpoch, {
        partition: hosted.label,
        leaderEpoch: epoch,
        ownEpoch: log.leaderEpoch,
      });
      return;
    }
    // the metadata may move on while the epoch is made durable
    const isStillWanted = (): boolean =>
      hosted.isToldToLead && hosted.leaderEpoch === epoch && !this.#isStopping;
    if (epoch > log.leaderEpoch) await log.startEpoch(epoch);
    if (!isStillWanted()) return;
    hosted.servingEpoch = epoch;
    telemetry.emit(partitionLed, { partition: hosted.label, leaderEpoch: epoch, endOffset: log.endOffset });
  }

  /** Named producers keep their state until removed by name (P1): this is the removal. */
  #forgetProducers(): void {
    const { directory, view, telemetry } = this.#options;
    if (view.removedProducerIds.size === 0) return;
    for (const { log, label } of this.#hosted.values()) {
      if (log === undefined || log.failure !== undefined) continue;
      for (const { producerId } of log.producers()) {
        if (!view.removedProducerIds.has(producerId)) continue;
        const { durable } = directory.commit([], log.removeProducer(producerId));
        durable.then(
          () => telemetry.emit(producerRemoved, { partition: label, producerId }),
          (thrown: unknown) => this.#report(label, AppError.from(thrown)),
        );
      }
    }
  }

  #report(partition: string, error: AppError): void {
    this.#problems.set(partition, error);
    this.#options.telemetry.emit(partitionFailed, { partition, reason: error.reason, error: error.message });
  }
}

function keyOf(topicId: string, partition: number): string {
  return `${topicId}:${partition}`;
}

function addressOf(node: Node | undefined): string {
  const listener: Listener | undefined =
    node?.listeners.find((each) => each.name === "client") ?? node?.listeners[0];
  return listener === undefined ? "" : `${listener.host}:${listener.port}`;
}
