/**
 * The low level of a named producer (rules P1-P5): the caller encodes batches, sets producer id, epoch and sequence, and
 * learns of each what became of it. Order, retries with the same bytes and the leader's whereabouts are done here.
 *
 * A batch that is refused for good ends all batches written after it with the same error, in order: their sequences
 * would leave a gap. The caller goes on from there with new writes (SEQUENCE_PARTLY_PRESENT names the last sequence
 * held, in `metadata.lastSequence`: it trims and writes the rest).
 */
import { AppError } from "@millrace/base";
import type { Clock } from "@millrace/runtime";
import { namedInFlightDefault } from "./limits.ts";
import type { MetadataCache } from "./metadata-cache.ts";
import { PartitionSender, type SenderBatch } from "./partition-sender.ts";
import type { ProduceAnswer, ProduceStreams } from "./produce-stream.ts";

/** Where a writer writes. The batches' headers carry the producer. */
export interface PartitionWriterOptions {
  readonly topicId: string;
  readonly partition: number;
  /** Id that the batches' producer had before (rule P2): the leader goes on from its last sequence. 0 = none. */
  readonly previousProducerId?: number;
  /** Batches in flight; default 16. */
  readonly inFlightMax?: number;
  /** A failure that is repeated, for logs and counters. */
  readonly onRetry?: (error: AppError) => void;
}

/** Options of one write. */
export interface WriteOptions {
  /** Rule P5: go on at the batch's sequence although the leader misses records before it. Logged by the leader. */
  readonly resetSequence?: boolean;
  /** Gives up after so many milliseconds with TIMED_OUT, outcome unknown; default: never. */
  readonly timeoutMs?: number;
}

interface WriterBatch extends SenderBatch {
  reject(error: AppError): void;
}

/** Writes batches that wait beside those in flight. */
const queuedBatchesMax = 4_096;

/** See the file's comment. */
export class PartitionWriter {
  readonly #sender: PartitionSender<WriterBatch>;
  readonly #clock: Clock;
  readonly #previousProducerId: number;
  #isClosed = false;

  /** Made by `client.partitionWriter`. */
  constructor(
    options: PartitionWriterOptions,
    parts: { readonly streams: ProduceStreams; readonly cache: MetadataCache; readonly clock: Clock },
  ) {
    this.#clock = parts.clock;
    this.#previousProducerId = options.previousProducerId ?? 0;
    this.#sender = new PartitionSender<WriterBatch>({
      ...parts,
      topicId: options.topicId,
      partition: options.partition,
      inFlightMax: options.inFlightMax ?? namedInFlightDefault,
      onRefused: (_head, error, window) => {
        for (const batch of [...window.unacked]) {
          window.remove(batch);
          batch.reject(error);
        }
      },
      ...(options.onRetry === undefined ? {} : { onRetry: options.onRetry }),
    });
  }

  /** Batches written and not settled. */
  get pendingCount(): number {
    return this.#sender.unackedCount;
  }

  /** The last failure since the last success. */
  get lastError(): AppError | undefined {
    return this.#sender.lastError;
  }

  /**
   * Writes one encoded batch; resolves when it is durable. Rejects with the leader's refusal (nothing of the batch is
   * in the log then), CANCELLED after `close` and TIMED_OUT (outcome unknown).
   */
  write(bytes: Uint8Array, options: WriteOptions = {}): Promise<ProduceAnswer> {
    if (this.#isClosed) return Promise.reject(new AppError("CANCELLED", "the partition writer is closed"));
    if (this.#sender.unackedCount >= queuedBatchesMax) {
      return Promise.reject(
        new AppError(
          "LIMIT_EXCEEDED",
          `${queuedBatchesMax} batches wait already: await earlier writes first`,
        ),
      );
    }
    return new Promise((resolve, reject) => {
      this.#sender.add({
        bytes,
        slab: undefined,
        resetSequence: options.resetSequence ?? false,
        previousProducerId: this.#previousProducerId,
        deadlineMs:
          options.timeoutMs === undefined ? Infinity : this.#clock.monotonicMs() + options.timeoutMs,
        mayBeInLog: false,
        order: 0,
        attempt: 0,
        isInFlight: false,
        error: undefined,
        isExpired: false,
        onAcked: resolve,
        reject,
      });
    });
  }

  /** Stops. Writes that are not settled reject with CANCELLED; their outcome is unknown. */
  close(): void {
    this.#isClosed = true;
    this.#sender.close((batch) => batch.reject(new AppError("CANCELLED", "the partition writer was closed")));
  }
}
