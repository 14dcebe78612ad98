/** The SDK's entry: finds a cluster and makes producers, consumers, writers and the admin over shared connections. */
import { AppError } from "@millrace/base";
import type { Handshake } from "@millrace/proto/common";
import { MetadataServiceService } from "@millrace/proto/metadata";
import { type ProducerState, StorageServiceService } from "@millrace/proto/storage";
import { makeHandshake, type TlsClientOptions } from "@millrace/rpc";
import { type Clock, randomId, systemClock } from "@millrace/runtime";
import { Admin, initProducer } from "./admin.ts";
import { Connections, metadataAddresses } from "./connections.ts";
import { Consumer, type ConsumerOptions } from "./consumer.ts";
import { FetchStream } from "./fetch-stream.ts";
import { LeaderCalls } from "./leader-calls.ts";
import { consumerCreditBytesDefault, openTimeoutMs } from "./limits.ts";
import { MetadataCache } from "./metadata-cache.ts";
import { MetadataClient } from "./metadata-client.ts";
import { PartitionWriter, type PartitionWriterOptions } from "./partition-writer.ts";
import { ProduceStreams } from "./produce-stream.ts";
import { Producer } from "./producer.ts";
import type { ProducerOptions } from "./producer-api.ts";

/** How a client is opened. */
export interface ClientOptions {
  /** host:port of metadata replicas; one that answers is enough. Default 127.0.0.1:9750. */
  readonly bootstrapServers?: readonly string[];
  /** Name for logs on the servers. */
  readonly clientId?: string;
  readonly tls?: TlsClientOptions;
  readonly signal?: AbortSignal;
  /** How long to look for a cluster; default 2000 ms. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

/** Where a client looks when nobody says otherwise. */
export const bootstrapServersDefault: readonly string[] = ["127.0.0.1:9750"];

/** A client of one cluster. */
export class Client {
  /** Id of the cluster. */
  readonly clusterId: string;
  readonly admin: Admin;
  /** What the client knows of topics and leaders. */
  readonly metadata: MetadataCache;
  readonly #connections: Connections;
  readonly #metadataClient: MetadataClient;
  readonly #leaders: LeaderCalls;
  readonly #streams: ProduceStreams;
  readonly #clock: Clock;
  readonly #handshake: Handshake;
  readonly #consumers = new Set<Consumer>();
  readonly #producers = new Set<Producer>();

  private constructor(parts: {
    readonly clusterId: string;
    readonly clientId: string;
    readonly connections: Connections;
    readonly metadata: MetadataClient;
    readonly clock: Clock;
  }) {
    const { clusterId, connections, metadata, clock } = parts;
    this.clusterId = clusterId;
    this.#clock = clock;
    this.#connections = connections;
    this.#metadataClient = metadata;
    this.#handshake = makeHandshake({
      clusterId,
      nodeId: parts.clientId,
      incarnation: randomId(),
      nodeEpoch: 0,
    });
    this.metadata = new MetadataCache(metadata);
    this.#leaders = new LeaderCalls(connections, this.metadata, clock);
    this.#streams = new ProduceStreams(
      (address) => connections.to(address),
      () => this.#handshake,
    );
    this.admin = new Admin({ metadata, cache: this.metadata, leaders: this.#leaders, clusterId });
  }

  /** Finds the cluster. Throws UNAVAILABLE, within two seconds, when nothing answers. */
  static async open(options: ClientOptions = {}): Promise<Client> {
    const clock = options.clock ?? systemClock;
    const bootstrap = options.bootstrapServers ?? bootstrapServersDefault;
    const connections = new Connections(options.tls);
    const metadata = new MetadataClient(connections, bootstrap, clock);
    try {
      const cluster = await metadata.call(
        MetadataServiceService.describeCluster,
        {},
        {
          timeoutMs: options.timeoutMs ?? openTimeoutMs,
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        },
      );
      metadata.learn(metadataAddresses(cluster.nodes));
      const clientId = options.clientId ?? `client-${process.pid}`;
      return new Client({ clusterId: cluster.clusterId, clientId, connections, metadata, clock });
    } catch (thrown) {
      connections.close();
      const error = AppError.from(thrown);
      if (error.reason !== "UNAVAILABLE" && error.reason !== "TIMED_OUT") throw thrown;
      throw new AppError(
        "UNAVAILABLE",
        `no Millrace cluster answers at ${bootstrap.join(", ")}: start one (millrace up), or name it with --bootstrap-server`,
        { cause: error },
      );
    }
  }

  /** A producer; close it to be sure that everything is sent. */
  producer(options: ProducerOptions = {}): Producer {
    const producer = new Producer(options, {
      streams: this.#streams,
      cache: this.metadata,
      clock: this.#clock,
      newIdentity: () => initProducer(this.#metadataClient, this.clusterId, "", []),
    });
    this.#producers.add(producer);
    producer.signal.addEventListener("abort", () => this.#producers.delete(producer), { once: true });
    return producer;
  }

  /** A consumer; `assign` it partitions. */
  consumer(options: ConsumerOptions = {}): Consumer {
    const creditBytes = options.creditBytes ?? consumerCreditBytesDefault;
    const consumer: Consumer = new Consumer(options, {
      cache: this.metadata,
      leaders: this.#leaders,
      clock: this.#clock,
      openStream: (address) => new FetchStream(this.#connections.to(address), this.#handshake, creditBytes),
      onClosed: () => this.#consumers.delete(consumer),
    });
    this.#consumers.add(consumer);
    return consumer;
  }

  /** The low level of named producers (rules P1-P5, A4). The topic is resolved when the first batch is written. */
  partitionWriter(options: PartitionWriterOptions): PartitionWriter {
    return new PartitionWriter(options, { streams: this.#streams, cache: this.metadata, clock: this.#clock });
  }

  /** What a partition knows of a producer (rule P4): its last sequence among others. Undefined: nothing. */
  async describeProducer(
    topicId: string,
    partition: number,
    producerId: number,
  ): Promise<ProducerState | undefined> {
    const { producers } = await this.#leaders.call(
      topicId,
      partition,
      (connection, _leaderEpoch, deadlineMs) =>
        connection.unary(
          StorageServiceService.describeProducers,
          { topicId, partition, producerId },
          { deadlineMs },
        ),
    );
    return producers.find((producer) => producer.producerId === producerId);
  }

  /** Ends everything made by this client. What is not acknowledged fails with CANCELLED: close producers first. */
  close(): void {
    for (const consumer of this.#consumers) consumer.close();
    for (const producer of this.#producers) producer.abort(new AppError("CANCELLED", "the client is closed"));
    this.#streams.close();
    this.#connections.close();
  }
}
