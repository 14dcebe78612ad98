/**
 * One partition of a producer: records gather in an open batch, closed batches wait for their turn, the sender carries
 * them. Sequences are given when a batch is handed to the sender, so what waits has none yet.
 */
import { AppError, advanceWireSequence } from "@millrace/base";
import { batchBytesMaxDefault, type CompressionName, type Record } from "@millrace/record";
import type { Clock } from "@millrace/runtime";
import type { BatchMemory } from "./batch-memory.ts";
import { type LeaderSource, PartitionSender, type SendStreams } from "./partition-sender.ts";
import { type AckTarget, ProducerBatch } from "./producer-batch.ts";
import type { SendWindow } from "./send-window.ts";

/** Producer id and epoch as the metadata service gave them. */
export interface ProducerIdentity {
  readonly producerId: number;
  readonly producerEpoch: number;
  /** Id the name had before its epochs were used up (P2): named by the batches sent. 0 = none. */
  readonly previousProducerId: number;
}

/** What an accumulator works with. */
export interface AccumulatorOptions {
  readonly topicId: string;
  readonly partition: number;
  /** Size at which a batch is closed when its partition has room for it. */
  readonly batchBytes: number;
  /** Size up to which it grows while there is none, where the topic takes so much. */
  readonly batchBytesMax: number;
  readonly lingerMs: number;
  readonly deliveryTimeoutMs: number;
  readonly inFlightMax: number;
  readonly compression: CompressionName;
  readonly memory: BatchMemory;
  readonly streams: SendStreams;
  readonly cache: LeaderSource;
  readonly clock: Clock;
  /** A fresh identity; undefined = not idempotent. */
  readonly newIdentity: (() => Promise<ProducerIdentity>) | undefined;
  onOpenedBatch(batch: ProducerBatch): void;
  onSettled(batch: ProducerBatch): void;
  /** A batch was closed: a sticky partition moves on. */
  onClosedBatch(partition: number): void;
  /** The topic does not exist any more; everything of it failed. */
  onTopicGone(error: AppError): void;
}

/** See the file's comment. */
export class PartitionAccumulator {
  readonly #options: AccumulatorOptions;
  readonly #sender: PartitionSender<ProducerBatch>;
  readonly #closed: ProducerBatch[] = [];
  #open: ProducerBatch | undefined;
  #hasLingered = false;
  #identity: ProducerIdentity | undefined;
  #nextSequence = 0;
  #lastClosedBytes = 0;

  constructor(options: AccumulatorOptions, identity: ProducerIdentity | undefined) {
    this.#options = options;
    this.#identity = identity;
    this.#sender = new PartitionSender<ProducerBatch>({
      topicId: options.topicId,
      partition: options.partition,
      inFlightMax: options.inFlightMax,
      streams: options.streams,
      cache: options.cache,
      clock: options.clock,
      onRefused: (head, error, window) => this.#onRefused(head, error, window),
    });
  }

  /** Adds a record that has its place in the buffer. Throws INVALID_RECORD, RECORD_TOO_LARGE. */
  append(record: Record, reservedBytes: number, target: AckTarget): void {
    const open = this.#open;
    if (open !== undefined && open.sizeBytes + reservedBytes > this.#limitBytes()) this.#closeOpen();
    if (this.#open?.append(record, reservedBytes, target) === true) return this.#afterAppend();
    this.#closeOpen();
    const fresh = this.#newBatch();
    try {
      fresh.append(record, reservedBytes, target);
    } catch (thrown) {
      fresh.fail(AppError.from(thrown)); // it is empty: this only settles it
      throw thrown;
    }
    this.#open = fresh;
    this.#afterAppend();
  }

  /** Sends what has gathered without waiting for more. */
  flush(): void {
    this.#closeOpen();
    this.drain();
  }

  /** Hands batches to the sender while it has room. */
  drain(): void {
    while (this.#sender.hasRoom) {
      if (this.#closed.length === 0 && this.#isDue()) this.#closeOpen();
      const batch = this.#closed.shift();
      if (batch === undefined) return;
      this.#hand(batch);
    }
  }

  /** Fails everything not acknowledged. */
  fail(error: AppError): void {
    this.#sender.close((batch) => batch.fail(error));
    this.#failWaiting(error);
  }

  /** True when the open batch waits for nothing but its turn. */
  #isDue(): boolean {
    return this.#hasLingered || (this.#open?.sizeBytes ?? 0) >= this.#options.batchBytes;
  }

  /** Where the open batch ends: few large batches are cheaper than many that wait. */
  #limitBytes(): number {
    const { batchBytes, batchBytesMax, cache, topicId } = this.#options;
    const told = Number(cache.peek(topicId)?.config["max.message.bytes"] ?? batchBytesMaxDefault);
    const wanted = this.#sender.hasRoom && this.#closed.length === 0 ? batchBytes : batchBytesMax;
    return Math.min(wanted, told);
  }

  #failWaiting(error: AppError): void {
    const waiting = this.#closed.splice(0);
    if (this.#open !== undefined) waiting.push(this.#open);
    this.#open = undefined;
    for (const batch of waiting) batch.fail(error);
  }

  #newBatch(): ProducerBatch {
    const { partition, deliveryTimeoutMs, compression, memory, clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + deliveryTimeoutMs;
    const options = { compression, memory, expectedBytes: this.#lastClosedBytes };
    const batch = new ProducerBatch(partition, deadlineMs, options, (settled) => this.#onSettled(settled));
    this.#options.onOpenedBatch(batch);
    this.#hasLingered = false;
    void this.#linger(batch);
    return batch;
  }

  /** A sleep and not an unreferenced timer: a program that only awaits its send must not end before it. */
  async #linger(batch: ProducerBatch): Promise<void> {
    await this.#options.clock.sleep(this.#options.lingerMs);
    if (this.#open !== batch) return;
    this.#hasLingered = true;
    this.drain();
  }

  #afterAppend(): void {
    if (this.#open !== undefined && this.#open.sizeBytes >= this.#limitBytes()) this.#closeOpen();
    if (this.#closed.length > 0) this.drain();
  }

  #closeOpen(): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    this.#lastClosedBytes = open.sizeBytes;
    this.#closed.push(open);
    this.#options.onClosedBatch(this.#options.partition);
  }

  #hand(batch: ProducerBatch): void {
    batch.build(this.#stamp(batch.count));
    this.#sender.add(batch);
  }

  #stamp(count: number): { producerId: number; producerEpoch: number; baseSequence: number } | undefined {
    if (this.#identity === undefined) return undefined;
    const baseSequence = this.#nextSequence;
    this.#nextSequence = advanceWireSequence(baseSequence, count);
    return { ...this.#identity, baseSequence };
  }

  #onSettled(batch: ProducerBatch): void {
    this.#options.onSettled(batch);
    // the sender frees its place after this call: drain once it has
    queueMicrotask(() => this.drain());
  }

  /**
   * The first batch was refused for good. What is certain not to be in the log goes on under fresh sequences; what
   * may be there is given up with the error, never sent under another identity (it could be there twice).
   */
  async #onRefused(head: ProducerBatch, error: AppError, window: SendWindow<ProducerBatch>): Promise<void> {
    if (error.reason === "UNKNOWN_TOPIC_ID" || error.reason === "TOPIC_NOT_FOUND") {
      this.#giveUp([...window.unacked], error, window);
      this.#failWaiting(error);
      this.#options.onTopicGone(error);
      return;
    }
    if (error.reason === "RECORD_TOO_LARGE" && head.count > 1) {
      this.#splitFirst(head, error, window);
      return;
    }
    if (this.#identity === undefined || !losesSequence(head, error)) {
      this.#giveUp([head], error, window);
      if (this.#identity !== undefined) this.#restamp(window.unacked, head.baseSequence);
      return;
    }
    const lost = window.unacked.filter((batch) => batch.mayBeInLog || batch.isExpired);
    this.#giveUp(lost, error, window);
    try {
      this.#identity = await this.#options.newIdentity?.();
      this.#restamp(window.unacked, 0);
    } catch (thrown) {
      this.#giveUp([...window.unacked], AppError.from(thrown), window);
    }
  }

  /** The topic takes less than was known: the records go out in smaller batches, later ones are made so. */
  #splitFirst(head: ProducerBatch, error: AppError, window: SendWindow<ProducerBatch>): void {
    const { cache, clock, topicId } = this.#options;
    void cache.isGone(topicId, error, clock); // a refresh; a topic that is gone is found by the next batch
    const halves = head.split();
    for (const half of halves) this.#options.onOpenedBatch(half);
    window.replaceFirst(halves);
    if (this.#identity !== undefined) this.#restamp(window.unacked, head.baseSequence);
  }

  #restamp(batches: readonly ProducerBatch[], fromSequence: number): void {
    this.#nextSequence = fromSequence;
    for (const batch of batches) {
      const stamp = this.#stamp(batch.count);
      if (stamp !== undefined) batch.restamp(stamp);
    }
  }

  #giveUp(batches: readonly ProducerBatch[], error: AppError, window: SendWindow<ProducerBatch>): void {
    for (const batch of batches) {
      window.remove(batch);
      batch.fail(error);
    }
  }
}

/** True when going on needs a new producer id: the partition's idea of the sequence is not ours, or we left a gap. */
function losesSequence(head: ProducerBatch, error: AppError): boolean {
  return (
    head.isExpired ||
    error.reason === "OUT_OF_ORDER_SEQUENCE" ||
    error.reason === "UNKNOWN_PRODUCER" ||
    error.reason === "PRODUCER_FENCED" ||
    error.reason === "SEQUENCE_PARTLY_PRESENT"
  );
}
