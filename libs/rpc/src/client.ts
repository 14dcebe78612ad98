/**
 * A connection to one address: connects on first use and again, with growing pauses, after failures. Calls fail at once
 * with UNAVAILABLE while nobody answers; when and whether to repeat is the caller's decision, so grpc-js's own
 * retries are off.
 */
import { readFileSync } from "node:fs";
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { AppError, grpcCode } from "@millrace/base";
import { formatHostPort, parseHostPort } from "@millrace/config";
import { type ConnectionLimits, defaultConnectionLimits } from "./limits.ts";
import { checkMessageBytes, decodeMessage, MessageReader, MessageWriter } from "./message-stream.ts";
import { fromStatus } from "./status.ts";
import type {
  ClientDuplex,
  DuplexMethod,
  RpcConnection,
  ServerStreamMethod,
  TlsClientOptions,
  UnaryMethod,
} from "./types.ts";

/** What {@link connect} takes. */
export interface ConnectOptions {
  readonly tls?: TlsClientOptions;
  readonly limits?: Partial<ConnectionLimits>;
}

/** Makes a connection to `address` (`host:port`). Throws INVALID_CONFIG for what is no address or no TLS file. */
export function connect(address: string, options: ConnectOptions = {}): RpcConnection {
  return new KitConnection(address, options);
}

const pass = (bytes: Buffer): Buffer => bytes;

/** A call that `close` has to end. */
interface OpenCall {
  readonly cancel: () => void;
}

/** What became of one attempt. */
type UnaryOutcome =
  | { readonly error?: undefined; readonly answer: Buffer | undefined }
  | { readonly error: ServiceError; readonly isCancelledHere: boolean };

/** What grpc-js says of a stream that was refused with REFUSED_STREAM. */
const streamRefused = "Stream refused by server";
/** Times a refused unary call is sent again. */
const refusalsMax = 2;

class KitConnection implements RpcConnection {
  readonly address: string;
  readonly #client: Client;
  readonly #limits: ConnectionLimits;
  readonly #open = new Set<OpenCall>();
  #isClosed = false;

  constructor(address: string, options: ConnectOptions) {
    const parsed = parseHostPort(address);
    if (parsed === undefined)
      throw new AppError("INVALID_CONFIG", `"${address}" is not an address: use host:port`);
    this.address = formatHostPort(parsed);
    this.#limits = { ...defaultConnectionLimits, ...options.limits };
    this.#client = new Client(this.address, credentialsOf(options.tls), channelOptions(this.#limits));
  }

  async unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: { readonly deadlineMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Response> {
    const where = this.#describe(method.path);
    const bytes = method.requestSerialize(request);
    checkMessageBytes(bytes.byteLength, this.#limits.messageBytesMax);
    const deadline = Date.now() + (options.deadlineMs ?? this.#limits.deadlineMs);
    for (let refusals = 0; ; refusals++) {
      const refusal = this.#refusal(where, options.signal);
      if (refusal !== undefined) throw refusal;
      const outcome = await this.#send(method.path, bytes, deadline, options.signal);
      if (outcome.error === undefined) return decodeAnswer(method.responseDeserialize, outcome.answer, where);
      // A refused stream has not reached the server's code: its connection was just closed for age. Another is made.
      if (outcome.error.details !== streamRefused || refusals >= refusalsMax) {
        throw errorOf(outcome.error, where, outcome.isCancelledHere);
      }
    }
  }

  /** One unary attempt. */
  #send(
    path: string,
    bytes: Buffer,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<UnaryOutcome> {
    return new Promise((resolve) => {
      let isCancelledHere = false;
      const handle: OpenCall = {
        cancel: () => {
          isCancelledHere = true;
          call.cancel();
        },
      };
      const finish = (error: ServiceError | null, answer?: Buffer): void => {
        this.#open.delete(handle);
        signal?.removeEventListener("abort", handle.cancel);
        resolve(error === null ? { answer } : { error, isCancelledHere });
      };
      const call = this.#client.makeUnaryRequest(
        path,
        pass,
        pass,
        bytes,
        new Metadata(),
        { deadline },
        finish,
      );
      this.#open.add(handle);
      signal?.addEventListener("abort", handle.cancel, { once: true });
    });
  }

  async *serverStream<Request, Response>(
    method: ServerStreamMethod<Request, Response>,
    request: Request,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<Response> {
    const where = this.#describe(method.path);
    const refusal = this.#refusal(where, options.signal);
    if (refusal !== undefined) throw refusal;
    const bytes = method.requestSerialize(request);
    checkMessageBytes(bytes.byteLength, this.#limits.messageBytesMax);
    const call = this.#client.makeServerStreamRequest(method.path, pass, pass, bytes, new Metadata());
    // Its iterator hears errors only while it is being read.
    call.on("error", () => undefined);
    let isCancelledHere = false;
    const handle: OpenCall = {
      cancel: () => {
        isCancelledHere = true;
        call.cancel();
      },
    };
    this.#open.add(handle);
    options.signal?.addEventListener("abort", handle.cancel, { once: true });
    try {
      for await (const message of call) {
        yield decodeAnswer(method.responseDeserialize, message as Buffer, where);
      }
    } catch (error) {
      if (error instanceof AppError) throw error;
      throw errorOf(error as ServiceError, where, isCancelledHere);
    } finally {
      this.#open.delete(handle);
      options.signal?.removeEventListener("abort", handle.cancel);
      // Also when the reader breaks off: nothing else would tell the server.
      call.cancel();
    }
  }

  duplex<Request, Response>(
    method: DuplexMethod<Request, Response>,
    options: { readonly signal?: AbortSignal } = {},
  ): ClientDuplex<Request, Response> {
    const where = this.#describe(method.path);
    const refusal = this.#refusal(where, options.signal);
    if (refusal !== undefined) throw refusal;
    const call = this.#client.makeBidiStreamRequest(method.path, pass, pass, new Metadata());
    const stream = new DuplexCall(call, method, this.#limits, where, () => {
      this.#open.delete(stream);
      options.signal?.removeEventListener("abort", cancel);
    });
    const cancel = (): void => stream.cancel();
    this.#open.add(stream);
    options.signal?.addEventListener("abort", cancel, { once: true });
    return stream;
  }

  close(): void {
    this.#isClosed = true;
    for (const call of this.#open) call.cancel();
    this.#client.close();
  }

  #describe(path: string): string {
    return `${path.split("/")[2] ?? path} at ${this.address}`;
  }

  #refusal(where: string, signal: AbortSignal | undefined): AppError | undefined {
    if (this.#isClosed) return new AppError("CANCELLED", `${where}: the connection was closed on this side`);
    if (signal?.aborted === true) return new AppError("CANCELLED", `${where}: cancelled before it was sent`);
    return undefined;
  }
}

/** A client's bidirectional call. */
class DuplexCall<Out, In> implements ClientDuplex<Out, In> {
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #writer: MessageWriter<Out>;
  readonly #reader: MessageReader<In>;
  readonly #where: string;
  readonly #onOver: () => void;
  #isOver = false;

  constructor(
    call: ClientDuplexStream<Buffer, Buffer>,
    method: DuplexMethod<Out, In>,
    limits: ConnectionLimits,
    where: string,
    onOver: () => void,
  ) {
    this.#call = call;
    this.#writer = new MessageWriter(call, method.requestSerialize, limits);
    this.#reader = new MessageReader(call, (bytes) => decodeAnswer(method.responseDeserialize, bytes, where));
    this.#where = where;
    this.#onOver = onOver;
    // Until the first read grpc-js takes in whatever comes: a stream paused from the start would have no end to it.
    call.read(0);
    call.on("error", (error: ServiceError) => this.#over(errorOf(error, where, false)));
    // With OK: the messages that came before it are still delivered, then `receive` resolves.
    call.on("status", () =>
      this.#over(new AppError("UNAVAILABLE", `${where}: the server ended the stream`), false),
    );
  }

  write(message: Out): boolean {
    return this.#writer.write(message);
  }

  whenWritable(): Promise<void> {
    return this.#writer.whenWritable();
  }

  receive(onMessage: (message: In) => void): Promise<void> {
    const received = this.#reader.receive((message) => {
      try {
        onMessage(message);
      } catch (error) {
        this.#call.cancel();
        throw error;
      }
    });
    return received;
  }

  pause(): void {
    this.#reader.pause();
  }

  resume(): void {
    this.#reader.resume();
  }

  end(): void {
    if (!this.#isOver) this.#call.end();
  }

  cancel(): void {
    if (this.#isOver) return;
    this.#over(new AppError("CANCELLED", `${this.#where}: the call was cancelled`));
    this.#call.cancel();
  }

  #over(error: AppError, isFailure = true): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#writer.fail(error);
    if (isFailure) this.#reader.fail(error);
    this.#onOver();
  }
}

function errorOf(error: ServiceError, where: string, isCancelledHere: boolean): AppError {
  const mapped = fromStatus(error, where);
  // CANCELLED that nobody here asked for is how a reset stream looks: the server or the connection went away.
  const code: number = error.code;
  if (code === grpcCode.CANCELLED && mapped.reason === "CANCELLED" && !isCancelledHere) {
    return new AppError("UNAVAILABLE", `${where}: the connection or the server went away`);
  }
  return mapped;
}

function decodeAnswer<Message>(
  decode: (bytes: Buffer) => Message,
  bytes: Buffer | undefined,
  where: string,
): Message {
  try {
    return decodeMessage(decode, bytes ?? Buffer.alloc(0));
  } catch (error) {
    throw new AppError("INTERNAL", `${where}: the answer cannot be understood`, { cause: error });
  }
}

function credentialsOf(tls: TlsClientOptions | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const read = (path: string | undefined): Buffer | null => (path === undefined ? null : readFileSync(path));
  try {
    return credentials.createSsl(read(tls.authorityFile), read(tls.keyFile), read(tls.certificateFile));
  } catch (error) {
    throw new AppError(
      "INVALID_CONFIG",
      `the TLS files of this client cannot be used: ${AppError.from(error).message}`,
      {
        cause: error,
      },
    );
  }
}

function channelOptions(limits: ConnectionLimits): Record<string, number> {
  return {
    "grpc.max_receive_message_length": limits.messageBytesMax,
    "grpc.max_send_message_length": -1,
    "grpc-node.flow_control_window": limits.windowBytes,
    "grpc.keepalive_time_ms": limits.keepaliveTimeMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
    "grpc.initial_reconnect_backoff_ms": limits.reconnectMsMin,
    "grpc.max_reconnect_backoff_ms": limits.reconnectMsMax,
    // Each connection is one TCP connection of its own: what shares it is decided above.
    "grpc.use_local_subchannel_pool": 1,
    // Retries would keep copies of what is sent and hide what became of it.
    "grpc.enable_retries": 0,
    "grpc.service_config_disable_resolution": 1,
    // http_proxy is for the web: between nodes it would silently reroute the data path.
    "grpc.enable_http_proxy": 0,
    "grpc.enable_channelz": 0,
  };
}
