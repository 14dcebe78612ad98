/**
 * What a client knows of topics: ids, partitions, leaders and their addresses.
 *
 * Filled on demand from the metadata service and refreshed when a storage node refuses a request as stale. Names are
 * resolved once (rule L3): a name's entry stays until its topic is found deleted. A partition's leader epoch never goes
 * back: an answer of a replica that is behind does not lead a client to an older leader.
 */
import { AppError } from "@millrace/base";
import {
  type DescribeTopicRequest,
  MetadataServiceService,
  type Node,
  type Topic,
} from "@millrace/proto/metadata";
import type { Clock } from "@millrace/runtime";
import { clientAddress } from "./connections.ts";
import { brokenRefreshWaitMs, refreshWaitMs } from "./limits.ts";
import type { CallOptions, MetadataClient } from "./metadata-client.ts";

/** A partition as a client sees it. */
export interface PartitionInfo {
  readonly partition: number;
  /** Node id of the leader; empty when there is none. */
  readonly leaderId: string;
  /** host:port of the leader; undefined when there is none. */
  readonly leaderAddress: string | undefined;
  readonly leaderEpoch: number;
}

/** A topic as a client sees it. */
export interface TopicInfo {
  readonly topicId: string;
  readonly name: string;
  /** By partition number. */
  readonly partitions: readonly PartitionInfo[];
  /** Configuration keys that were set. */
  readonly config: Readonly<Record<string, string>>;
  /** Epoch milliseconds. */
  readonly createdMs: number;
}

/** Resolves and remembers topics. */
export class MetadataCache {
  readonly #metadata: MetadataClient;
  readonly #byId = new Map<string, TopicInfo>();
  readonly #idByName = new Map<string, string>();
  readonly #inFlight = new Map<string, Promise<TopicInfo>>();

  constructor(metadata: MetadataClient) {
    this.#metadata = metadata;
  }

  /** The topic of this name, from memory when known. Throws TOPIC_NOT_FOUND. */
  async byName(name: string, options?: CallOptions): Promise<TopicInfo> {
    const known = this.peekName(name);
    return known ?? this.#describe(`name:${name}`, { topic: { $case: "name", value: name } }, options);
  }

  /** The topic of this id, from memory when known. Throws TOPIC_NOT_FOUND when it was deleted. */
  async byId(topicId: string, options?: CallOptions): Promise<TopicInfo> {
    return this.#byId.get(topicId) ?? this.refresh(topicId, options);
  }

  /** What is known of this name, without asking. */
  peekName(name: string): TopicInfo | undefined {
    const topicId = this.#idByName.get(name);
    return topicId === undefined ? undefined : this.#byId.get(topicId);
  }

  /** What is known of this id, without asking. */
  peek(topicId: string): TopicInfo | undefined {
    return this.#byId.get(topicId);
  }

  /** Asks again; callers at the same time share one call. Throws TOPIC_NOT_FOUND and forgets the topic when it is gone. */
  async refresh(topicId: string, options?: CallOptions): Promise<TopicInfo> {
    try {
      return await this.#describe(`id:${topicId}`, { topic: { $case: "topicId", value: topicId } }, options);
    } catch (thrown) {
      if (AppError.from(thrown).reason === "TOPIC_NOT_FOUND") this.forget(topicId);
      throw thrown;
    }
  }

  /**
   * Refreshes after `failure` and says whether the topic is gone for good. While the metadata service is away the
   * known leader may still serve: the wait is short where a connection broke, and the call goes on behind.
   */
  async isGone(topicId: string, failure: AppError, clock: Clock): Promise<boolean> {
    const refreshing = this.refresh(topicId, { timeoutMs: refreshWaitMs }).then(
      () => false,
      (thrown: unknown) => AppError.from(thrown).reason === "TOPIC_NOT_FOUND",
    );
    if (failure.retry === "refresh") return refreshing;
    return Promise.race([refreshing, clock.sleep(brokenRefreshWaitMs).then(() => false)]);
  }

  /** Forgets a topic: it was deleted. */
  forget(topicId: string): void {
    const known = this.#byId.get(topicId);
    this.#byId.delete(topicId);
    if (known !== undefined && this.#idByName.get(known.name) === topicId) this.#idByName.delete(known.name);
  }

  #describe(key: string, request: DescribeTopicRequest, options?: CallOptions): Promise<TopicInfo> {
    let call = this.#inFlight.get(key);
    if (call === undefined) {
      call = this.#metadata
        .call(MetadataServiceService.describeTopic, request, options)
        .then(({ topic, nodes }) => {
          if (topic === undefined) throw new AppError("INTERNAL", "the metadata service described no topic");
          return this.#store(topic, nodes);
        })
        .finally(() => this.#inFlight.delete(key));
      this.#inFlight.set(key, call);
    }
    return call;
  }

  #store(topic: Topic, nodes: readonly Node[]): TopicInfo {
    const info = mergeTopic(this.#byId.get(topic.topicId), topic, nodes);
    this.#byId.set(info.topicId, info);
    this.#idByName.set(info.name, info.topicId);
    return info;
  }
}

/** The newer of what is known and what was told, partition by partition: a lower leader epoch is never followed. */
export function mergeTopic(known: TopicInfo | undefined, topic: Topic, nodes: readonly Node[]): TopicInfo {
  const addresses = new Map(nodes.map((node) => [node.nodeId, clientAddress(node)]));
  const partitions = topic.partitions.map((told): PartitionInfo => {
    const before = known?.partitions[told.partition];
    if (before !== undefined && before.leaderEpoch > told.leaderEpoch) return before;
    return {
      partition: told.partition,
      leaderId: told.leaderId,
      leaderAddress: told.leaderId === "" ? undefined : addresses.get(told.leaderId),
      leaderEpoch: told.leaderEpoch,
    };
  });
  partitions.sort((a, b) => a.partition - b.partition);
  return {
    topicId: topic.topicId,
    name: topic.name,
    partitions,
    config: topic.config,
    createdMs: topic.createdMs,
  };
}
