/**
 * Sends the batches of one partition in order until each is acknowledged or given up.
 *
 * Data flow: `add` -> SendWindow -> the leader's produce stream -> answer. After a failure: the answers still out are
 * awaited (bounded), then the owner decides about a first batch that was refused for good, or the leader is looked up
 * again and everything left is sent again, same bytes, same order (rule P3: what has an unknown outcome keeps its
 * sequence, so the leader recognises it).
 */
import { AppError } from "@millrace/base";
import { Backoff, type Clock, type Timer } from "@millrace/runtime";
import type { Slab } from "./batch-memory.ts";
import { drainAnswersMs, retryCapMs, retryFirstMs } from "./limits.ts";
import type { MetadataCache, PartitionInfo } from "./metadata-cache.ts";
import type { ProduceAnswer, ProduceCall, ProduceFailure } from "./produce-stream.ts";
import { SendWindow, type WindowBatch } from "./send-window.ts";

/** A batch with where its outcome goes. */
export interface SenderBatch extends WindowBatch {
  readonly bytes: Uint8Array;
  /** The memory `bytes` lie in when there is room for the request in front of them. */
  readonly slab: Slab | undefined;
  readonly resetSequence: boolean;
  /** Rule P2; absent: none. */
  readonly previousProducerId?: number | undefined;
  /** Monotonic milliseconds at which it is given up; Infinity = never. */
  readonly deadlineMs: number;
  /** Set when its time is over. */
  isExpired: boolean;
  onAcked(answer: ProduceAnswer): void;
}

/** Where leaders are reached. */
export interface SendStreams {
  to(address: string): { send(call: ProduceCall): void };
}

/** Who tells leaders. */
export type LeaderSource = Pick<MetadataCache, "peek" | "isGone">;

/** What a sender works with. */
export interface SenderOptions<Batch extends SenderBatch> {
  readonly topicId: string;
  readonly partition: number;
  readonly inFlightMax: number;
  readonly streams: SendStreams;
  readonly cache: LeaderSource;
  readonly clock: Clock;
  /**
   * The first batch was refused for good, or its time is over; nothing is in flight. The owner removes it (and tells
   * its sender) or changes it so that it can be sent; then the sender goes on from the first batch left.
   */
  onRefused(head: Batch, error: AppError, window: SendWindow<Batch>): void | Promise<void>;
  /** A failure that is repeated, for logs and counters. */
  onRetry?(error: AppError): void;
}

const hopelessStreamReasons = new Set([
  "ACCESS_DENIED",
  "NOT_AUTHENTICATED",
  "UNIMPLEMENTED",
  "UNSUPPORTED_VERSION",
]);

/** See the file's comment. */
export class PartitionSender<Batch extends SenderBatch> {
  readonly #options: SenderOptions<Batch>;
  readonly #window: SendWindow<Batch>;
  readonly #backoff = new Backoff({ firstMs: retryFirstMs, capMs: retryCapMs });
  #isDeciding = false;
  #drainTimer: Timer | undefined;
  #deadlineTimer: Timer | undefined;
  #lastError: AppError | undefined;
  #isClosed = false;

  constructor(options: SenderOptions<Batch>) {
    this.#options = options;
    this.#window = new SendWindow(options.inFlightMax);
  }

  /** True when a batch added now would go out at once. */
  get hasRoom(): boolean {
    return this.#window.hasRoom;
  }

  /** Batches not acknowledged. */
  get unackedCount(): number {
    return this.#window.unacked.length;
  }

  /** The last failure since the last success; for messages. */
  get lastError(): AppError | undefined {
    return this.#lastError;
  }

  add(batch: Batch): void {
    this.#window.add(batch);
    this.#watchDeadline();
    this.#pump();
  }

  /** Stops; what is left is handed to `onLeft`, in order. */
  close(onLeft: (batch: Batch) => void): void {
    this.#isClosed = true;
    this.#drainTimer?.cancel();
    this.#deadlineTimer?.cancel();
    for (const batch of [...this.#window.unacked]) {
      this.#window.remove(batch);
      onLeft(batch);
    }
  }

  #leader(): PartitionInfo | undefined {
    const { cache, topicId, partition } = this.#options;
    return cache.peek(topicId)?.partitions[partition];
  }

  #pump(): void {
    if (this.#isClosed) return;
    for (let batch = this.#window.peekNext(); batch !== undefined; batch = this.#window.peekNext()) {
      const leader = this.#leader();
      const attempt = this.#window.sent(batch);
      if (leader?.leaderAddress === undefined) {
        this.#failed(batch, attempt, {
          error: new AppError("NOT_LEADER", `${this.#label()} has no leader now`),
          isUnanswered: false,
          isStreamFailure: false,
        });
        return;
      }
      this.#send(batch, attempt, leader.leaderAddress, leader.leaderEpoch);
    }
  }

  #send(batch: Batch, attempt: number, address: string, leaderEpoch: number): void {
    const { topicId, partition, streams } = this.#options;
    streams.to(address).send({
      topicId,
      partition,
      leaderEpoch,
      bytes: batch.bytes,
      slab: batch.slab,
      resetSequence: batch.resetSequence,
      previousProducerId: batch.previousProducerId,
      onAnswer: (answer) => this.#acked(batch, attempt, answer),
      onFailure: (failure) => this.#failed(batch, attempt, failure),
    });
  }

  #acked(batch: Batch, attempt: number, answer: ProduceAnswer): void {
    if (!this.#window.acked(batch, attempt)) return;
    this.#backoff.reset();
    this.#lastError = undefined;
    batch.onAcked(answer);
    this.#afterAnswer();
  }

  #failed(batch: Batch, attempt: number, failure: ProduceFailure): void {
    const { error } = failure;
    const isUnknown =
      failure.isUnanswered || error.retry === "unknownOutcome" || error.reason === "STORAGE_FAILED";
    this.#lastError = error;
    this.#window.failed(batch, attempt, asBatchError(failure), isUnknown);
    this.#afterAnswer();
  }

  #afterAnswer(): void {
    if (this.#isClosed) return;
    if (!this.#window.isRecovering) {
      this.#pump();
    } else if (this.#window.isDrained) {
      this.#drainTimer?.cancel();
      this.#drainTimer = undefined;
      void this.#decide();
    } else {
      this.#drainTimer ??= this.#options.clock.after(drainAnswersMs, () => {
        this.#drainTimer = undefined;
        this.#giveUpAnswers();
      });
    }
  }

  #giveUpAnswers(): void {
    this.#window.giveUpInFlight(
      new AppError("TIMED_OUT", `${this.#label()}: no answer within ${drainAnswersMs} ms after a failure`),
    );
    if (!this.#isClosed) void this.#decide();
  }

  /** Nothing is in flight after a failure: what about the first batch, and when do the others go on? */
  async #decide(): Promise<void> {
    if (this.#isDeciding) return;
    this.#isDeciding = true;
    try {
      const head = this.#window.unacked[0];
      const error = head?.error;
      if (head !== undefined && error !== undefined) {
        const refusal = isRefusal(head, error)
          ? error
          : ((await this.#beforeRetry(error)) ?? this.#expiryOf(head));
        if (refusal !== undefined) await this.#options.onRefused(head, refusal, this.#window);
      }
    } finally {
      this.#isDeciding = false;
    }
    if (this.#isClosed) return;
    this.#window.restart();
    this.#watchDeadline();
    this.#pump();
  }

  /** Backs off and looks the leader up again. An error: the topic is gone. */
  async #beforeRetry(error: AppError): Promise<AppError | undefined> {
    this.#options.onRetry?.(error);
    await this.#options.clock.sleep(this.#backoff.nextMs());
    if (error.retry === "afterDelay" || error.reason === "DISK_FULL") return undefined;
    const { cache, clock, topicId } = this.#options;
    if (!(await cache.isGone(topicId, error, clock))) return undefined;
    return new AppError(
      "UNKNOWN_TOPIC_ID",
      `${this.#label()}: the topic was deleted; a topic created again under its name is another one`,
      { metadata: { topicId } },
    );
  }

  #watchDeadline(): void {
    const head = this.#window.unacked[0];
    if (this.#deadlineTimer !== undefined || head === undefined || head.deadlineMs === Infinity) return;
    const delayMs = Math.max(1, head.deadlineMs - this.#options.clock.monotonicMs());
    this.#deadlineTimer = this.#options.clock.after(delayMs, () => {
      this.#deadlineTimer = undefined;
      this.#expire();
    });
  }

  /** Gives up a first batch whose time is over. */
  #expire(): void {
    const head = this.#window.unacked[0];
    if (this.#isClosed || this.#isDeciding) return; // a decision ends with a new look at the deadline
    if (head === undefined || head.deadlineMs > this.#options.clock.monotonicMs()) {
      this.#watchDeadline();
      return;
    }
    const error = this.#expiryOf(head);
    if (error === undefined) return;
    this.#window.giveUpInFlight(error);
    head.error = error;
    this.#drainTimer?.cancel();
    this.#drainTimer = undefined;
    void this.#decide();
  }

  /** The error of a batch whose time is over; undefined while it is not. */
  #expiryOf(batch: Batch): AppError | undefined {
    if (batch.deadlineMs > this.#options.clock.monotonicMs()) return undefined;
    batch.isExpired = true;
    const why = this.#lastError === undefined ? "" : ` (last failure: ${this.#lastError.message})`;
    return new AppError("TIMED_OUT", `${this.#label()}: not acknowledged in time${why}`, {
      cause: this.#lastError,
    });
  }

  #label(): string {
    const { cache, topicId, partition } = this.#options;
    const name = cache.peek(topicId)?.name;
    return name === undefined ? `topic ${topicId} partition ${partition}` : `${name}-${partition}`;
  }
}

/** A stream's failure is no refusal of the batch, unless no stream will ever do better. */
function asBatchError({ error, isStreamFailure }: ProduceFailure): AppError {
  if (!isStreamFailure || hopelessStreamReasons.has(error.reason) || error.isRetriable) return error;
  return new AppError("UNAVAILABLE", error.message, { metadata: error.metadata, cause: error });
}

/**
 * True when the first batch will not be accepted by sending it again. Of a later one the same error may only mean that
 * the one before it was refused: it is sent again behind it.
 */
function isRefusal(batch: SenderBatch, error: AppError): boolean {
  return batch.isExpired || error.retry === "never";
}
