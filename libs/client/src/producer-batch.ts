/** A producer's batch from its first record to its ack, and the senders that wait for it. */
import { AppError } from "@millrace/base";
import {
  BatchBuilder,
  type CompressionName,
  decodeBatch,
  type ProducerStamp,
  type Record,
  setProducer,
} from "@millrace/record";
import type { BatchMemory, Slab } from "./batch-memory.ts";
import { requestHeadroomBytes, smallBatchBytes } from "./limits.ts";
import type { SenderBatch } from "./partition-sender.ts";
import type { ProduceAnswer } from "./produce-stream.ts";

/** Who waits for records of a batch. Called once per run of records that lie next to each other in one batch. */
export interface AckTarget {
  /** `baseOffset` -1: a recognised repetition whose offset is no longer known. */
  acked(partition: number, baseOffset: number, count: number): void;
  failed(error: AppError, count: number): void;
}

/** How batches are made. */
export interface BatchOptions {
  readonly compression: CompressionName;
  readonly memory: BatchMemory;
  /** What it will be as far as one can tell: above {@link smallBatchBytes} it is built in a slab from the start. */
  readonly expectedBytes: number;
}

/** First memory of a batch that is not expected to be large. */
const firstBytes = 4_096;

/** Largest record a producer takes; the topic's `max.message.bytes` decides before that. */
const builtBytesMax = 64 * 1024 * 1024;

/** See the file's comment. Built (encoded, stamped) once, when its turn to be sent comes. */
export class ProducerBatch implements SenderBatch {
  readonly partition: number;
  readonly deadlineMs: number;
  readonly resetSequence = false;
  /** Settled (acked or failed) when this resolves; never rejects. */
  readonly done: Promise<void>;
  /** Bytes held of the producer's buffer. */
  reservedBytes = 0;
  mayBeInLog = false;
  order = 0;
  attempt = 0;
  isInFlight = false;
  error: AppError | undefined;
  isExpired = false;
  /** Wire sequence of the first record. */
  baseSequence = -1;
  /** Where the batch was built, with room in front; undefined for small and compressed ones. */
  slab: Slab | undefined;
  #outgrown: Slab | undefined;
  readonly #builder: BatchBuilder;
  readonly #options: BatchOptions;
  readonly #memory: BatchMemory;
  /** Who waits, and for how many records each, in the records' order. */
  readonly #targets: AckTarget[] = [];
  readonly #counts: number[] = [];
  readonly #onSettled: (batch: ProducerBatch) => void;
  #bytes: Uint8Array | undefined;
  #resolveDone: () => void = () => {};

  constructor(
    partition: number,
    deadlineMs: number,
    options: BatchOptions,
    onSettled: (batch: ProducerBatch) => void,
  ) {
    this.partition = partition;
    this.deadlineMs = deadlineMs;
    this.#options = options;
    this.#memory = options.memory;
    let wantedBytes = options.expectedBytes <= smallBatchBytes ? firstBytes : options.expectedBytes;
    this.#builder = new BatchBuilder({
      compression: options.compression,
      bytesMax: builtBytesMax,
      allocate: (bytesMin) => {
        // the first time what is expected; then, small memory outgrown once, as little as is needed of the next size
        const bytes = Math.max(bytesMin, wantedBytes);
        wantedBytes = smallBatchBytes;
        if (bytes <= smallBatchBytes) return Buffer.allocUnsafeSlow(bytes);
        this.#outgrown = this.slab;
        this.slab = this.#memory.take(bytes);
        return this.slab.subarray(requestHeadroomBytes);
      },
    });
    this.#onSettled = onSettled;
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  /** Bytes so far, before compression. */
  get sizeBytes(): number {
    return this.#builder.sizeBytes;
  }

  get count(): number {
    return this.#builder.count;
  }

  /** The encoded batch. */
  get bytes(): Uint8Array {
    if (this.#bytes === undefined) throw new AppError("INTERNAL", "the batch is not built yet");
    return this.#bytes;
  }

  /** Adds a record; false when the format's record count is reached. Throws INVALID_RECORD, RECORD_TOO_LARGE. */
  append(record: Record, reservedBytes: number, target: AckTarget): boolean {
    if (!this.#builder.append(record)) return false;
    this.reservedBytes += reservedBytes;
    const last = this.#targets.length - 1;
    if (last >= 0 && this.#targets[last] === target) {
      (this.#counts[last] as number)++;
    } else {
      this.#targets.push(target);
      this.#counts.push(1);
    }
    return true;
  }

  /** Encodes; undefined = not idempotent. */
  build(stamp: ProducerStamp | undefined): void {
    this.baseSequence = stamp?.baseSequence ?? -1;
    this.#bytes = this.#builder.build(stamp ?? {});
    if (this.#outgrown !== undefined) this.#memory.give(this.#outgrown);
    this.#outgrown = undefined;
    if (this.slab === undefined || this.#bytes.buffer === this.slab.buffer) return;
    this.#memory.give(this.slab); // compressed: the batch is elsewhere
    this.slab = undefined;
  }

  /** Gives a built batch another identity. Only when it is certain that it is not in the log. */
  restamp(stamp: ProducerStamp): void {
    this.baseSequence = stamp.baseSequence;
    this.mayBeInLog = false;
    setProducer(this.bytes, 0, stamp);
  }

  /**
   * Two batches with a half of the records each, in its place: for a topic whose `max.message.bytes` became smaller than
   * the producer knew. Its senders wait for the halves.
   */
  split(): [ProducerBatch, ProducerBatch] {
    const records = decodeBatch(this.bytes);
    const targets = this.#targets.flatMap((target, i) =>
      new Array<AckTarget>(this.#counts[i] as number).fill(target),
    );
    const middle = records.length >>> 1;
    const firstReserved = Math.floor((this.reservedBytes * middle) / records.length);
    const part = (from: number, to: number, reservedBytes: number): ProducerBatch => {
      const batch = new ProducerBatch(this.partition, this.deadlineMs, this.#options, this.#onSettled);
      for (let i = from; i < to; i++) batch.append(records[i] as Record, 0, targets[i] as AckTarget);
      batch.reservedBytes = reservedBytes;
      batch.build(undefined);
      return batch;
    };
    const halves: [ProducerBatch, ProducerBatch] = [
      part(0, middle, firstReserved),
      part(middle, records.length, this.reservedBytes - firstReserved),
    ];
    this.reservedBytes = 0;
    this.#onSettled(this);
    void Promise.all(halves.map((half) => half.done)).then(() => this.#resolveDone());
    return halves;
  }

  onAcked(answer: ProduceAnswer): void {
    // sent once and acknowledged: no transport holds the bytes any more
    if (this.slab !== undefined && this.attempt === 1) this.#memory.give(this.slab);
    let index = 0;
    for (const [i, target] of this.#targets.entries()) {
      const count = this.#counts[i] as number;
      target.acked(this.partition, answer.baseOffset < 0 ? -1 : answer.baseOffset + index, count);
      index += count;
    }
    this.#settle();
  }

  fail(error: AppError): void {
    for (const [i, target] of this.#targets.entries()) target.failed(error, this.#counts[i] as number);
    this.#settle();
  }

  #settle(): void {
    this.#bytes = undefined;
    this.slab = undefined;
    this.#onSettled(this);
    this.#resolveDone();
  }
}
