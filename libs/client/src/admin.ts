/** Administration: topics, connectors, producer names, offsets. Changing calls carry a request id and are repeated safely. */
import { AppError } from "@millrace/base";
import {
  ConnectorServiceService,
  type DescribeConnectorResponse,
  type ListConnectorsResponse,
} from "@millrace/proto/connector";
import {
  type Connector,
  type DescribeClusterResponse,
  type ListTopicsResponse,
  MetadataServiceService,
} from "@millrace/proto/metadata";
import { randomId } from "@millrace/runtime";
import { findOffset } from "./consumer.ts";
import type { LeaderCalls } from "./leader-calls.ts";
import { type MetadataCache, mergeTopic, type TopicInfo } from "./metadata-cache.ts";
import type { MetadataClient } from "./metadata-client.ts";
import type { ProducerIdentity } from "./partition-accumulator.ts";

/** A topic to create. */
export interface NewTopic {
  readonly name: string;
  /** Number of partitions; default: the cluster's. */
  readonly partitions?: number;
  /** Replicas of each partition; default: the cluster's. */
  readonly replicationFactor?: number;
  /** Under Kafka's names: retention.ms, segment.bytes, max.message.bytes, ... */
  readonly config?: Readonly<Record<string, string>>;
  /** True: only checks. */
  readonly validateOnly?: boolean;
}

/** A change of a topic's configuration. */
export interface TopicChange {
  readonly set?: Readonly<Record<string, string>>;
  /** Keys to return to their defaults. */
  readonly unset?: readonly string[];
}

/** A connector to create. */
export interface NewConnector {
  readonly name: string;
  readonly topics: readonly string[];
  /** The sink's configuration with its `type`. */
  readonly sinkConfigJson: string;
  /** True: start over instead of resuming where the name stood (rule C9). */
  readonly reset?: boolean;
}

/** An offset with what a stored position needs. */
export interface FoundOffset {
  readonly offset: number;
  /** Leader epoch of the record before it (rule L4); -1 when there is none. */
  readonly positionEpoch: number;
  /** For a search by time: the record's timestamp; -1 otherwise. */
  readonly timestampMs: number;
}

/** What `admin` works with. */
export interface AdminParts {
  readonly metadata: MetadataClient;
  readonly cache: MetadataCache;
  readonly leaders: LeaderCalls;
  readonly clusterId: string;
}

/** Administration of connectors. */
export interface ConnectorAdmin {
  /** Throws CONNECTOR_ALREADY_EXISTS, INVALID_CONFIG. */
  create(connector: NewConnector): Promise<Connector>;
  list(): Promise<Connector[]>;
  /** Throws CONNECTOR_NOT_FOUND. */
  describe(name: string): Promise<DescribeConnectorResponse>;
  /** Throws CONNECTOR_NOT_FOUND. What was delivered stays. */
  delete(name: string): Promise<void>;
}

/** See the file's comment. */
export class Admin {
  readonly connectors: ConnectorAdmin;
  readonly #parts: AdminParts;

  /** Made by the client. */
  constructor(parts: AdminParts) {
    this.#parts = parts;
    this.connectors = connectorAdmin(parts);
  }

  /** Throws TOPIC_ALREADY_EXISTS, INVALID_TOPIC, INVALID_CONFIG. */
  async createTopic(topic: NewTopic): Promise<TopicInfo> {
    const answer = await this.#parts.metadata.call(MetadataServiceService.createTopic, {
      requestId: randomId(),
      name: topic.name,
      partitionCount: topic.partitions ?? 0,
      replicationFactor: topic.replicationFactor ?? 0,
      config: { ...topic.config },
      validateOnly: topic.validateOnly ?? false,
      clusterId: this.#parts.clusterId,
    });
    return mergeTopic(undefined, present(answer.topic, "topic"), []);
  }

  /** Deletes by name, or by id where the name may have been used again. Throws TOPIC_NOT_FOUND. */
  async deleteTopic(topic: string | { readonly topicId: string }): Promise<void> {
    const answer = await this.#parts.metadata.call(MetadataServiceService.deleteTopic, {
      requestId: randomId(),
      clusterId: this.#parts.clusterId,
      topic:
        typeof topic === "string"
          ? { $case: "name", value: topic }
          : { $case: "topicId", value: topic.topicId },
    });
    this.#parts.cache.forget(answer.topicId);
  }

  /** All topics in order of their names, without addresses of leaders. */
  async listTopics(options: { readonly includeInternal?: boolean } = {}): Promise<TopicInfo[]> {
    const topics: TopicInfo[] = [];
    let pageToken = "";
    do {
      const page: ListTopicsResponse = await this.#parts.metadata.call(MetadataServiceService.listTopics, {
        pageSize: 0,
        pageToken,
        includeInternal: options.includeInternal ?? false,
      });
      for (const topic of page.topics) topics.push(mergeTopic(undefined, topic, []));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return topics;
  }

  /** Asks the metadata service, not the cache. Throws TOPIC_NOT_FOUND. */
  async describeTopic(name: string): Promise<TopicInfo> {
    const answer = await this.#parts.metadata.call(MetadataServiceService.describeTopic, {
      topic: { $case: "name", value: name },
    });
    return mergeTopic(undefined, present(answer.topic, "topic"), answer.nodes);
  }

  /** Takes effect while the topic is in use. Throws TOPIC_NOT_FOUND, INVALID_CONFIG. */
  async alterTopic(name: string, change: TopicChange): Promise<TopicInfo> {
    const answer = await this.#parts.metadata.call(MetadataServiceService.alterTopic, {
      requestId: randomId(),
      name,
      set: { ...change.set },
      unset: [...(change.unset ?? [])],
      clusterId: this.#parts.clusterId,
    });
    return mergeTopic(undefined, present(answer.topic, "topic"), []);
  }

  /** Cluster id, controller and nodes. */
  describeCluster(): Promise<DescribeClusterResponse> {
    return this.#parts.metadata.call(MetadataServiceService.describeCluster, {});
  }

  /** The first offset kept, the next one readers will see, or the first record at or after a time. */
  async listOffsets(
    topic: string | { readonly topicId: string },
    partition: number,
    at: "start" | "end" | { readonly timestampMs: number },
  ): Promise<FoundOffset> {
    const { cache, leaders } = this.#parts;
    const topicId = typeof topic === "string" ? (await cache.byName(topic)).topicId : topic.topicId;
    return findOffset(leaders, topicId, partition, at);
  }

  /**
   * A producer id and epoch (rules P1, P2): anonymous without a name; the same name gets the same id and the next
   * epoch. `lineage`: the start history of the name's owner (rule L1).
   */
  async initProducer(name = "", lineage: readonly string[] = []): Promise<ProducerIdentity> {
    return initProducer(this.#parts.metadata, this.#parts.clusterId, name, lineage);
  }

  /** Forgets a named producer everywhere. Resolves with the id it had, 0 when the name was unknown. */
  async removeProducer(name: string): Promise<number> {
    const answer = await this.#parts.metadata.call(MetadataServiceService.removeProducer, {
      requestId: randomId(),
      name,
      clusterId: this.#parts.clusterId,
    });
    return answer.producerId;
  }
}

/** Asks for a producer id and epoch. */
export async function initProducer(
  metadata: MetadataClient,
  clusterId: string,
  name: string,
  lineage: readonly string[],
): Promise<ProducerIdentity> {
  const { producerId, producerEpoch, previousProducerId } = await metadata.call(
    MetadataServiceService.initProducer,
    {
      requestId: randomId(),
      name,
      lineage: [...lineage],
      clusterId,
    },
  );
  return { producerId, producerEpoch, previousProducerId };
}

function connectorAdmin({ metadata, clusterId }: AdminParts): ConnectorAdmin {
  return {
    create: async (connector) => {
      const answer = await metadata.call(ConnectorServiceService.createConnector, {
        requestId: randomId(),
        name: connector.name,
        topics: [...connector.topics],
        sinkConfigJson: connector.sinkConfigJson,
        reset: connector.reset ?? false,
        clusterId,
      });
      return present(answer.connector, "connector");
    },
    list: async () => {
      const connectors: Connector[] = [];
      let pageToken = "";
      do {
        const page: ListConnectorsResponse = await metadata.call(ConnectorServiceService.listConnectors, {
          pageSize: 0,
          pageToken,
        });
        connectors.push(...page.connectors);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      return connectors;
    },
    describe: (name) => metadata.call(ConnectorServiceService.describeConnector, { name }),
    delete: async (name) => {
      await metadata.call(ConnectorServiceService.deleteConnector, {
        requestId: randomId(),
        name,
        clusterId,
      });
    },
  };
}

function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new AppError("INTERNAL", `the metadata service answered without a ${what}`);
  return value;
}
