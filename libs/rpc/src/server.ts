/**
 * The server of every service: listeners, services with their access rules, health, reflection, ordered stop.
 *
 * A call's way is told in types.ts. One grpc-js server per listener, so that a call knows where it came in.
 */
import type { handleUnaryCall, UntypedServiceImplementation } from "@grpc/grpc-js";
import { AppError, invariant } from "@millrace/base";
import { Operation, Resource } from "@millrace/proto/common";
import type { Telemetry } from "@millrace/telemetry";
import { loadDescriptors } from "./descriptors.ts";
import { streamOfCall } from "./grpc-internals.ts";
import type { ServerIdentity } from "./handshake.ts";
import { Health, healthCheck, healthWatch } from "./health.ts";
import { defaultServerLimits, type ServerLimits } from "./limits.ts";
import { isLoopback, Listener } from "./listener.ts";
import { reflectionHandler, reflectionMethod } from "./reflection.ts";
import {
  type CallEnvironment,
  type RunningCall,
  type ServedMethod,
  serveDuplex,
  serveServerStream,
  serveUnary,
} from "./server-call.ts";
import { callsInFlight, callsTotal, connectionsOpen } from "./telemetry.ts";
import type {
  Authorize,
  BoundListener,
  DuplexHandler,
  DuplexMethod,
  ListenerOptions,
  RpcServer,
  ServerStreamHandler,
  ServerStreamMethod,
  ServiceHandlers,
  UnaryHandler,
  UnaryMethod,
} from "./types.ts";

/** What {@link createRpcServer} takes. */
export interface RpcServerOptions {
  readonly listeners: readonly ListenerOptions[];
  readonly identity: ServerIdentity;
  readonly telemetry?: Telemetry;
  readonly authorize?: Authorize;
  readonly limits?: Partial<ServerLimits>;
  /** Allows a listener beyond loopback without TLS (`--insecure`). */
  readonly allowInsecure?: boolean;
  /** Answers reflection questions; on unless false. */
  readonly reflection?: boolean;
}

/** Milliseconds broken calls have, when the server stops, to tell their callers. */
const farewellMs = 500;

/** Makes a server. Nothing is bound before `start`. */
export function createRpcServer(options: RpcServerOptions): RpcServer {
  return new KitServer(options);
}

type AnyMethod =
  | UnaryMethod<unknown, unknown>
  | ServerStreamMethod<unknown, unknown>
  | DuplexMethod<unknown, unknown>;

interface Registration {
  readonly method: AnyMethod;
  readonly served: ServedMethod;
  /** Of the kind the method says. */
  readonly handler: unknown;
}

class KitServer implements RpcServer {
  readonly #options: RpcServerOptions;
  readonly #limits: ServerLimits;
  readonly #health = new Health();
  readonly #services = new Set<string>();
  readonly #registrations: Registration[] = [];
  readonly #running = new Map<string, Set<RunningCall>>();
  readonly #stopObserving: (() => void)[] = [];
  #bound: { readonly listener: Listener; readonly address: BoundListener }[] = [];
  #stopping: Promise<void> | undefined;

  constructor(options: RpcServerOptions) {
    this.#options = options;
    this.#limits = { ...defaultServerLimits, ...options.limits };
    this.#register(healthCheck, this.#health.check, undefined);
    this.#register(healthWatch, this.#health.watch, undefined);
    if (options.reflection !== false) {
      const handler = reflectionHandler(loadDescriptors(), () => [...this.#services]);
      for (const version of ["v1", "v1alpha"] as const)
        this.#register(reflectionMethod(version), handler, undefined);
    }
  }

  get listeners(): readonly BoundListener[] {
    return this.#bound.map((one) => one.address);
  }

  addService<Definition extends object>(definition: Definition, handlers: ServiceHandlers<Definition>): void {
    invariant(this.#bound.length === 0, "services are added before the server starts");
    const { access } = loadDescriptors();
    for (const [name, method] of Object.entries(definition) as [string, AnyMethod][]) {
      const rule = access.get(method.path);
      invariant(
        rule !== undefined &&
          rule.resource !== Resource.UNSPECIFIED &&
          rule.operation !== Operation.UNSPECIFIED,
        `${method.path} declares its access: option (millrace.common.v1.access) in its .proto file`,
      );
      this.#register(method, (handlers as Readonly<Record<string, unknown>>)[name], rule);
      this.#services.add(serviceOf(method.path));
      this.#health.add(serviceOf(method.path));
    }
  }

  async start(): Promise<readonly BoundListener[]> {
    for (const listener of this.#options.listeners) this.#checkExposure(listener);
    try {
      for (const options of this.#options.listeners) {
        const listener = new Listener(options, this.#limits, this.#options.telemetry);
        this.#serve(listener);
        this.#bound.push({ listener, address: await listener.bind() });
      }
    } catch (error) {
      for (const { listener } of this.#bound) listener.destroy();
      this.#bound = [];
      throw error;
    }
    this.#observe();
    this.#health.setServing(true);
    return this.listeners;
  }

  setServing(isServing: boolean): void {
    this.#health.setServing(isServing);
  }

  stop(graceMs: number): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    this.#health.setServing(false);
    for (const remove of this.#stopObserving) remove();
    const closed = Promise.all(this.#bound.map(({ listener }) => listener.shutDown()));
    if (!(await endsWithin(closed, graceMs))) {
      const error = new AppError("NODE_STARTING", `node ${this.#options.identity.nodeId} is stopping`);
      for (const running of this.#running.values()) for (const call of running) call.break(error);
      await endsWithin(closed, farewellMs);
    }
    for (const { listener } of this.#bound) listener.destroy();
  }

  #register(method: { readonly path: string }, handler: unknown, access: ServedMethod["access"]): void {
    invariant(typeof handler === "function", `${method.path} has a handler`);
    this.#registrations.push({ method: method as AnyMethod, handler, served: { path: method.path, access } });
  }

  #checkExposure(listener: ListenerOptions): void {
    if (listener.tls !== undefined || isLoopback(listener.host) || this.#options.allowInsecure === true)
      return;
    throw new AppError(
      "INVALID_CONFIG",
      `listener ${listener.name} on ${listener.host} could be reached from other machines without TLS: give it a ` +
        "certificate, bind it to 127.0.0.1, or allow it with --insecure",
    );
  }

  #serve(listener: Listener): void {
    const running = new Set<RunningCall>();
    this.#running.set(listener.name, running);
    const { telemetry } = this.#options;
    const environment: CallEnvironment = {
      listener: listener.name,
      nodeId: this.#options.identity.nodeId,
      limits: this.#limits,
      authorize: this.#options.authorize ?? (() => undefined),
      telemetry,
      outcomes: telemetry?.metrics.counter(callsTotal),
      running,
    };
    const byService = Map.groupBy(this.#registrations, ({ method }) => serviceOf(method.path));
    for (const registrations of byService.values()) {
      const definition: Record<string, object> = {};
      const implementation: UntypedServiceImplementation = {};
      for (const { method, served, handler } of registrations) {
        definition[method.path] = { ...method, ...passThrough };
        const serve = serverOf(method, served, handler, environment);
        implementation[method.path] = (call: object, callback?: unknown) => {
          listener.started(streamOfCall(call));
          serve(call, callback);
        };
      }
      listener.grpc.addService(definition as Parameters<Listener["grpc"]["addService"]>[0], implementation);
    }
  }

  #observe(): void {
    const metrics = this.#options.telemetry?.metrics;
    if (metrics === undefined) return;
    this.#stopObserving.push(
      metrics.observe(connectionsOpen, () =>
        this.#bound.map(({ listener }) => ({
          labels: { listener: listener.name },
          value: listener.connectionCount,
        })),
      ),
      metrics.observe(callsInFlight, () =>
        [...this.#running].map(([name, calls]) => ({ labels: { listener: name }, value: calls.size })),
      ),
    );
  }
}

/** grpc-js carries bytes; messages are coded in message-stream.ts. */
const passThrough = {
  requestSerialize: (bytes: Buffer): Buffer => bytes,
  requestDeserialize: (bytes: Buffer): Buffer => bytes,
  responseSerialize: (bytes: Buffer): Buffer => bytes,
  responseDeserialize: (bytes: Buffer): Buffer => bytes,
};

function serverOf(
  method: AnyMethod,
  served: ServedMethod,
  handler: unknown,
  environment: CallEnvironment,
): (call: object, callback: unknown) => void {
  type Serve = (call: object, callback: unknown) => void;
  if (method.requestStream) {
    invariant(
      method.responseStream,
      `${method.path}: client streams without a response stream are not served`,
    );
    return serveDuplex(method, served, handler as DuplexHandler<unknown, unknown>, environment) as Serve;
  }
  if (method.responseStream) {
    return serveServerStream(
      method,
      served,
      handler as ServerStreamHandler<unknown, unknown>,
      environment,
    ) as Serve;
  }
  const unary: handleUnaryCall<Buffer, Buffer> = serveUnary(
    method,
    served,
    handler as UnaryHandler<unknown, unknown>,
    environment,
  );
  return unary as Serve;
}

/** `/package.Service/Method` -> `package.Service`. */
function serviceOf(path: string): string {
  return path.split("/")[1] ?? "";
}

async function endsWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  const timeUp = Promise.withResolvers<false>();
  const timer = setTimeout(() => timeUp.resolve(false), ms);
  const ended = await Promise.race([work.then(() => true as const), timeUp.promise]);
  clearTimeout(timer);
  return ended;
}
