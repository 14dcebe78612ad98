/**
 * Reads one partition for a consumer: finds the leader, subscribes, goes on after failures where it stood.
 *
 * Invariants: what is handed on is contiguous from the start position; a leader of a lower epoch than one seen before
 * is not followed; a topic that is gone, a truncated log and an offset that is not there end the reading with an error
 * that says so, never with a skip (rules L3, L4).
 */
import { AppError } from "@millrace/base";
import type { FetchedData } from "@millrace/proto/storage";
import { batchSizeAt } from "@millrace/record";
import { Backoff, type Clock } from "@millrace/runtime";
import type { FetchStream } from "./fetch-stream.ts";
import { retryCapMs, retryFirstMs } from "./limits.ts";
import type { MetadataCache } from "./metadata-cache.ts";
import { errorFromMessage } from "./proto-errors.ts";

/** Where a reading starts. */
export interface ReadFrom {
  readonly offset: number;
  /** Leader epoch of the record before it; -1 = unknown. */
  readonly positionEpoch: number;
}

/** What a reader works with. */
export interface PartitionReaderOptions {
  readonly topicId: string;
  readonly topic: string;
  readonly partition: number;
  readonly bytesMax: number;
  readonly cache: MetadataCache;
  readonly clock: Clock;
  streamTo(address: string): FetchStream;
  /** Data arrived; its bytes count against `stream`'s credit until granted back. */
  onData(reader: PartitionReader, data: FetchedData, fromOffset: number, stream: FetchStream): void;
  /** The reading ended. */
  onError(reader: PartitionReader, error: AppError): void;
}

/** Errors after which the leader is looked up again. */
const retriable = new Set([
  "NOT_LEADER",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "UNKNOWN_TOPIC_ID",
  "NODE_STARTING",
  "STORAGE_FAILED",
  "UNAVAILABLE",
  "TIMED_OUT",
  "CANCELLED",
]);

/** See the file's comment. */
export class PartitionReader {
  readonly topicId: string;
  readonly topic: string;
  readonly partition: number;
  /** Changes with every seek: data of an older generation is not handed on. */
  generation = 0;
  /** What the application reads next. */
  position: ReadFrom;
  highWatermark = -1;
  startOffset = -1;
  /** Set when the reading ended with an error. */
  failure: AppError | undefined;
  readonly #options: PartitionReaderOptions;
  readonly #backoff = new Backoff({ firstMs: retryFirstMs, capMs: retryCapMs });
  readonly #closing = new AbortController();
  #next: ReadFrom;
  #leaderEpochSeen = -1;
  #unsubscribe: () => void = () => {};

  constructor(options: PartitionReaderOptions, from: ReadFrom) {
    this.topicId = options.topicId;
    this.topic = options.topic;
    this.partition = options.partition;
    this.#options = options;
    this.position = from;
    this.#next = from;
  }

  /** Starts reading at `position`. */
  start(): void {
    this.generation++;
    this.#unsubscribe();
    this.failure = undefined;
    this.#next = this.position;
    this.#subscribe();
  }

  close(): void {
    this.generation++;
    this.#closing.abort();
    this.#unsubscribe();
  }

  get #label(): string {
    return `${this.topic}-${this.partition}`;
  }

  #subscribe(): void {
    const { cache, bytesMax } = this.#options;
    const leader = cache.peek(this.topicId)?.partitions[this.partition];
    if (leader?.leaderAddress === undefined) {
      this.#retry(new AppError("NOT_LEADER", `${this.#label} has no leader now`));
      return;
    }
    const generation = this.generation;
    const isCurrent = (): boolean => this.generation === generation && this.failure === undefined;
    const stream = this.#options.streamTo(leader.leaderAddress);
    this.#unsubscribe = stream.subscribe({
      topicId: this.topicId,
      partition: this.partition,
      leaderEpoch: leader.leaderEpoch,
      offset: this.#next.offset,
      positionEpoch: this.#next.positionEpoch,
      bytesMax,
      onData: (data) => {
        if (isCurrent()) this.#onData(data, stream);
      },
      onBroken: (error) => {
        if (isCurrent()) this.#retry(asUnavailable(error));
      },
    });
  }

  #onData(data: FetchedData, stream: FetchStream): void {
    if (data.error !== undefined) {
      this.#retry(errorFromMessage(data.error));
      return;
    }
    if (data.leaderEpoch < this.#leaderEpochSeen) {
      this.#unsubscribe();
      this.#retry(
        new AppError(
          "FENCED_LEADER_EPOCH",
          `${this.#label}: a leader of epoch ${data.leaderEpoch} answered after one of epoch ${this.#leaderEpochSeen}`,
        ),
      );
      return;
    }
    this.#leaderEpochSeen = data.leaderEpoch;
    this.#backoff.reset();
    this.highWatermark = data.highWatermark;
    this.startOffset = data.startOffset;
    const fromOffset = this.#next.offset;
    if (data.data?.$case !== "batches" || data.data.value.byteLength === 0) return;
    this.#next = { offset: data.nextOffset, positionEpoch: lastBatchEpoch(data.data.value) };
    this.#options.onData(this, data, fromOffset, stream);
  }

  #retry(error: AppError): void {
    if (!retriable.has(error.reason)) this.#fail(error);
    else void this.#retryLater(error, this.generation);
  }

  async #retryLater(error: AppError, generation: number): Promise<void> {
    const { clock, cache } = this.#options;
    await clock.sleep(this.#backoff.nextMs(), this.#closing.signal);
    const isCurrent = (): boolean => this.generation === generation && !this.#closing.signal.aborted;
    if (!isCurrent()) return;
    if ((await cache.isGone(this.topicId, error, clock)) && isCurrent())
      this.#fail(await topicGone(cache, this.topic, this.topicId));
    else if (isCurrent()) this.#subscribe();
  }

  #fail(error: AppError): void {
    this.failure = error;
    this.#unsubscribe();
    this.#options.onError(this, error);
  }
}

/** The error of a topic id that is gone, telling whether its name lives on (rule L3: that is another topic). */
export async function topicGone(cache: MetadataCache, name: string, topicId: string): Promise<AppError> {
  let now = "";
  try {
    const successor = await cache.byName(name);
    now = ` A topic of that name was created again (id ${successor.topicId}): it is another topic, positions in the old one do not apply. Start it from its own beginning.`;
  } catch {
    // the name is free, or cannot be asked for now
  }
  return new AppError("UNKNOWN_TOPIC_ID", `topic "${name}" (id ${topicId}) was deleted.${now}`, {
    metadata: { topicId, topic: name },
  });
}

function asUnavailable(error: AppError): AppError {
  return error.retry === "never" && error.reason === "INTERNAL"
    ? new AppError("UNAVAILABLE", error.message, { cause: error })
    : error;
}

/** Leader epoch in the header of the last of these batches; -1 when it cannot be read. */
function lastBatchEpoch(bytes: Uint8Array): number {
  let last = 0;
  for (let at = 0; at < bytes.byteLength; ) {
    last = at;
    const sizeBytes = batchSizeAt(bytes, at);
    if (sizeBytes === undefined) return -1;
    at += sizeBytes;
  }
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(last + 12);
}
