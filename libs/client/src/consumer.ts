/**
 * The consumer: partitions in, batches of records out, at the application's own pace.
 *
 * Data flow: PartitionReader (one per partition) -> arrivals in order -> `next` / `for await` -> credit back to the
 * node once a message is handed out whole. It owns its positions: nothing is committed anywhere. Memory is bounded by
 * the credit, per storage node.
 */
import { AppError } from "@millrace/base";
import { type FetchedData, OffsetQuery, StorageServiceService } from "@millrace/proto/storage";
import type { DecodedRecord, DecodeLimits } from "@millrace/record";
import type { Clock } from "@millrace/runtime";
import { type FetchedUnit, type PoisonBatch, splitBatches } from "./batch-split.ts";
import { dataBytes, type FetchStream } from "./fetch-stream.ts";
import type { LeaderCalls } from "./leader-calls.ts";
import { noPartition } from "./leader-calls.ts";
import { fetchBytesMaxDefault } from "./limits.ts";
import type { MetadataCache, TopicInfo } from "./metadata-cache.ts";
import { PartitionReader, type ReadFrom, topicGone } from "./partition-reader.ts";

/** A stored position (rule L4): what an application keeps to go on later. */
export interface StoredPosition {
  readonly topicId: string;
  readonly partition: number;
  /** Leader epoch of the record before `offset`; -1 when unknown. */
  readonly leaderEpoch: number;
  /** Next offset to read. */
  readonly offset: number;
}

/** Where a partition's reading begins. */
export type StartAt = "start" | "end" | number | { readonly timestampMs: number } | StoredPosition;

/** A partition to read; the topic by name or by id. */
export interface Assignment {
  readonly topic?: string;
  readonly topicId?: string;
  readonly partition: number;
  readonly from: StartAt;
}

/** Options of a consumer. */
export interface ConsumerOptions {
  /** Bytes on their way per storage node; default 16 MiB. */
  readonly creditBytes?: number;
  /** Bytes per message; one batch is always given. Default 1 MiB. */
  readonly fetchBytesMax?: number;
  /** Limits of decoding; a batch beyond them is a poison unit. */
  readonly decodeLimits?: DecodeLimits;
}

/** What is handed out: a run of batches of one partition and one leader epoch. */
export interface ConsumerBatch {
  readonly topicId: string;
  readonly topic: string;
  readonly partition: number;
  /** Leader epoch of these records. */
  readonly leaderEpoch: number;
  /** Keys and values are views: copy what is kept for long. Empty for a poison batch or control records. */
  readonly records: readonly DecodedRecord[];
  /** Where reading goes on after these. */
  readonly nextOffset: number;
  /** The partition's end as readers see it, when these were sent. */
  readonly highWatermark: number;
  /** The batches as they are stored; the first may begin below the position. */
  readonly rawBatches: Uint8Array;
  /** Set: a batch that does not decode, handed out whole. */
  readonly poison?: PoisonBatch;
}

/** What a consumer works with. */
export interface ConsumerParts {
  readonly cache: MetadataCache;
  readonly leaders: LeaderCalls;
  readonly clock: Clock;
  /** Opens a fetch stream of this consumer. */
  readonly openStream: (address: string) => FetchStream;
  readonly onClosed: () => void;
}

type Arrival =
  | {
      readonly reader: PartitionReader;
      readonly generation: number;
      readonly data: FetchedData;
      readonly fromOffset: number;
      readonly stream: FetchStream;
    }
  | { readonly reader: PartitionReader; readonly generation: number; readonly error: AppError };

/** A message that is being handed out. */
interface OpenMessage {
  readonly arrival: Extract<Arrival, { data: FetchedData }>;
  readonly units: Iterator<FetchedUnit, void, void>;
}

/** See the file's comment. */
export class Consumer implements AsyncIterable<ConsumerBatch> {
  readonly #parts: ConsumerParts;
  readonly #options: ConsumerOptions;
  readonly #readers = new Map<string, PartitionReader>();
  readonly #streams = new Map<string, FetchStream>();
  readonly #arrivals: Arrival[] = [];
  #open: OpenMessage | undefined;
  readonly #waiting = new Set<() => void>();
  #isClosed = false;

  /** Made by `client.consumer`. */
  constructor(options: ConsumerOptions, parts: ConsumerParts) {
    this.#options = options;
    this.#parts = parts;
  }

  /**
   * Reads exactly these partitions from now on. Throws TOPIC_NOT_FOUND, UNKNOWN_TOPIC_ID for a stored position of a
   * deleted or re-created topic (rule L3), INVALID_REQUEST for a partition that does not exist.
   */
  async assign(assignments: readonly Assignment[]): Promise<void> {
    const resolved = await Promise.all(assignments.map((assignment) => this.#resolve(assignment)));
    for (const reader of this.#readers.values()) reader.close();
    this.#readers.clear();
    for (const { topic, partition, from } of resolved) this.#read(topic, partition, from);
  }

  /** Reads these partitions in addition; one that is read already starts anew. Throws like `assign`. */
  async add(assignments: readonly Assignment[]): Promise<void> {
    const resolved = await Promise.all(assignments.map((assignment) => this.#resolve(assignment)));
    for (const { topic, partition, from } of resolved) this.#read(topic, partition, from);
  }

  /** Stops reading a partition. */
  remove(topicId: string, partition: number): void {
    const key = keyOf(topicId, partition);
    this.#readers.get(key)?.close();
    this.#readers.delete(key);
  }

  /** Moves an assigned partition; also starts it again after an error. */
  async seek(topicId: string, partition: number, from: StartAt): Promise<void> {
    await this.add([{ topicId, partition, from }]);
  }

  /** The partitions that are read. */
  get assignment(): readonly { readonly topicId: string; readonly partition: number }[] {
    return [...this.#readers.values()].map(({ topicId, partition }) => ({ topicId, partition }));
  }

  /** Where the application stands: after what was handed out. Undefined when the partition is not assigned. */
  position(topicId: string, partition: number): StoredPosition | undefined {
    const reader = this.#readers.get(keyOf(topicId, partition));
    if (reader === undefined) return undefined;
    const { offset, positionEpoch } = reader.position;
    return { topicId, partition, leaderEpoch: positionEpoch, offset };
  }

  /** The partition's end as last heard of; -1 before the first answer. */
  highWatermark(topicId: string, partition: number): number {
    return this.#readers.get(keyOf(topicId, partition))?.highWatermark ?? -1;
  }

  /**
   * The next batch; undefined when the consumer is closed or `signal` aborts. Throws the error of a partition whose
   * reading ended (its `metadata` has topicId and partition); the other partitions go on with the next call, `seek`
   * starts the failed one again.
   */
  async next(signal?: AbortSignal): Promise<ConsumerBatch | undefined> {
    for (;;) {
      const batch = this.#takeNow();
      if (batch !== undefined) return batch;
      if (this.#isClosed || signal?.aborted === true) return undefined;
      await this.#arrival(signal);
    }
  }

  /** Batches until the consumer is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ConsumerBatch, void, void> {
    for (let batch = await this.next(); batch !== undefined; batch = await this.next()) yield batch;
  }

  /** Stops. */
  close(): void {
    this.#isClosed = true;
    for (const reader of this.#readers.values()) reader.close();
    for (const stream of this.#streams.values()) stream.close();
    this.#arrivals.length = 0;
    this.#open = undefined;
    for (const wake of this.#waiting) wake();
    this.#parts.onClosed();
  }

  #takeNow(): ConsumerBatch | undefined {
    for (;;) {
      this.#open ??= this.#openNext();
      if (this.#open === undefined) return undefined;
      const { arrival, units } = this.#open;
      const unit = arrival.generation === arrival.reader.generation ? units.next() : { done: true as const };
      if (unit.done === true) {
        this.#open = undefined;
        arrival.stream.grant(dataBytes(arrival.data));
      } else {
        return toBatch(arrival.reader, unit.value, arrival.data.highWatermark);
      }
    }
  }

  #openNext(): OpenMessage | undefined {
    for (let arrival = this.#arrivals.shift(); arrival !== undefined; arrival = this.#arrivals.shift()) {
      if ("error" in arrival) {
        if (arrival.generation === arrival.reader.generation) throw arrival.error;
        continue;
      }
      const { data, fromOffset } = arrival;
      const bytes = data.data?.$case === "batches" ? data.data.value : new Uint8Array(0);
      return { arrival, units: splitBatches(bytes, fromOffset, data.nextOffset, this.#options.decodeLimits) };
    }
    return undefined;
  }

  #arrival(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal?.removeEventListener("abort", wake);
        this.#waiting.delete(wake);
        resolve();
      };
      signal?.addEventListener("abort", wake, { once: true });
      this.#waiting.add(wake);
    });
  }

  #push(arrival: Arrival): void {
    this.#arrivals.push(arrival);
    for (const wake of this.#waiting) wake();
  }

  #read(topic: TopicInfo, partition: number, from: ReadFrom): void {
    const key = keyOf(topic.topicId, partition);
    this.#readers.get(key)?.close();
    const reader = new PartitionReader(
      {
        topicId: topic.topicId,
        topic: topic.name,
        partition,
        bytesMax: this.#options.fetchBytesMax ?? fetchBytesMaxDefault,
        cache: this.#parts.cache,
        clock: this.#parts.clock,
        streamTo: (address) => this.#streamTo(address),
        onData: (source, data, fromOffset, stream) =>
          this.#push({ reader: source, generation: source.generation, data, fromOffset, stream }),
        onError: (source, error) => this.#push({ reader: source, generation: source.generation, error }),
      },
      from,
    );
    this.#readers.set(key, reader);
    reader.start();
  }

  #streamTo(address: string): FetchStream {
    if (this.#isClosed) throw new AppError("CANCELLED", "the consumer is closed");
    let stream = this.#streams.get(address);
    if (stream === undefined || stream.failure !== undefined) {
      stream = this.#parts.openStream(address);
      this.#streams.set(address, stream);
    }
    return stream;
  }

  async #resolve(assignment: Assignment): Promise<{ topic: TopicInfo; partition: number; from: ReadFrom }> {
    const { partition, from } = assignment;
    const topic = await this.#topicOf(assignment);
    if (topic.partitions[partition] === undefined)
      throw noPartition(topic.name, partition, topic.partitions.length);
    if (typeof from === "number") return { topic, partition, from: { offset: from, positionEpoch: -1 } };
    if (typeof from === "object" && "offset" in from) {
      return { topic, partition, from: { offset: from.offset, positionEpoch: from.leaderEpoch } };
    }
    return { topic, partition, from: await findOffset(this.#parts.leaders, topic.topicId, partition, from) };
  }

  async #topicOf({ topic: name, topicId, from }: Assignment): Promise<TopicInfo> {
    const { cache } = this.#parts;
    const storedId = typeof from === "object" && "topicId" in from ? from.topicId : undefined;
    const wantedId = topicId ?? storedId;
    if (name === undefined && wantedId === undefined)
      throw new AppError("INVALID_REQUEST", "an assignment names neither a topic nor a topic id");
    if (wantedId === undefined) return cache.byName(name ?? "");
    try {
      const topic = await cache.byId(wantedId);
      if (storedId !== undefined && storedId !== topic.topicId)
        throw await topicGone(cache, topic.name, storedId);
      if (name !== undefined && name !== topic.name)
        throw new AppError("INVALID_REQUEST", `topic id ${wantedId} is topic "${topic.name}", not "${name}"`);
      return topic;
    } catch (thrown) {
      if (AppError.from(thrown).reason !== "TOPIC_NOT_FOUND") throw thrown;
      throw await topicGone(cache, name ?? "", wantedId);
    }
  }
}

/** Finds an offset at the leader. */
export async function findOffset(
  leaders: LeaderCalls,
  topicId: string,
  partition: number,
  at: "start" | "end" | { readonly timestampMs: number },
): Promise<ReadFrom & { readonly timestampMs: number }> {
  const query = at === "start" ? OffsetQuery.START : at === "end" ? OffsetQuery.END : OffsetQuery.AT_TIME;
  const timestampMs = typeof at === "object" ? at.timestampMs : 0;
  const found = await leaders.call(topicId, partition, (connection, leaderEpoch, deadlineMs) =>
    connection.unary(
      StorageServiceService.listOffsets,
      { topicId, partition, leaderEpoch, query, timestampMs },
      { deadlineMs },
    ),
  );
  return { offset: found.offset, positionEpoch: found.positionEpoch, timestampMs: found.timestampMs };
}

function toBatch(reader: PartitionReader, unit: FetchedUnit, highWatermark: number): ConsumerBatch {
  reader.position = { offset: unit.nextOffset, positionEpoch: unit.leaderEpoch };
  return {
    topicId: reader.topicId,
    topic: reader.topic,
    partition: reader.partition,
    leaderEpoch: unit.leaderEpoch,
    records: unit.records,
    nextOffset: unit.nextOffset,
    highWatermark,
    rawBatches: unit.rawBatches,
    ...(unit.poison === undefined ? {} : { poison: unit.poison }),
  };
}

function keyOf(topicId: string, partition: number): string {
  return `${topicId}:${partition}`;
}
