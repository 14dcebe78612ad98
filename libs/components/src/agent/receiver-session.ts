/** One open transfer to one receiver: handshake, sends, answers. It ends once, with the reason. */
import { AppError, RangeSet } from "@millrace/base";
import {
  IngestServiceService,
  type TransferOpen,
  type TransferOpened,
  type TransferRequest,
  type TransferResponse,
  type TransferResult,
} from "@millrace/proto/ingest";
import { type ClientDuplex, connect, type RpcConnection, type TlsClientOptions } from "@millrace/rpc";
import type { Clock } from "@millrace/runtime";

/** What a session needs. */
export interface SessionOptions {
  readonly address: string;
  readonly tls: TlsClientOptions | undefined;
  readonly open: TransferOpen;
  readonly handshakeTimeoutMs: number;
  readonly clock: Clock;
  readonly onResult: (result: TransferResult) => void;
  /** The open session ended; never called for one that did not open. */
  readonly onEnd: (session: ReceiverSession, error: AppError) => void;
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
    const { address, tls, clock, handshakeTimeoutMs } = options;
    const connection = connect(address, tls === undefined ? {} : { tls });
    const stream = connection.duplex<TransferRequest, TransferResponse>(IngestServiceService.transfer);
    const opened = Promise.withResolvers<TransferOpened>();
    let session: ReceiverSession | undefined;
    const onEnd = (error: AppError): void => {
      opened.reject(error);
      connection.close();
      if (session !== undefined) options.onEnd(session, error);
    };
    stream
      .receive(({ message }) => {
        if (message?.$case === "opened") opened.resolve(message.value);
        else if (message?.$case === "result") options.onResult(message.value);
      })
      .then(
        () => onEnd(new AppError("UNAVAILABLE", `${address} ended the transfer`)),
        (error: unknown) => onEnd(AppError.from(error)),
      );
    const timer = clock.after(handshakeTimeoutMs, () => {
      opened.reject(
        new AppError("UNAVAILABLE", `${address} did not answer the handshake in ${handshakeTimeoutMs} ms`),
      );
      stream.cancel();
    });
    stream.write({ message: { $case: "open", value: options.open } });
    try {
      session = new ReceiverSession(connection, stream, await opened.promise);
      return session;
    } finally {
      timer.cancel();
    }
  }

  send(request: TransferRequest): void {
    this.#stream.write(request);
  }

  close(): void {
    this.#stream.cancel();
    this.#connection.close();
  }
}
