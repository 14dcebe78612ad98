/**
 * The two halves of a stream, shared by server and client: messages out with back-pressure by bytes, messages in by
 * callback. grpc-js sees bytes only; encoding and decoding happen here, so that sizes are known and a message that
 * does not decode is an error with a reason.
 *
 * Hot path: no promise per message. Out: encode, one write, one callback. In: decode, one call.
 */
import type { Readable, Writable } from "node:stream";
import { AppError, invariant } from "@millrace/base";

/** What a queued message costs besides its bytes: it bounds queues of tiny messages. */
const messageOverheadBytes = 128;

/** Sends messages into a stream. */
export class MessageWriter<Out> {
  readonly #stream: Writable;
  readonly #encode: (message: Out) => Buffer;
  readonly #bufferBytesMax: number;
  readonly #messageBytesMax: number;
  #pendingBytes = 0;
  #error: AppError | undefined;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(
    stream: Writable,
    encode: (message: Out) => Buffer,
    limits: { readonly streamBufferBytes: number; readonly messageBytesMax: number },
  ) {
    this.#stream = stream;
    this.#encode = encode;
    this.#bufferBytesMax = limits.streamBufferBytes;
    this.#messageBytesMax = limits.messageBytesMax;
  }

  /** Queues a message; false when the buffer is full or the stream over. Throws LIMIT_EXCEEDED for one that is too large. */
  write(message: Out): boolean {
    if (this.#error !== undefined) return false;
    const bytes = this.#encode(message);
    checkMessageBytes(bytes.byteLength, this.#messageBytesMax);
    const cost = bytes.byteLength + messageOverheadBytes;
    this.#pendingBytes += cost;
    this.#stream.write(bytes, () => this.#onWritten(cost));
    return this.#pendingBytes < this.#bufferBytesMax;
  }

  /** Resolves when there is room again; rejects when the stream is over. */
  whenWritable(): Promise<void> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#pendingBytes < this.#bufferBytesMax) return Promise.resolve();
    this.#waiting ??= Promise.withResolvers();
    return this.#waiting.promise;
  }

  /** No more messages; whoever waits learns why. */
  fail(error: AppError): void {
    this.#error ??= error;
    this.#waiting?.reject(this.#error);
    this.#waiting = undefined;
  }

  #onWritten(cost: number): void {
    this.#pendingBytes -= cost;
    // Half of the buffer has to be free, so that a sender wakes for more than one message.
    if (this.#waiting === undefined || this.#pendingBytes * 2 > this.#bufferBytesMax) return;
    this.#waiting.resolve();
    this.#waiting = undefined;
  }
}

/** Refuses a message above the limit, before it is sent. */
export function checkMessageBytes(bytes: number, bytesMax: number): void {
  if (bytes <= bytesMax) return;
  throw new AppError(
    "LIMIT_EXCEEDED",
    `a message of ${bytes} bytes is larger than the ${bytesMax} bytes allowed: send less at once`,
  );
}

/** Takes messages from a stream. Settles once. */
export class MessageReader<In> {
  readonly #stream: Readable;
  readonly #decode: (bytes: Buffer) => In;
  readonly #isBroken: () => boolean;
  readonly #settled: PromiseWithResolvers<void> = Promise.withResolvers();
  #onMessage: ((message: In) => void) | undefined;
  #isOver = false;

  /** `isBroken`: asked when the stream ends, because a call that was broken off ends its stream as well. */
  constructor(stream: Readable, decode: (bytes: Buffer) => In, isBroken: () => boolean = () => false) {
    this.#stream = stream;
    this.#decode = decode;
    this.#isBroken = isBroken;
    // A call that fails before anybody receives is reported by other ways; here it must not be an unhandled rejection.
    this.#settled.promise.catch(() => undefined);
  }

  /** See Duplex.receive. */
  receive(onMessage: (message: In) => void): Promise<void> {
    invariant(this.#onMessage === undefined, "receive is called once per stream");
    this.#onMessage = onMessage;
    if (!this.#isOver) {
      this.#stream.on("data", (bytes: Buffer) => this.#take(bytes));
      this.#stream.once("end", () => {
        // Broken: `fail` follows with the reason.
        if (!this.#isBroken()) this.#settled.resolve();
      });
    }
    return this.#settled.promise;
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** The call broke; messages still on the way are not delivered. */
  fail(error: AppError): void {
    this.#isOver = true;
    this.#settled.reject(error);
  }

  #take(bytes: Buffer): void {
    if (this.#isOver) return;
    try {
      this.#onMessage?.(decodeMessage(this.#decode, bytes));
    } catch (error) {
      this.fail(AppError.from(error));
    }
  }
}

/** Decodes bytes from a peer; INVALID_REQUEST when they are no such message (bad input 25-28, 33). */
export function decodeMessage<Message>(decode: (bytes: Buffer) => Message, bytes: Buffer): Message {
  try {
    return decode(bytes);
  } catch (error) {
    throw new AppError("INVALID_REQUEST", `${bytes.byteLength} bytes are not the expected message`, {
      cause: error,
    });
  }
}
