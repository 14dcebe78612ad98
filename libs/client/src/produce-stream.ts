/**
 * One produce stream to one storage node, shared by all partitions the client writes there.
 *
 * Data flow: `send` queues per partition; `#pump` writes what the node's credit, the partition's quarter of it and the
 * transport allow, partitions taking turns; each answer gives its bytes back. Batches of one partition leave in the
 * order of their `send`. When the stream breaks every call learns whether it was written (its outcome is unknown) or not.
 */
import { AppError } from "@millrace/base";
import type { Handshake } from "@millrace/proto/common";
import {
  ProduceBatch,
  type ProduceRequest,
  type ProduceResponse,
  type ProduceResult,
  StorageServiceService,
} from "@millrace/proto/storage";
import type { ClientDuplex, DuplexMethod, RpcConnection } from "@millrace/rpc";
import type { Slab } from "./batch-memory.ts";
import { encodeOpaque, encodeOpaqueInPlace } from "./opaque-message.ts";
import { errorFromMessage } from "./proto-errors.ts";

/** A message that is encoded already. */
interface Encoded {
  readonly encoded: Buffer;
}

type Outgoing = ProduceRequest | Encoded;

const produceMethod: DuplexMethod<Outgoing, ProduceResponse> = {
  ...StorageServiceService.produce,
  requestSerialize: (message) =>
    "encoded" in message ? message.encoded : StorageServiceService.produce.requestSerialize(message),
};

/** Field numbers of storage.proto, checked against the generated code by a test. */
const field = { requestBatch: 2, batchBytes: 5 } as const;

/** What became of a batch that was accepted. */
export interface ProduceAnswer {
  /** -1 for a recognised repetition whose offset is no longer known. */
  readonly baseOffset: number;
  /** True: the batch was there already. */
  readonly isDuplicate: boolean;
  readonly leaderEpoch: number;
}

/** Why a batch was not accepted. */
export interface ProduceFailure {
  readonly error: AppError;
  /** True when the batch was written to the stream and no answer came. */
  readonly isUnanswered: boolean;
  /** True when the stream failed, not the batch. */
  readonly isStreamFailure: boolean;
}

/** A batch to send. Exactly one of the callbacks is called, once. */
export interface ProduceCall {
  readonly topicId: string;
  readonly partition: number;
  readonly leaderEpoch: number;
  readonly bytes: Uint8Array;
  /** The memory `bytes` lie in when there is room for the request in front of them; it is overwritten. */
  readonly slab?: Slab | undefined;
  readonly resetSequence: boolean;
  /** Rule P2; absent: none. */
  readonly previousProducerId?: number | undefined;
  onAnswer(answer: ProduceAnswer): void;
  onFailure(failure: ProduceFailure): void;
}

/** What one partition has queued and in flight. */
interface PartitionLane {
  readonly queue: ProduceCall[];
  inFlightBytes: number;
  isReady: boolean;
}

/** See the file's comment. */
export class ProduceStream {
  readonly address: string;
  readonly #stream: ClientDuplex<Outgoing, ProduceResponse>;
  readonly #lanes = new Map<string, PartitionLane>();
  readonly #ready: PartitionLane[] = [];
  readonly #unanswered = new Map<number, { call: ProduceCall; lane: PartitionLane }>();
  #creditBytes = 0;
  #inFlightBytes = 0;
  #correlationId = 0;
  #isWaitingForTransport = false;
  #failure: AppError | undefined;

  constructor(connection: RpcConnection, handshake: Handshake) {
    this.address = connection.address;
    this.#stream = connection.duplex(produceMethod);
    this.#stream
      .receive((message) => this.#onMessage(message))
      .then(
        () =>
          this.#fail(new AppError("UNAVAILABLE", `storage node ${this.address} ended the produce stream`)),
        (thrown: unknown) => this.#fail(AppError.from(thrown)),
      );
    this.#stream.write({ message: { $case: "open", value: handshake } });
  }

  /** Why the stream is over; undefined while it lives. */
  get failure(): AppError | undefined {
    return this.#failure;
  }

  /** Queues a batch. */
  send(call: ProduceCall): void {
    if (this.#failure !== undefined) {
      call.onFailure({ error: this.#failure, isUnanswered: false, isStreamFailure: true });
      return;
    }
    const lane = this.#laneOf(call);
    lane.queue.push(call);
    this.#markReady(lane);
    this.#pump();
  }

  /** No more batches; the node answers what it has and ends the stream. */
  end(): void {
    if (this.#failure === undefined) this.#stream.end();
  }

  /** Breaks the stream. */
  cancel(error: AppError): void {
    this.#stream.cancel();
    this.#fail(error);
  }

  #laneOf(call: ProduceCall): PartitionLane {
    const key = `${call.topicId}:${call.partition}`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { queue: [], inFlightBytes: 0, isReady: false };
      this.#lanes.set(key, lane);
    }
    return lane;
  }

  #markReady(lane: PartitionLane): void {
    const call = lane.queue[0];
    if (lane.isReady || call === undefined) return;
    const isOverQuarter =
      lane.inFlightBytes > 0 && (lane.inFlightBytes + call.bytes.byteLength) * 4 > this.#creditBytes;
    if (isOverQuarter) return;
    lane.isReady = true;
    this.#ready.push(lane);
  }

  #pump(): void {
    while (!this.#isWaitingForTransport && this.#failure === undefined) {
      const lane = this.#ready[0];
      const call = lane?.queue[0];
      if (lane === undefined || call === undefined) return;
      const hasCredit =
        this.#inFlightBytes === 0 || this.#inFlightBytes + call.bytes.byteLength <= this.#creditBytes;
      if (this.#creditBytes === 0 || !hasCredit) return;
      this.#ready.shift();
      lane.queue.shift();
      lane.isReady = false;
      this.#write(call, lane);
      this.#markReady(lane);
    }
  }

  #write(call: ProduceCall, lane: PartitionLane): void {
    const correlationId = ++this.#correlationId;
    const isTooLarge = call.bytes.byteLength * 4 > this.#creditBytes;
    if (isTooLarge) {
      const error = new AppError(
        "RECORD_TOO_LARGE",
        `a batch of ${call.bytes.byteLength} bytes is larger than storage node ${this.address} takes (${Math.floor(this.#creditBytes / 4)})`,
      );
      call.onFailure({ error, isUnanswered: false, isStreamFailure: false });
      return;
    }
    this.#unanswered.set(correlationId, { call, lane });
    this.#inFlightBytes += call.bytes.byteLength;
    lane.inFlightBytes += call.bytes.byteLength;
    if (this.#stream.write({ encoded: encodeProduceBatch(call, correlationId) })) return;
    this.#isWaitingForTransport = true;
    this.#stream.whenWritable().then(
      () => {
        this.#isWaitingForTransport = false;
        this.#pump();
      },
      (thrown: unknown) => this.#fail(AppError.from(thrown)),
    );
  }

  #onMessage({ message }: ProduceResponse): void {
    if (message?.$case === "opened") {
      this.#creditBytes = message.value.creditBytes;
      this.#pump();
    } else if (message?.$case === "result") {
      this.#onResult(message.value);
    }
  }

  #onResult(result: ProduceResult): void {
    const answered = this.#unanswered.get(result.correlationId);
    if (answered === undefined) return;
    const { call, lane } = answered;
    this.#unanswered.delete(result.correlationId);
    this.#inFlightBytes -= call.bytes.byteLength;
    lane.inFlightBytes -= call.bytes.byteLength;
    this.#markReady(lane);
    if (result.error === undefined) call.onAnswer(result);
    else
      call.onFailure({ error: errorFromMessage(result.error), isUnanswered: false, isStreamFailure: false });
    this.#pump();
  }

  #fail(error: AppError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    const unanswered = [...this.#unanswered.values()];
    const queued = [...this.#lanes.values()].flatMap((lane) => lane.queue);
    this.#unanswered.clear();
    this.#lanes.clear();
    for (const { call } of unanswered) call.onFailure({ error, isUnanswered: true, isStreamFailure: true });
    for (const call of queued) call.onFailure({ error, isUnanswered: false, isStreamFailure: true });
  }
}

/** A produce request's bytes: around the batch where there is room, else with one copy of it. */
export function encodeProduceBatch(
  call: Omit<ProduceCall, "onAnswer" | "onFailure">,
  correlationId: number,
): Buffer {
  const innerFields = ProduceBatch.encode({
    correlationId,
    topicId: call.topicId,
    partition: call.partition,
    leaderEpoch: call.leaderEpoch,
    resetSequence: call.resetSequence,
    previousProducerId: call.previousProducerId ?? 0,
    data: undefined,
  }).finish();
  const fields = { innerField: field.requestBatch, innerFields, bytesField: field.batchBytes };
  return call.slab === undefined
    ? encodeOpaque({ ...fields, chunks: [call.bytes] })
    : encodeOpaqueInPlace(fields, call.bytes, call.slab);
}

/** The produce streams of a client, one per storage node. */
export class ProduceStreams {
  readonly #connect: (address: string) => RpcConnection;
  readonly #handshake: () => Handshake;
  readonly #byAddress = new Map<string, ProduceStream>();

  constructor(connect: (address: string) => RpcConnection, handshake: () => Handshake) {
    this.#connect = connect;
    this.#handshake = handshake;
  }

  /** The live stream to `address`, opened when there is none. */
  to(address: string): ProduceStream {
    let stream = this.#byAddress.get(address);
    if (stream === undefined || stream.failure !== undefined) {
      stream = new ProduceStream(this.#connect(address), this.#handshake());
      this.#byAddress.set(address, stream);
    }
    return stream;
  }

  /** Breaks all streams; what is unanswered fails with CANCELLED. */
  close(): void {
    for (const stream of this.#byAddress.values())
      stream.cancel(new AppError("CANCELLED", "the client is closed"));
    this.#byAddress.clear();
  }
}
