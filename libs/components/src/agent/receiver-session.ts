/** One open transfer to one receiver: handshake, sends, answers. It ends once, with the reason. */
import { AppError, RangeSet } from "@millrace/base";
import { batchBytesMax } from "@millrace/flow";
import {
  Durability,
  IngestServiceService,
  type TransferOpen,
  type TransferOpened,
  type TransferRequest,
  type TransferResponse,
  type TransferResult,
} from "@millrace/proto/ingest";
import {
  type ClientDuplex,
  checkHandshakeReply,
  connect,
  type RpcConnection,
  type TlsClientOptions,
} from "@millrace/rpc";
import type { Clock } from "@millrace/runtime";

/** Largest message sent: the largest batch of a channel and the fields around it. */
const messageBytesMax = batchBytesMax + 4096;

/** What a session needs. */
export interface SessionOptions {
  readonly address: string;
  readonly tls: TlsClientOptions | undefined;
  readonly open: TransferOpen;
  readonly handshakeTimeoutMs: number;
  readonly clock: Clock;
  /** Ends the attempt to open it. */
  readonly signal: AbortSignal;
  readonly onResult: (result: TransferResult) => void;
  /** The open session ended without `close`; never called for one that did not open. */
  readonly onEnd: (error: AppError) => void;
}

/** An open session. */
export class ReceiverSession {
  readonly #connection: RpcConnection;
  readonly #stream: ClientDuplex<TransferRequest, TransferResponse>;
  /** Directory id of the receiver. */
  readonly directoryId: string;
  /** Sequences it held when the session opened. */
  readonly held: RangeSet;
  /** Bytes it takes unanswered. */
  readonly creditBytes: number;
  #isClosed = false;

  private constructor(
    connection: RpcConnection,
    stream: ClientDuplex<TransferRequest, TransferResponse>,
    opened: TransferOpened,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.directoryId = opened.directoryId;
    this.held = new RangeSet(opened.held);
    this.creditBytes = opened.handshake?.creditBytes ?? 0;
  }

  /** Connects and shakes hands. Throws what the receiver refused with, or UNAVAILABLE. */
  static async open(options: SessionOptions): Promise<ReceiverSession> {
    const { address, tls, clock, handshakeTimeoutMs, signal } = options;
    const limits = { messageBytesMax };
    const connection = connect(address, tls === undefined ? { limits } : { limits, tls });
    const stream = connection.duplex<TransferRequest, TransferResponse>(IngestServiceService.transfer);
    const opened = Promise.withResolvers<TransferOpened>();
    const ended = stream.receive(({ message }) => {
      if (message?.$case === "opened") opened.resolve(message.value);
      else if (message?.$case === "result") options.onResult(message.value);
    });
    const giveUp = (error: AppError): void => {
      opened.reject(error);
      stream.cancel();
    };
    ended.then(
      () => giveUp(new AppError("UNAVAILABLE", `${address} ended the transfer`)),
      (error: unknown) => giveUp(AppError.from(error)),
    );
    const stop = (): void => giveUp(new AppError("CANCELLED", "the sink was closed"));
    signal.addEventListener("abort", stop, { once: true });
    const timer = clock.after(handshakeTimeoutMs, () =>
      giveUp(
        new AppError("UNAVAILABLE", `${address} did not answer the handshake in ${handshakeTimeoutMs} ms`),
      ),
    );
    try {
      stream.write({ message: { $case: "open", value: options.open } });
      const session = new ReceiverSession(
        connection,
        stream,
        checkOpened(await opened.promise, options.open, address),
      );
      ended.then(
        () => session.#end(new AppError("UNAVAILABLE", `${address} ended the transfer`), options.onEnd),
        (error: unknown) => session.#end(AppError.from(error), options.onEnd),
      );
      return session;
    } catch (error) {
      stream.cancel();
      connection.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", stop);
      timer.cancel();
    }
  }

  send(request: TransferRequest): void {
    this.#stream.write(request);
  }

  close(): void {
    this.#isClosed = true;
    this.#stream.cancel();
    this.#connection.close();
  }

  #end(error: AppError, onEnd: (error: AppError) => void): void {
    this.#connection.close();
    if (!this.#isClosed) onEnd(error);
  }
}

/** Refuses an answer that breaks the contract: better no hand-over than one to somebody who cannot keep it. */
function checkOpened(opened: TransferOpened, open: TransferOpen, address: string): TransferOpened {
  checkHandshakeReply(opened.handshake, "");
  if (opened.directoryId === "") throw new AppError("HOP_REFUSED", `${address} did not say who it is`);
  if (opened.durability !== Durability.FSYNC && !open.allowVolatile) {
    throw new AppError(
      "HOP_REFUSED",
      `${address} does not keep records durably: allow it with allowVolatile`,
    );
  }
  return opened;
}
