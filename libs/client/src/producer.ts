/**
 * The producer: records in, acks out.
 *
 * Data flow: send -> (topic resolved, buffer space) -> partition by key or sticky -> PartitionAccumulator -> batch ->
 * PartitionSender -> ack. A send that finds its topic known and the buffer with room is appended at once; others wait
 * in order per topic. Records of one send call keep their order; so do sends to one topic.
 */
import { AppError } from "@millrace/base";
import { noHeaders, type Record } from "@millrace/record";
import { ByteBudget, type Clock } from "@millrace/runtime";
import { BatchMemory } from "./batch-memory.ts";
import { Fifo } from "./fifo.ts";
import { noPartition } from "./leader-calls.ts";
import {
  batchBytesDefault,
  bufferBytesDefault,
  deliveryTimeoutMsDefault,
  grownBatchBytesMax,
  inFlightPerPartitionMax,
  lingerMsDefault,
  waitingSendsMax,
} from "./limits.ts";
import type { MetadataCache, TopicInfo } from "./metadata-cache.ts";
import { PartitionAccumulator, type ProducerIdentity } from "./partition-accumulator.ts";
import { PartitionChooser } from "./partition-chooser.ts";
import type { SendStreams } from "./partition-sender.ts";
import type {
  AckedRange,
  ProducerOptions,
  ProducerRecord,
  RecordMetadata,
  SendOptions,
} from "./producer-api.ts";
import type { AckTarget, ProducerBatch } from "./producer-batch.ts";
import { GroupAck, SingleAck } from "./send-acks.ts";

/** What a producer works with. */
export interface ProducerParts {
  readonly streams: SendStreams;
  readonly cache: Pick<MetadataCache, "byName" | "peek" | "isGone">;
  readonly clock: Clock;
  /** Asks the metadata service for an anonymous producer id. */
  readonly newIdentity: () => Promise<ProducerIdentity>;
}

/** Records of one call that are not in a batch yet. */
interface WaitingSend {
  readonly records: readonly ProducerRecord[];
  readonly partition: number | undefined;
  /** Of records that have none, epoch milliseconds. */
  readonly timestampMs: number;
  readonly target: AckTarget;
  next: number;
}

interface TopicState {
  readonly name: string;
  info: TopicInfo | undefined;
  readonly chooser: PartitionChooser;
  readonly accumulators: Map<number, PartitionAccumulator>;
  readonly waiting: Fifo<WaitingSend>;
  draining: Promise<void> | undefined;
}

/** A record's size in a batch beside key, value and headers, at most. */
const recordOverheadBytes = 32;

/** See the file's comment. */
export class Producer {
  readonly #parts: ProducerParts;
  readonly #options: Required<ProducerOptions>;
  readonly #budget: ByteBudget;
  readonly #memory: BatchMemory;
  readonly #batchBytesMax: number;
  readonly #topics = new Map<string, TopicState>();
  readonly #unsettled = new Set<ProducerBatch>();
  readonly #closing = new AbortController();
  #identity: Promise<ProducerIdentity> | undefined;
  #resolvedIdentity: ProducerIdentity | undefined;
  #waitingCount = 0;

  /** Made by `client.producer`. */
  constructor(options: ProducerOptions, parts: ProducerParts) {
    this.#parts = parts;
    this.#options = {
      lingerMs: options.lingerMs ?? lingerMsDefault,
      batchBytes: options.batchBytes ?? batchBytesDefault,
      compression: options.compression ?? "none",
      bufferBytes: options.bufferBytes ?? bufferBytesDefault,
      deliveryTimeoutMs: options.deliveryTimeoutMs ?? deliveryTimeoutMsDefault,
      maxInFlightPerPartition: options.maxInFlightPerPartition ?? inFlightPerPartitionMax,
      idempotent: options.idempotent ?? true,
    };
    if (this.#options.idempotent && this.#options.maxInFlightPerPartition > inFlightPerPartitionMax) {
      throw new AppError(
        "INVALID_CONFIG",
        `maxInFlightPerPartition is ${this.#options.maxInFlightPerPartition}; an idempotent producer has at most ${inFlightPerPartitionMax}`,
      );
    }
    this.#budget = new ByteBudget(this.#options.bufferBytes);
    const { batchBytes, bufferBytes } = this.#options;
    // a batch that has grown must not be all that the buffer holds
    this.#batchBytesMax = Math.max(batchBytes, Math.min(grownBatchBytesMax, Math.floor(bufferBytes / 8)));
    this.#memory = new BatchMemory(batchBytes, this.#batchBytesMax, bufferBytes);
  }

  /** Aborted when the producer is closed. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  /** Bytes of records accepted and not acknowledged. */
  get bufferedBytes(): number {
    return this.#budget.usedBytes;
  }

  /**
   * Sends a record; resolves when it is durable. Waits while the buffer is full. Rejects with the leader's refusal,
   * TOPIC_NOT_FOUND, LIMIT_EXCEEDED when too many sends wait already, TIMED_OUT (outcome unknown).
   */
  send(topic: string, record: ProducerRecord, options: SendOptions = {}): Promise<RecordMetadata> {
    return new Promise((resolve, reject) => {
      const timestampMs = record.timestampMs ?? this.#parts.clock.nowMs();
      const ack = new SingleAck(resolve, reject, timestampMs);
      const state = this.#topicState(topic);
      if (state.waiting.length === 0 && this.#isPrepared(state)) {
        const encoded = toRecord(record, timestampMs);
        const bytes = sizeOf(encoded);
        if (this.#budget.tryAcquire(bytes)) {
          this.#append(state, options.partition, encoded, bytes, ack);
          return;
        }
      }
      this.#wait(state, {
        records: [record],
        partition: options.partition,
        timestampMs,
        target: ack,
        next: 0,
      });
    });
  }

  /** Sends records in order; resolves when all are durable, rejects with the first failure when all are settled. */
  sendMany(
    topic: string,
    records: readonly ProducerRecord[],
    options: SendOptions = {},
  ): Promise<AckedRange[]> {
    if (records.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const target = new GroupAck(records.length, resolve, reject);
      const timestampMs = this.#parts.clock.nowMs();
      const send: WaitingSend = { records, partition: options.partition, timestampMs, target, next: 0 };
      const state = this.#topicState(topic);
      if (state.waiting.length === 0 && this.#appendWhatFits(state, send)) return;
      this.#wait(state, send);
    });
  }

  /** Sends what has gathered and resolves when everything accepted so far is acknowledged or failed. */
  async flush(): Promise<void> {
    await Promise.all([...this.#topics.values()].flatMap((topic) => topic.draining ?? []));
    const unsettled = [...this.#unsettled];
    for (const topic of this.#topics.values()) {
      for (const accumulator of topic.accumulators.values()) accumulator.flush();
    }
    await Promise.all(unsettled.map((batch) => batch.done));
  }

  /** Flushes and stops; later sends reject. */
  async close(): Promise<void> {
    await this.flush();
    this.abort(new AppError("CANCELLED", "the producer is closed"));
  }

  /** Stops at once: everything not acknowledged fails with `error`. */
  abort(error: AppError): void {
    this.#closing.abort();
    for (const topic of this.#topics.values()) {
      for (const accumulator of topic.accumulators.values()) accumulator.fail(error);
      this.#failWaiting(topic, error);
    }
    this.#topics.clear();
  }

  /** Puts a send, or what is left of it, in line. */
  #wait(topic: TopicState, send: WaitingSend): void {
    const left = send.records.length - send.next;
    if (this.#closing.signal.aborted) {
      send.target.failed(new AppError("CANCELLED", "the producer is closed"), left);
    } else if (this.#waitingCount >= waitingSendsMax) {
      const error = new AppError(
        "LIMIT_EXCEEDED",
        `${waitingSendsMax} sends wait for buffer space: await sends before making more`,
      );
      send.target.failed(error, left);
    } else {
      this.#waitingCount++;
      topic.waiting.push(send);
      topic.draining ??= this.#drain(topic);
    }
  }

  /** True when records of the topic can be appended at once: topic and producer id are known. */
  #isPrepared(topic: TopicState): boolean {
    const { aborted } = this.#closing.signal;
    return (
      !aborted &&
      topic.info !== undefined &&
      (!this.#options.idempotent || this.#resolvedIdentity !== undefined)
    );
  }

  #topicState(name: string): TopicState {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      topic = {
        name,
        info: undefined,
        chooser: new PartitionChooser(Math.floor(Math.random() * 1024)),
        accumulators: new Map(),
        waiting: new Fifo(),
        draining: undefined,
      };
      this.#topics.set(name, topic);
    }
    return topic;
  }

  /** Appends records while there is room; true when none is left. */
  #appendWhatFits(topic: TopicState, send: WaitingSend): boolean {
    if (!this.#isPrepared(topic)) return false;
    while (send.next < send.records.length) {
      const record = nextRecord(send);
      const bytes = sizeOf(record);
      if (!this.#budget.tryAcquire(bytes)) return false;
      send.next++;
      this.#append(topic, send.partition, record, bytes, send.target);
    }
    return true;
  }

  #append(
    topic: TopicState,
    wanted: number | undefined,
    record: Record,
    bytes: number,
    target: AckTarget,
  ): void {
    try {
      const info = topic.info as TopicInfo;
      const partition = wanted ?? topic.chooser.choose(record.key, info);
      this.#accumulator(topic, info, partition).append(record, bytes, target);
    } catch (thrown) {
      this.#budget.release(bytes);
      target.failed(AppError.from(thrown), 1);
    }
  }

  /** Serves a topic's waiting sends in order. */
  async #drain(topic: TopicState): Promise<void> {
    const { signal } = this.#closing;
    for (let send = topic.waiting.first; send !== undefined; send = topic.waiting.first) {
      try {
        await this.#prepare(topic, signal);
        if (!this.#appendWhatFits(topic, send)) {
          const record = nextRecord(send);
          const bytes = sizeOf(record);
          await this.#budget.acquire(bytes, signal);
          send.next++;
          this.#append(topic, send.partition, record, bytes, send.target);
        }
        if (send.next < send.records.length) continue;
      } catch (thrown) {
        if (topic.waiting.first !== send) break; // aborted meanwhile: its sender was told
        send.target.failed(AppError.from(thrown), send.records.length - send.next);
      }
      topic.waiting.shift();
      this.#waitingCount--;
    }
    topic.draining = undefined;
  }

  async #prepare(topic: TopicState, signal: AbortSignal): Promise<void> {
    const timeoutMs = this.#options.deliveryTimeoutMs;
    topic.info ??= await this.#parts.cache.byName(topic.name, { timeoutMs, signal });
    if (!this.#options.idempotent || this.#resolvedIdentity !== undefined) return;
    this.#identity ??= this.#parts.newIdentity();
    try {
      this.#resolvedIdentity = await this.#identity;
    } catch (thrown) {
      this.#identity = undefined;
      throw thrown;
    }
  }

  #accumulator(topic: TopicState, info: TopicInfo, partition: number): PartitionAccumulator {
    let accumulator = topic.accumulators.get(partition);
    if (accumulator !== undefined) return accumulator;
    if (info.partitions[partition] === undefined)
      throw noPartition(topic.name, partition, info.partitions.length);
    accumulator = new PartitionAccumulator(
      {
        topicId: info.topicId,
        partition,
        batchBytes: this.#options.batchBytes,
        batchBytesMax: this.#batchBytesMax,
        lingerMs: this.#options.lingerMs,
        deliveryTimeoutMs: this.#options.deliveryTimeoutMs,
        inFlightMax: this.#options.maxInFlightPerPartition,
        compression: this.#options.compression,
        memory: this.#memory,
        streams: this.#parts.streams,
        cache: this.#parts.cache,
        clock: this.#parts.clock,
        newIdentity: this.#options.idempotent ? () => this.#parts.newIdentity() : undefined,
        onSettled: (batch) => {
          this.#unsettled.delete(batch);
          this.#budget.release(batch.reservedBytes);
        },
        onOpenedBatch: (batch) => this.#unsettled.add(batch),
        onClosedBatch: (closed) =>
          topic.chooser.advance(closed, this.#parts.cache.peek(info.topicId) ?? info),
        onTopicGone: (error) => this.#forget(topic, error),
      },
      this.#resolvedIdentity,
    );
    topic.accumulators.set(partition, accumulator);
    return accumulator;
  }

  /** The topic was deleted: later sends look its name up again and reach the topic that has it then (rule L3). */
  #forget(topic: TopicState, error: AppError): void {
    topic.info = undefined;
    const accumulators = [...topic.accumulators.values()];
    topic.accumulators.clear();
    for (const accumulator of accumulators) accumulator.fail(error);
  }

  #failWaiting(topic: TopicState, error: AppError): void {
    for (let send = topic.waiting.shift(); send !== undefined; send = topic.waiting.shift()) {
      this.#waitingCount--;
      send.target.failed(error, send.records.length - send.next);
    }
  }
}

function nextRecord({ records, next, timestampMs }: WaitingSend): Record {
  return toRecord(records[next] as ProducerRecord, timestampMs);
}

function toRecord(record: ProducerRecord, timestampMs: number): Record {
  return {
    key: toBytes(record.key ?? null),
    value: toBytes(record.value),
    headers: record.headers ?? noHeaders,
    timestampMs: record.timestampMs ?? timestampMs,
  };
}

function toBytes(data: Uint8Array | string | null): Uint8Array | null {
  return typeof data === "string" ? Buffer.from(data) : data;
}

function sizeOf(record: Record): number {
  let bytes = recordOverheadBytes + (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0);
  for (const header of record.headers) bytes += 10 + header.key.length * 3 + (header.value?.byteLength ?? 0);
  return bytes;
}
