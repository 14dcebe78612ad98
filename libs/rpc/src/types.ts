/**
 * The gRPC kit as services and clients see it. Handlers are async functions; callbacks, metadata, deadlines,
 * error details and HTTP/2 windows stay inside this library.
 *
 * A call's way: listener -> principal -> `authorize()` by the RPC's `access` option -> deadline cap -> handler.
 * Errors: a thrown AppError travels as google.rpc.Status with one ErrorInfo {reason, domain "millrace", metadata};
 * anything else becomes INTERNAL with an id whose details are in the log only.
 */
import type { Operation, Resource } from "@millrace/proto/common";

/** Who calls. Anonymous until authentication is configured. */
export interface Principal {
  readonly name: string;
  /** How it was proven: `anonymous`, `tls`, `internal` (same process). */
  readonly kind: "anonymous" | "tls" | "internal";
}

/** What a handler knows of its call. */
export interface CallContext {
  readonly principal: Principal;
  readonly listener: string;
  readonly peer: string;
  /** Aborted when the caller cancels, its deadline passes or the connection breaks. */
  readonly signal: AbortSignal;
}

/** Asked before every handler. Throws ACCESS_DENIED; the default allows everything. */
export type Authorize = (request: {
  readonly principal: Principal;
  readonly resource: Resource;
  readonly operation: Operation;
  readonly method: string;
}) => void | Promise<void>;

/** A named address to bind. */
export interface ListenerOptions {
  /** `client` or `internal`. */
  readonly name: string;
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** What peers are told; the bound address otherwise. */
  readonly advertisedHost?: string;
  readonly advertisedPort?: number;
  readonly tls?: TlsServerOptions;
  /** The flag that sets the port, named when it is in use; `--port` when absent. */
  readonly portFlag?: string;
}

/** PEM files of a TLS server. */
export interface TlsServerOptions {
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Present: clients must show a certificate of this authority. */
  readonly clientAuthorityFile?: string;
}

/** PEM files of a TLS client. */
export interface TlsClientOptions {
  readonly authorityFile?: string;
  readonly certificateFile?: string;
  readonly keyFile?: string;
}

/** A bound listener. */
export interface BoundListener {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly advertisedHost: string;
  readonly advertisedPort: number;
  readonly tls: boolean;
}

/** A unary handler. */
export type UnaryHandler<Request, Response> = (request: Request, context: CallContext) => Promise<Response>;

/** A handler of a call with a response stream: it may send until it returns; a throw ends the call with that error. */
export type ServerStreamHandler<Request, Response> = (
  request: Request,
  stream: OutgoingStream<Response>,
  context: CallContext,
) => Promise<void>;

/** A handler of a bidirectional stream. `messages` ends when the caller half-closes and throws when the call breaks. */
export type DuplexHandler<Request, Response> = (
  stream: Duplex<Response, Request>,
  context: CallContext,
) => Promise<void>;

/** The sending side of a stream. */
export interface OutgoingStream<Out> {
  /** Queues a message. False: the transport's buffer is full; wait for `whenWritable` before the next. */
  write(message: Out): boolean;
  /** Resolves when the transport takes more. Rejects when the call is over. */
  whenWritable(): Promise<void>;
}

/** Both sides of a bidirectional stream. */
export interface Duplex<Out, In> extends OutgoingStream<Out> {
  /**
   * Calls `onMessage` for each incoming message, synchronously, in order. The promise settles when the other side
   * ended (resolves) or the call broke (rejects with AppError). One call per stream. A caller in Node that cancels
   * ends its side first: at the server that may resolve here, and a handler that goes on sees its signal aborted.
   */
  receive(onMessage: (message: In) => void): Promise<void>;
  /** Stops reading from the transport (back-pressure) until `resume`. */
  pause(): void;
  resume(): void;
}

/** A client's duplex stream. */
export interface ClientDuplex<Out, In> extends Duplex<Out, In> {
  /** No more messages from this side. */
  end(): void;
  /** Breaks the call at once. */
  cancel(): void;
}

/** A service implementation: one handler per method of the generated service definition. */
export type ServiceHandlers<Definition> = {
  readonly [Method in keyof Definition]: HandlerOf<Definition[Method]>;
};

/** The handler type for a generated method definition. */
export type HandlerOf<Method> = Method extends {
  readonly requestStream: infer In;
  readonly responseStream: infer Out;
  readonly requestDeserialize: (bytes: Buffer) => infer Request;
  readonly responseDeserialize: (bytes: Buffer) => infer Response;
}
  ? In extends true
    ? DuplexHandler<Request, Response>
    : Out extends true
      ? ServerStreamHandler<Request, Response>
      : UnaryHandler<Request, Response>
  : never;

/** A running server with its listeners. */
export interface RpcServer {
  /** Adds a generated service (`StorageServiceService`, handlers). Before `start`. */
  addService<Definition extends object>(definition: Definition, handlers: ServiceHandlers<Definition>): void;
  /** Binds all listeners. A port in use is an ALREADY_LOCKED error that names the owner and the flag. */
  start(): Promise<readonly BoundListener[]>;
  readonly listeners: readonly BoundListener[];
  /** gRPC health: serving or not, for all services. */
  setServing(isServing: boolean): void;
  /** Refuses new calls, lets calls in flight end until the deadline, then breaks them. */
  stop(graceMs: number): Promise<void>;
}

/** A connection to one address; connects on first use and again after failures. */
export interface RpcConnection {
  readonly address: string;
  unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options?: { readonly deadlineMs?: number; readonly signal?: AbortSignal },
  ): Promise<Response>;
  serverStream<Request, Response>(
    method: ServerStreamMethod<Request, Response>,
    request: Request,
    options?: { readonly signal?: AbortSignal },
  ): AsyncIterable<Response>;
  duplex<Request, Response>(
    method: DuplexMethod<Request, Response>,
    options?: { readonly signal?: AbortSignal },
  ): ClientDuplex<Request, Response>;
  close(): void;
}

interface MethodCodec<Request, Response> {
  readonly path: string;
  readonly requestSerialize: (value: Request) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Request;
  readonly responseSerialize: (value: Response) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

/** A generated unary method (`MetadataServiceService.createTopic`). */
export interface UnaryMethod<Request, Response> extends MethodCodec<Request, Response> {
  readonly requestStream: false;
  readonly responseStream: false;
}

/** A generated server-streaming method. */
export interface ServerStreamMethod<Request, Response> extends MethodCodec<Request, Response> {
  readonly requestStream: false;
  readonly responseStream: true;
}

/** A generated bidirectional method. */
export interface DuplexMethod<Request, Response> extends MethodCodec<Request, Response> {
  readonly requestStream: true;
  readonly responseStream: true;
}
