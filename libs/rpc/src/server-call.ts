/**
 * One call at the server: principal, `authorize()`, deadline cap, handler, outcome.
 *
 * Invariants: the signal is aborted whenever the caller is gone; every call ends with exactly one status; what a handler
 * throws besides AppError is told to the caller only as an id.
 */
import type { EventEmitter } from "node:events";
import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
} from "@grpc/grpc-js";
import { AppError } from "@millrace/base";
import type { Access } from "@millrace/proto/common";
import { randomId } from "@millrace/runtime";
import type { Counter, Telemetry } from "@millrace/telemetry";
import { streamOfCall } from "./grpc-internals.ts";
import type { ServerLimits } from "./limits.ts";
import { checkMessageBytes, decodeMessage, MessageReader, MessageWriter } from "./message-stream.ts";
import { toStatus } from "./status.ts";
import { internalError } from "./telemetry.ts";
import type {
  Authorize,
  CallContext,
  Duplex,
  DuplexHandler,
  DuplexMethod,
  OutgoingStream,
  Principal,
  ServerStreamHandler,
  ServerStreamMethod,
  UnaryHandler,
  UnaryMethod,
} from "./types.ts";

/** What calls of one listener share. */
export interface CallEnvironment {
  readonly listener: string;
  readonly nodeId: string;
  readonly limits: ServerLimits;
  readonly authorize: Authorize;
  readonly telemetry: Telemetry | undefined;
  readonly outcomes: Counter<"method" | "outcome"> | undefined;
  /** Calls now running. */
  readonly running: Set<RunningCall>;
}

/** A method as it is served: its path, and what `authorize()` is asked. undefined: open to all (health, reflection). */
export interface ServedMethod {
  readonly path: string;
  readonly access: Access | undefined;
}

type AnyServerCall =
  | ServerUnaryCall<Buffer, Buffer>
  | ServerWritableStream<Buffer, Buffer>
  | ServerDuplexStream<Buffer, Buffer>;

/** HTTP/2 error code CANCEL. */
const http2Cancel = 8;

/** A call in progress, and what its handler knows of it. */
export class RunningCall implements CallContext {
  readonly listener: string;
  readonly peer: string;
  readonly principal: Principal;
  readonly #method: ServedMethod;
  readonly #environment: CallEnvironment;
  readonly #call: AnyServerCall;
  readonly #onFailure: (error: AppError) => void;
  #controller: AbortController | undefined;
  #gone: AppError | undefined;
  #isDone = false;

  constructor(
    method: ServedMethod,
    environment: CallEnvironment,
    call: AnyServerCall,
    onFailure: (error: AppError) => void,
  ) {
    this.listener = environment.listener;
    this.peer = call.getPeer();
    this.principal = principalOf(call);
    this.#method = method;
    this.#environment = environment;
    this.#call = call;
    this.#onFailure = onFailure;
    environment.running.add(this);
    (call as EventEmitter).on("cancelled", () => {
      this.#leave(
        new AppError("CANCELLED", "the caller cancelled, its deadline passed or its connection broke"),
      );
    });
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#gone !== undefined && !this.#controller.signal.aborted) this.#controller.abort(this.#gone);
    return this.#controller.signal;
  }

  /** Ends the call with an error from outside its handler (deadline, server stops). */
  break(error: AppError): void {
    if (this.#isDone || this.#gone !== undefined) return;
    this.#onFailure(error);
    this.#leave(error);
  }

  /** Asks `authorize()`. */
  async authorize(): Promise<void> {
    const { access, path } = this.#method;
    if (access === undefined) return;
    const { resource, operation } = access;
    await this.#environment.authorize({ principal: this.principal, resource, operation, method: path });
  }

  /** The call is over; returns the error to send, or undefined when there is nothing (more) to send. */
  finish(thrown?: unknown): AppError | undefined {
    if (this.#isDone) return undefined;
    this.#isDone = true;
    const { running, outcomes } = this.#environment;
    running.delete(this);
    const error = this.#gone ?? (thrown === undefined ? undefined : this.#expected(thrown));
    outcomes?.inc({ method: this.#method.path.slice(1), outcome: error?.reason ?? "OK" });
    return error;
  }

  /** Closes the HTTP/2 stream if its peer does not take the last messages in time (bad input 38). */
  closeUnlessFlushed(): void {
    const stream = streamOfCall(this.#call);
    if (stream.closed) return;
    const timer = setTimeout(() => stream.close(http2Cancel), this.#environment.limits.flushMsMax);
    timer.unref();
    stream.once("close", () => clearTimeout(timer));
  }

  #leave(error: AppError): void {
    if (this.#isDone || this.#gone !== undefined) return;
    this.#gone = error;
    this.#controller?.abort(error);
    this.#onFailure(error);
  }

  /** What the caller is told: an AppError as it is, anything else as INTERNAL with an id whose details are logged. */
  #expected(thrown: unknown): AppError {
    if (thrown instanceof AppError && thrown.reason !== "INTERNAL") return thrown;
    const errorId = randomId();
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    this.#environment.telemetry?.emit(internalError, { errorId, method: this.#method.path.slice(1), error });
    return new AppError(
      "INTERNAL",
      `an unexpected failure on node ${this.#environment.nodeId}: its log has the details under ${errorId}`,
      { metadata: { errorId }, cause: thrown },
    );
  }
}

function principalOf(call: AnyServerCall): Principal {
  const certificate = call.getAuthContext().sslPeerCertificate;
  const name = certificate?.subject.CN;
  return name === undefined ? anonymous : { name: String(name), kind: "tls" };
}

const anonymous: Principal = { name: "anonymous", kind: "anonymous" };

/** Serves a unary method. */
export function serveUnary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  served: ServedMethod,
  handler: UnaryHandler<Request, Response>,
  environment: CallEnvironment,
): handleUnaryCall<Buffer, Buffer> {
  const { limits } = environment;
  return (call, callback) => {
    let answered = false;
    const answer = (error: AppError | undefined, bytes?: Buffer): void => {
      if (answered) return;
      answered = true;
      if (error === undefined) callback(null, bytes);
      else callback(toStatus(error));
    };
    const running = new RunningCall(served, environment, call, answer);
    const timer = setTimeout(() => {
      running.break(
        new AppError(
          "TIMED_OUT",
          `${served.path.slice(1)} took longer than ${limits.unaryMsMax} ms on this node`,
        ),
      );
    }, limits.unaryMsMax);
    const work = async (): Promise<Buffer> => {
      await running.authorize();
      const request = decodeMessage(method.requestDeserialize, call.request);
      const bytes = method.responseSerialize(await handler(request, running));
      checkMessageBytes(bytes.byteLength, limits.messageBytesMax);
      return bytes;
    };
    work()
      .then(
        (bytes) => answer(running.finish(), bytes),
        (error: unknown) => answer(running.finish(error)),
      )
      .finally(() => {
        clearTimeout(timer);
        running.closeUnlessFlushed();
      });
  };
}

/** Serves a method with a response stream. */
export function serveServerStream<Request, Response>(
  method: ServerStreamMethod<Request, Response>,
  served: ServedMethod,
  handler: ServerStreamHandler<Request, Response>,
  environment: CallEnvironment,
): handleServerStreamingCall<Buffer, Buffer> {
  return (call) => {
    const writer = new MessageWriter<Response>(call, method.responseSerialize, environment.limits);
    const ending = endOnce(call);
    const running = new RunningCall(served, environment, call, (error) => {
      writer.fail(error);
      ending(error);
    });
    const stream: OutgoingStream<Response> = {
      write: (message) => writer.write(message),
      whenWritable: () => writer.whenWritable(),
    };
    const work = async (): Promise<void> => {
      await running.authorize();
      await handler(decodeMessage(method.requestDeserialize, call.request), stream, running);
    };
    work()
      .then(
        () => ending(running.finish()),
        (error: unknown) => ending(running.finish(error)),
      )
      .finally(() => running.closeUnlessFlushed());
  };
}

/** Serves a bidirectional method. */
export function serveDuplex<Request, Response>(
  method: DuplexMethod<Request, Response>,
  served: ServedMethod,
  handler: DuplexHandler<Request, Response>,
  environment: CallEnvironment,
): handleBidiStreamingCall<Buffer, Buffer> {
  const { limits } = environment;
  return (call) => {
    const writer = new MessageWriter<Response>(call, method.responseSerialize, limits);
    const http2 = streamOfCall(call);
    const reader = new MessageReader<Request>(
      call,
      method.requestDeserialize,
      () => http2.aborted || http2.rstCode !== 0,
    );
    const ending = endOnce(call);
    const running = new RunningCall(served, environment, call, (error) => {
      writer.fail(error);
      reader.fail(error);
      ending(error);
    });
    const timer = setTimeout(() => {
      running.break(
        new AppError(
          "TIMED_OUT",
          `no message came within ${limits.firstMessageMsMax} ms of opening the stream`,
        ),
      );
    }, limits.firstMessageMsMax);
    const stream: Duplex<Response, Request> = {
      write: (message) => writer.write(message),
      whenWritable: () => writer.whenWritable(),
      receive: (onMessage) => {
        // Before the handler's own listener: the first message ends the wait.
        call.once("data", () => clearTimeout(timer));
        call.once("end", () => clearTimeout(timer));
        return reader.receive(onMessage);
      },
      pause: () => reader.pause(),
      resume: () => reader.resume(),
    };
    const work = async (): Promise<void> => {
      await running.authorize();
      await handler(stream, running);
    };
    work()
      .then(
        () => ending(running.finish()),
        (error: unknown) => ending(running.finish(error)),
      )
      .finally(() => {
        clearTimeout(timer);
        running.closeUnlessFlushed();
      });
  };
}

/** Ends a stream once, with OK or an error; messages queued before leave first. */
function endOnce(
  call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
): (error: AppError | undefined) => void {
  let hasEnded = false;
  return (error) => {
    if (hasEnded) return;
    hasEnded = true;
    // grpc-js takes the status from an `error` event and ends the stream itself.
    if (error === undefined) call.end();
    else call.emit("error", toStatus(error));
  };
}
