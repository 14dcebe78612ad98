/**
 * Fetch: the stream and its unary twin.
 *
 * Data flow of a stream: handshake -> subscriptions -> `#pump` serves those with data in turn, as far as the reader's
 * credit and the transport allow -> a subscription at the end sleeps until the log's durable offset passes it. A slow
 * reader holds up its own stream only; nothing is buffered beyond one message.
 */
import { AppError, invariant } from "@millrace/base";
import { errorToMessage } from "@millrace/client";
import type { Handshake } from "@millrace/proto/common";
import {
  type FetchedData,
  type FetchOnceRequest,
  type FetchOnceResponse,
  type FetchPartition,
  type FetchRequest,
  FetchResponse,
} from "@millrace/proto/storage";
import type { Duplex } from "@millrace/rpc";
import type { ServedPartition } from "../drivers/partitions.ts";
import { fetchBytesDefault, fetchBytesMax, fetchOnceWaitMsMax, subscriptionsMax } from "../limits.ts";
import { bytesOf, checkPosition, encodeFetchedBatches, nextOffsetAfter, toPlainRecords } from "./read.ts";
import type { ServiceParts } from "./service-parts.ts";

/** A message that is encoded already, or one that is not. */
export type FetchMessage = FetchResponse | { readonly encoded: Buffer };

/** Puts a {@link FetchMessage} on the wire. */
export function serializeFetchMessage(message: FetchMessage): Buffer {
  return "encoded" in message ? message.encoded : Buffer.from(FetchResponse.encode(message).finish());
}

/** Serves one fetch stream until the caller ends it or the node stops. */
export async function serveFetch(
  stream: Duplex<FetchMessage, FetchRequest>,
  parts: ServiceParts,
): Promise<void> {
  const session = new FetchSession(stream, parts);
  parts.gauges.fetchStreams++;
  try {
    await session.run();
  } finally {
    parts.gauges.fetchStreams--;
  }
}

/** One partition that a stream reads. */
interface Subscription {
  readonly id: number;
  readonly bytesMax: number;
  readonly asRecords: boolean;
  readonly served: ServedPartition;
  offset: number;
  /** True once the reader has heard of this subscription. */
  isAnnounced: boolean;
  isOver: boolean;
  /** Set while it sleeps at the end of the log. */
  cancelWake: (() => void) | undefined;
  release(): void;
}

class FetchSession {
  readonly #stream: Duplex<FetchMessage, FetchRequest>;
  readonly #parts: ServiceParts;
  readonly #subscriptions = new Map<number, Subscription>();
  readonly #ready: Subscription[] = [];
  #creditBytes = 0;
  #isOpen = false;
  #isOver = false;
  #isPumping = false;
  #fail: (error: AppError) => void = () => {};

  constructor(stream: Duplex<FetchMessage, FetchRequest>, parts: ServiceParts) {
    this.#stream = stream;
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const failed = new Promise<never>((_resolve, reject) => {
      this.#fail = reject;
    });
    try {
      await Promise.race([
        this.#stream.receive((message) => this.#onMessage(message)),
        failed,
        this.#parts.stopping,
      ]);
    } finally {
      this.#isOver = true;
      for (const subscription of this.#subscriptions.values()) subscription.release();
    }
  }

  #onMessage({ message }: FetchRequest): void {
    try {
      if (message === undefined)
        throw new AppError("INVALID_REQUEST", "a message of the fetch stream carries nothing known");
      if (message.$case === "open") this.#open(message.value);
      else if (!this.#isOpen)
        throw new AppError("INVALID_REQUEST", "a fetch stream begins with a handshake; this one did not");
      else if (message.$case === "partition") this.#subscribe(message.value);
      else if (message.$case === "stop") this.#end(message.value.subscriptionId);
      else this.#grant(message.value.bytes);
    } catch (thrown) {
      this.#fail(AppError.from(thrown));
    }
  }

  #open(handshake: Handshake): void {
    if (this.#isOpen) throw new AppError("INVALID_REQUEST", "the fetch stream is open already");
    const value = this.#parts.openStream(handshake, 0);
    this.#isOpen = true;
    this.#stream.write({ message: { $case: "opened", value } });
  }

  #grant(bytes: number): void {
    if (bytes < 0) throw new AppError("INVALID_REQUEST", `a grant of ${bytes} bytes`);
    this.#creditBytes += bytes;
    this.#startPump();
  }

  #subscribe(request: FetchPartition): void {
    const id = request.subscriptionId;
    this.#end(id);
    if (this.#subscriptions.size >= subscriptionsMax) {
      throw new AppError("LIMIT_EXCEEDED", `a fetch stream has at most ${subscriptionsMax} subscriptions`);
    }
    try {
      const served = this.#parts.partitions.serve(request.topicId, request.partition, request.leaderEpoch);
      checkPosition(served.log, request.offset, request.positionEpoch);
      const onLost = (error: AppError): void => this.#endWith(subscription, error);
      const subscription: Subscription = {
        id,
        bytesMax: messageBytes(request),
        asRecords: request.asRecords,
        served,
        offset: request.offset,
        isAnnounced: false,
        isOver: false,
        cancelWake: undefined,
        release: () => {
          subscription.isOver = true;
          subscription.cancelWake?.();
          served.hosted.onLost.delete(onLost);
        },
      };
      served.hosted.onLost.add(onLost);
      this.#subscriptions.set(id, subscription);
      this.#markReady(subscription);
    } catch (thrown) {
      this.#sendError(id, thrown);
    }
  }

  #end(id: number): void {
    this.#subscriptions.get(id)?.release();
    this.#subscriptions.delete(id);
  }

  #endWith(subscription: Subscription, thrown: unknown): void {
    if (subscription.isOver) return;
    this.#end(subscription.id);
    this.#sendError(subscription.id, thrown);
  }

  #sendError(subscriptionId: number, thrown: unknown): void {
    if (this.#isOver) return;
    this.#stream.write({
      message: {
        $case: "data",
        value: {
          subscriptionId,
          error: errorToMessage(thrown),
          data: undefined,
          startOffset: -1,
          highWatermark: -1,
          nextOffset: -1,
          leaderEpoch: -1,
        },
      },
    });
  }

  #markReady(subscription: Subscription): void {
    if (subscription.isOver || this.#isOver) return;
    this.#ready.push(subscription);
    this.#startPump();
  }

  #startPump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    this.#pump().catch((thrown: unknown) => this.#fail(AppError.from(thrown)));
  }

  async #pump(): Promise<void> {
    try {
      while (!this.#isOver && this.#creditBytes > 0) {
        const subscription = this.#ready.shift();
        if (subscription === undefined) return;
        if (!subscription.isOver && !(await this.#tryServe(subscription))) await this.#stream.whenWritable();
      }
    } finally {
      this.#isPumping = false; // in the same turn as the decision to stop: no wake-up is lost
    }
  }

  async #tryServe(subscription: Subscription): Promise<boolean> {
    try {
      return await this.#serve(subscription);
    } catch (thrown) {
      this.#endWith(subscription, thrown);
      return true;
    }
  }

  /** Sends one message of a subscription, or lets it sleep at the end. Returns what `write` said. */
  async #serve(subscription: Subscription): Promise<boolean> {
    const { served, offset } = subscription;
    const bytesMax = Math.min(subscription.bytesMax, Math.max(1, this.#creditBytes));
    const chunks = await served.log.read(offset, bytesMax, "durable");
    if (subscription.isOver || this.#isOver) return true;
    if (chunks.length === 0) return this.#sleep(subscription);
    subscription.isAnnounced = true;
    const isWritable = subscription.asRecords
      ? this.#sendRecords(subscription, chunks)
      : this.#sendBatches(subscription, chunks);
    this.#ready.push(subscription);
    return isWritable;
  }

  #sleep(subscription: Subscription): boolean {
    const { served, offset } = subscription;
    let isWritable = true;
    if (!subscription.isAnnounced) {
      // an answer without data: the reader learns that it is at the end, and where that is
      subscription.isAnnounced = true;
      const data = { ...this.#fieldsOf(subscription, offset), error: undefined, data: undefined };
      isWritable = this.#stream.write({ message: { $case: "data", value: data } });
    }
    if (served.log.durableOffset > offset) {
      this.#ready.push(subscription); // it came while the log was read
      return isWritable;
    }
    subscription.cancelWake = served.log.onDurablePast(offset, () => {
      subscription.cancelWake = undefined;
      this.#markReady(subscription);
    });
    return isWritable;
  }

  #sendBatches(subscription: Subscription, chunks: readonly Uint8Array[]): boolean {
    const nextOffset = nextOffsetAfter(chunks);
    invariant(nextOffset > subscription.offset, "a read makes progress");
    const bytes = bytesOf(chunks);
    subscription.offset = nextOffset;
    this.#creditBytes -= bytes;
    this.#parts.gauges.fetchedBytes += bytes;
    return this.#stream.write({
      encoded: encodeFetchedBatches(this.#fieldsOf(subscription, nextOffset), chunks),
    });
  }

  #sendRecords(subscription: Subscription, chunks: readonly Uint8Array[]): boolean {
    const { messages, bytes } = toPlainRecords(chunks, subscription.offset);
    this.#creditBytes -= Math.max(1, bytes);
    this.#parts.gauges.fetchedBytes += bytes;
    let isWritable = true;
    for (const { records, nextOffset } of messages) {
      subscription.offset = nextOffset;
      const fields = this.#fieldsOf(subscription, nextOffset);
      const value: FetchedData = {
        ...fields,
        error: undefined,
        data: { $case: "records", value: { records: [...records] } },
      };
      isWritable = this.#stream.write({ message: { $case: "data", value } });
    }
    return isWritable;
  }

  #fieldsOf({ id, served }: Subscription, nextOffset: number): Omit<FetchedData, "data" | "error"> {
    return {
      subscriptionId: id,
      startOffset: served.log.startOffset,
      highWatermark: served.log.durableOffset,
      nextOffset,
      leaderEpoch: served.leaderEpoch,
    };
  }
}

/** Reads once; waits at most `wait_ms` for a record when there is none. */
export async function fetchOnce(
  request: FetchOnceRequest,
  parts: ServiceParts,
  signal: AbortSignal,
): Promise<FetchOnceResponse> {
  parts.checkCluster(request.clusterId);
  const { partition } = request;
  if (partition === undefined) throw new AppError("INVALID_REQUEST", "the request names no partition");
  const served = parts.partitions.serve(partition.topicId, partition.partition, partition.leaderEpoch);
  checkPosition(served.log, partition.offset, partition.positionEpoch);
  let chunks = await served.log.read(partition.offset, messageBytes(partition), "durable");
  if (chunks.length === 0 && request.waitMs > 0) {
    await recordOrTimeout(
      served,
      partition.offset,
      Math.min(request.waitMs, fetchOnceWaitMsMax),
      parts,
      signal,
    );
    chunks = await served.log.read(partition.offset, messageBytes(partition), "durable");
  }
  parts.gauges.fetchedBytes += bytesOf(chunks);
  const fields = {
    subscriptionId: partition.subscriptionId,
    error: undefined,
    startOffset: served.log.startOffset,
    highWatermark: served.log.durableOffset,
    leaderEpoch: served.leaderEpoch,
  };
  if (chunks.length === 0) return { data: { ...fields, data: undefined, nextOffset: partition.offset } };
  if (!partition.asRecords) {
    const value = chunks.length === 1 ? (chunks[0] as Uint8Array) : Buffer.concat(chunks);
    return { data: { ...fields, data: { $case: "batches", value }, nextOffset: nextOffsetAfter(chunks) } };
  }
  const first = toPlainRecords(chunks, partition.offset).messages[0];
  invariant(first !== undefined, "batches give at least one message");
  return {
    data: {
      ...fields,
      data: { $case: "records", value: { records: [...first.records] } },
      nextOffset: first.nextOffset,
    },
  };
}

/** Resolves when a record past `offset` is durable, the time is over, or the caller or the node stops. */
function recordOrTimeout(
  { log, hosted }: ServedPartition,
  offset: number,
  waitMs: number,
  parts: ServiceParts,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      timer.cancel();
      cancel();
      hosted.onLost.delete(finish);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    let cancel = (): void => {};
    const timer = parts.clock.after(waitMs, finish);
    hosted.onLost.add(finish);
    signal.addEventListener("abort", finish, { once: true });
    cancel = log.onDurablePast(offset, finish);
  });
}

function messageBytes(request: FetchPartition): number {
  return request.bytesMax <= 0 ? fetchBytesDefault : Math.min(request.bytesMax, fetchBytesMax);
}
