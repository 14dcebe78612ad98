/**
 * Produce: the stream and its unary twin.
 *
 * Data flow of a stream: handshake -> batches, taken within the credit (a partition holding its quarter is refused
 * retriably at once, so that one stuck partition never stops the others) -> Appender -> an answer per batch when it is
 * durable, in any order. A refused batch costs its sender that batch; the stream goes on.
 */
import { AppError } from "@millrace/base";
import { errorToMessage } from "@millrace/client";
import type { HandshakeReply } from "@millrace/proto/common";
import type {
  ProduceBatch,
  ProduceOnceRequest,
  ProduceOnceResponse,
  ProduceRequest,
  ProduceResponse,
} from "@millrace/proto/storage";
import { CreditWindow, type Duplex } from "@millrace/rpc";
import type { Clock } from "@millrace/runtime";
import type { Appended, Appender } from "../drivers/appender.ts";
import type { ServiceParts } from "./service-parts.ts";

/** Serves one produce stream until the caller ends it or the node stops. */
export async function serveProduce(
  stream: Duplex<ProduceResponse, ProduceRequest>,
  parts: ServiceParts,
): Promise<void> {
  const session = new ProduceSession(stream, parts);
  parts.gauges.produceStreams++;
  try {
    await session.run();
  } finally {
    parts.gauges.produceStreams--;
  }
}

/** Appends one batch and waits for its durability. */
export async function produceOnce(
  request: ProduceOnceRequest,
  parts: ServiceParts,
): Promise<ProduceOnceResponse> {
  parts.checkCluster(request.clusterId);
  if (request.batch === undefined) throw new AppError("INVALID_REQUEST", "the request has no batch");
  await parts.appender.whenWritable();
  const appended = parts.counted(() => parts.appender.append(request.batch as ProduceBatch));
  await appended.durable;
  return {
    baseOffset: appended.baseOffset,
    isDuplicate: appended.isDuplicate,
    recordCount: appended.recordCount,
  };
}

class ProduceSession {
  readonly #stream: Duplex<ProduceResponse, ProduceRequest>;
  readonly #parts: ServiceParts;
  readonly #appender: Appender;
  readonly #clock: Clock;
  readonly #credit: CreditWindow;
  /** Batches that wait until the journal takes more; bounded by the credit. */
  readonly #waiting: ProduceBatch[] = [];
  #reply: HandshakeReply | undefined;
  #unanswered = 0;
  #isOver = false;
  #pauses = 0;
  #fail: (error: AppError) => void = () => {};
  #onIdle: () => void = () => {};

  constructor(stream: Duplex<ProduceResponse, ProduceRequest>, parts: ServiceParts) {
    this.#stream = stream;
    this.#parts = parts;
    this.#appender = parts.appender;
    this.#clock = parts.clock;
    this.#credit = new CreditWindow({
      creditBytes: parts.streamCreditBytes,
      requestBytesMax: parts.requestBytesMax,
    });
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
      await this.#idle();
    } finally {
      this.#isOver = true;
    }
  }

  /** Resolves when everything taken is answered. */
  #idle(): Promise<void> {
    if (this.#unanswered === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  #onMessage({ message }: ProduceRequest): void {
    try {
      if (message?.$case === "open") this.#open(message.value);
      else if (message?.$case === "batch") this.#take(message.value);
      else throw new AppError("INVALID_REQUEST", "a message of the produce stream carries nothing known");
    } catch (thrown) {
      this.#fail(AppError.from(thrown));
    }
  }

  #open(handshake: Parameters<ServiceParts["openStream"]>[0]): void {
    if (this.#reply !== undefined)
      throw new AppError("INVALID_REQUEST", "the produce stream is open already");
    this.#reply = this.#parts.openStream(handshake, this.#parts.streamCreditBytes);
    this.#send({ message: { $case: "opened", value: this.#reply } });
  }

  #take(batch: ProduceBatch): void {
    if (this.#reply === undefined)
      throw new AppError(
        "INVALID_REQUEST",
        "a produce stream begins with a handshake; this one began with a batch",
      );
    const bytes = batchBytes(batch);
    const taken = this.#credit.tryTake(keyOf(batch), bytes);
    if (taken === "exceeded") {
      throw new AppError(
        "CREDIT_EXCEEDED",
        `more than the ${this.#parts.streamCreditBytes} bytes granted are in flight on this stream`,
      );
    }
    this.#unanswered++;
    if (taken === "partitionFull") {
      const error = new AppError(
        "CREDIT_EXCEEDED",
        `partition ${batch.partition} of topic ${batch.topicId} holds its quarter of the stream's credit; wait for its answers`,
      );
      this.#answerError(batch, error, 0);
      return;
    }
    if (this.#waiting.length > 0 || this.#mustWait()) this.#waiting.push(batch);
    else this.#append(batch, bytes);
  }

  /** True when the journal takes no more now; what waits goes on by itself. */
  #mustWait(): boolean {
    const writable = this.#appender.whenWritable();
    if (writable === undefined) return false;
    this.#pause();
    writable.then(
      () => {
        this.#unpause();
        this.#appendWaiting();
      },
      () => {
        this.#unpause();
        this.#appendWaiting(); // each learns the directory's error
      },
    );
    return true;
  }

  #appendWaiting(): void {
    let isFirst = true;
    for (let batch = this.#waiting[0]; batch !== undefined; batch = this.#waiting[0]) {
      if (!isFirst && this.#mustWait()) return;
      isFirst = false;
      this.#waiting.shift();
      this.#append(batch, batchBytes(batch));
    }
  }

  #append(batch: ProduceBatch, bytes: number): void {
    const startMs = this.#clock.monotonicMs();
    let appended: Appended;
    try {
      appended = this.#parts.counted(() => this.#appender.append(batch));
    } catch (thrown) {
      this.#answerError(batch, thrown, bytes);
      return;
    }
    if (appended.durable === undefined) {
      this.#answer(batch, appended, bytes);
      return;
    }
    appended.durable.then(
      () => {
        this.#parts.observeAppend(this.#clock.monotonicMs() - startMs);
        this.#answer(batch, appended, bytes);
      },
      (thrown: unknown) => this.#answerError(batch, thrown, bytes),
    );
  }

  #answer(batch: ProduceBatch, appended: Appended, bytes: number): void {
    const { baseOffset, isDuplicate, leaderEpoch } = appended;
    const { correlationId } = batch;
    this.#settle(batch, bytes);
    this.#send({
      message: {
        $case: "result",
        value: { correlationId, error: undefined, baseOffset, isDuplicate, leaderEpoch },
      },
    });
    this.#afterAnswer();
  }

  #answerError(batch: ProduceBatch, thrown: unknown, bytes: number): void {
    this.#settle(batch, bytes);
    this.#send({
      message: {
        $case: "result",
        value: {
          correlationId: batch.correlationId,
          error: errorToMessage(thrown),
          baseOffset: -1,
          isDuplicate: false,
          leaderEpoch: -1,
        },
      },
    });
    this.#afterAnswer();
  }

  #settle(batch: ProduceBatch, bytes: number): void {
    if (bytes > 0) this.#credit.give(keyOf(batch), bytes);
    this.#unanswered--;
  }

  #afterAnswer(): void {
    if (this.#unanswered === 0) this.#onIdle();
  }

  /** A caller that does not read its answers is not read from either. */
  #send(response: ProduceResponse): void {
    if (this.#isOver || this.#stream.write(response)) return;
    this.#pause();
    this.#stream.whenWritable().then(
      () => this.#unpause(),
      () => this.#unpause(),
    );
  }

  #pause(): void {
    if (this.#pauses++ === 0) this.#stream.pause();
  }

  #unpause(): void {
    if (--this.#pauses === 0) this.#stream.resume();
  }
}

/** Bytes that count against the credit: the batch, or the plain records' keys and values. */
function batchBytes({ data }: ProduceBatch): number {
  if (data?.$case === "batch") return Math.max(1, data.value.byteLength);
  if (data?.$case !== "records") return 1;
  let bytes = 1;
  for (const record of data.value.records)
    bytes += (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0);
  return bytes;
}

function keyOf(batch: ProduceBatch): string {
  return `${batch.topicId}:${batch.partition}`;
}
