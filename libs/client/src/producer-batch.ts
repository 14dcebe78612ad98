/** A producer's batch from its first record to its ack, and the senders that wait for it. */
import { AppError } from "@millrace/base";
import {
  BatchBuilder,
  type CompressionName,
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
  readonly #builder: BatchBuilder;
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
    options: {
      readonly compression: CompressionName;
      readonly memory: BatchMemory;
      /** True: it will be large, so it is built in a slab from the start. */
      readonly startsLarge: boolean;
    },
    onSettled: (batch: ProducerBatch) => void,
  ) {
    this.partition = partition;
    this.deadlineMs = deadlineMs;
    this.#memory = options.memory;
    let isFirst = !options.startsLarge;
    this.#builder = new BatchBuilder({
      compression: options.compression,
      bytesMax: builtBytesMax,
      allocate: (bytesMin) => {
        if (isFirst && bytesMin <= smallBatchBytes) {
          isFirst = bytesMin <= firstBytes;
          return Buffer.allocUnsafeSlow(isFirst ? firstBytes : smallBatchBytes);
        }
        const outgrown = this.slab;
        this.slab = this.#memory.take(Math.max(bytesMin, (outgrown?.byteLength ?? 0) * 2));
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
