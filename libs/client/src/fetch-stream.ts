/**
 * One fetch stream from one storage node: many subscriptions, one credit.
 *
 * The node sends at most the bytes granted; `grant` is called as the application takes data. When the stream breaks
 * every subscription learns it once and is over.
 */
import { AppError } from "@millrace/base";
import type { Handshake } from "@millrace/proto/common";
import {
  type FetchedData,
  type FetchRequest,
  type FetchResponse,
  StorageServiceService,
} from "@millrace/proto/storage";
import type { ClientDuplex, RpcConnection } from "@millrace/rpc";

/** What to read. */
export interface FetchSubscription {
  readonly topicId: string;
  readonly partition: number;
  readonly leaderEpoch: number;
  /** First offset wanted. */
  readonly offset: number;
  /** Leader epoch of the record before `offset` (rule L4); -1 = do not check. */
  readonly positionEpoch: number;
  readonly bytesMax: number;
  /** Data or an error of the subscription; after an error it is over. */
  onData(data: FetchedData): void;
  /** The stream broke: the subscription is over. */
  onBroken(error: AppError): void;
}

/** Credit is given back in steps of this share of it, so that grants are few. */
const grantShare = 8;

/** See the file's comment. */
export class FetchStream {
  readonly address: string;
  readonly #stream: ClientDuplex<FetchRequest, FetchResponse>;
  readonly #subscriptions = new Map<number, FetchSubscription>();
  readonly #creditBytes: number;
  #takenBytes = 0;
  #nextId = 0;
  #failure: AppError | undefined;

  constructor(connection: RpcConnection, handshake: Handshake, creditBytes: number) {
    this.address = connection.address;
    this.#creditBytes = creditBytes;
    this.#stream = connection.duplex(StorageServiceService.fetch);
    this.#stream
      .receive(({ message }) => {
        if (message?.$case === "data") this.#onData(message.value);
      })
      .then(
        () => this.#fail(new AppError("UNAVAILABLE", `storage node ${this.address} ended the fetch stream`)),
        (thrown: unknown) => this.#fail(AppError.from(thrown)),
      );
    this.#stream.write({ message: { $case: "open", value: handshake } });
    this.#sendCredit(creditBytes);
  }

  /** Why the stream is over; undefined while it lives. */
  get failure(): AppError | undefined {
    return this.#failure;
  }

  /** Starts reading. Returns what stops it; data that is on the way is then not heard. */
  subscribe(subscription: FetchSubscription): () => void {
    const failure = this.#failure;
    if (failure !== undefined) {
      queueMicrotask(() => subscription.onBroken(failure));
      return () => {};
    }
    const subscriptionId = ++this.#nextId;
    this.#subscriptions.set(subscriptionId, subscription);
    const { topicId, partition, leaderEpoch, offset, positionEpoch, bytesMax } = subscription;
    this.#stream.write({
      message: {
        $case: "partition",
        value: {
          subscriptionId,
          topicId,
          partition,
          leaderEpoch,
          offset,
          positionEpoch,
          bytesMax,
          asRecords: false,
        },
      },
    });
    return () => this.#unsubscribe(subscriptionId);
  }

  /** Data of this many bytes was taken: the node may send as much again. */
  grant(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes * grantShare < this.#creditBytes || this.#failure !== undefined) return;
    this.#sendCredit(this.#takenBytes);
    this.#takenBytes = 0;
  }

  /** Ends the stream. */
  close(): void {
    if (this.#failure !== undefined) return;
    this.#failure = new AppError("CANCELLED", "the fetch stream was closed");
    this.#subscriptions.clear();
    this.#stream.cancel();
  }

  #unsubscribe(subscriptionId: number): void {
    if (!this.#subscriptions.delete(subscriptionId) || this.#failure !== undefined) return;
    this.#stream.write({ message: { $case: "stop", value: { subscriptionId } } });
  }

  #sendCredit(bytes: number): void {
    this.#stream.write({ message: { $case: "credit", value: { bytes } } });
  }

  #onData(data: FetchedData): void {
    const subscription = this.#subscriptions.get(data.subscriptionId);
    if (subscription === undefined) {
      this.grant(dataBytes(data)); // stopped meanwhile
      return;
    }
    if (data.error !== undefined) this.#subscriptions.delete(data.subscriptionId);
    subscription.onData(data);
  }

  #fail(error: AppError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    for (const subscription of subscriptions) subscription.onBroken(error);
  }
}

/** Bytes that count against the credit. */
export function dataBytes(data: FetchedData): number {
  return data.data?.$case === "batches" ? data.data.value.byteLength : 0;
}
