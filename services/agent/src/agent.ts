/**
 * The agent service: one pipeline on one data directory.
 *
 * Order of start: the pipeline's file (checked before anything is touched) -> directory (recovered, start history L1)
 * -> listener -> registration begun -> pipeline. With the metadata service away sources and channels run and only the
 * sinks that need the cluster wait; a registration refused for good (L1) never lets them open.
 * Order of stop: pipeline (sources, sinks, channels) -> registration -> listener -> directory (clean mark).
 */
import { AppError } from "@millrace/base";
import { NodeSession } from "@millrace/client";
import { components } from "@millrace/components";
import {
  type ComponentRegistry,
  loadPipeline,
  Pipeline,
  type PipelineConfig,
  type PipelineStatus,
  type SourceAddress,
} from "@millrace/flow";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { AgentServiceService, type DescribeAgentResponse } from "@millrace/proto/agent";
import { type Listener, NodeRole } from "@millrace/proto/metadata";
import {
  type Authorize,
  type BoundListener,
  createRpcServer,
  type ListenerOptions,
  type RpcServer,
  type TlsClientOptions,
} from "@millrace/rpc";
import { type Clock, type Disk, realDisk, Shutdown, systemClock } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { DirectoryReports } from "./directory-reports.ts";
import * as events from "./events.ts";
import { describeAgent } from "./rpc/describe-agent.ts";

/** How an agent is started. */
export interface AgentOptions {
  /** The pipeline: flume.conf or YAML. */
  readonly file: string;
  /** Agent of the file; needed when it has several. */
  readonly agent?: string;
  readonly isFlumeCompat?: boolean;
  /** For `${sys:NAME}`. */
  readonly sys?: Readonly<Record<string, string | undefined>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Made when absent. */
  readonly dataDirectory: string;
  /** Default: the directory's, or one made of the agent's name and the directory's id. */
  readonly nodeId?: string;
  /** Metadata replicas, host:port; none: the agent belongs to no cluster. */
  readonly bootstrapServers?: readonly string[];
  /** Default: one listener on a free port of 127.0.0.1. */
  readonly listeners?: readonly ListenerOptions[];
  readonly allowInsecure?: boolean;
  /** TLS towards the metadata service. */
  readonly tls?: TlsClientOptions;
  readonly authorize?: Authorize;
  /** Paths no source may read, beside the data directory. */
  readonly protectedPaths?: readonly string[];
  /** Time sinks get to deliver what they hold at a stop, milliseconds. */
  readonly stopGraceMs?: number;
  /** A silent one when absent. The caller closes what it gives. */
  readonly telemetry?: Telemetry;
  readonly version?: string;
  readonly clock?: Clock;
  readonly disk?: Disk;
  /** Component types; those of this build when absent. */
  readonly registry?: ComponentRegistry;
  /** Negative control of the tests only. */
  readonly unsafeSkipFsync?: boolean;
}

/** A running agent. */
export interface AgentService {
  readonly name: string;
  /** Id of the data directory. */
  readonly agentId: string;
  readonly nodeId: string;
  /** host:port of the administration listener. */
  readonly address: string;
  readonly listeners: readonly BoundListener[];
  /** Where push sources listen. */
  readonly addresses: readonly SourceAddress[];
  readonly config: PipelineConfig;
  readonly telemetry: Telemetry;
  /** Resolves with the error that ends the agent's usefulness: refused by the controller, or a dead disk. */
  readonly failed: Promise<AppError>;
  /** Everything at one moment, synchronously (S1). */
  status(): PipelineStatus;
  /** Sources read and take nothing more until `resume`; sinks go on. */
  pause(): void;
  resume(): void;
  /** `--once`: reads what is there and resolves when all of it is delivered. Rejects CANCELLED when `signal` aborts. */
  finishAndDrain(signal?: AbortSignal): Promise<void>;
  /** Stops in order; returns what did not stop well. */
  stop(): Promise<readonly AppError[]>;
}

const softwareVersion = "0.1.0";
const stopGraceMsDefault = 10_000;
/** Beyond the sinks' grace a part that does not stop is left behind after this, milliseconds. */
const partStopMs = 5_000;

/**
 * Starts an agent. Throws INVALID_CONFIG with every problem of the pipeline's file, ALREADY_LOCKED, CLUSTER_MISMATCH,
 * and what opening the data directory throws.
 */
export async function startAgent(options: AgentOptions): Promise<AgentService> {
  const config = await loadPipeline(options.file, {
    registry: options.registry ?? components,
    ...(options.agent === undefined ? {} : { agent: options.agent }),
    ...(options.isFlumeCompat === undefined ? {} : { isFlumeCompat: options.isFlumeCompat }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.sys === undefined ? {} : { sys: options.sys }),
  });
  const clock = options.clock ?? systemClock;
  const shutdown = new Shutdown(clock, (options.stopGraceMs ?? stopGraceMsDefault) + partStopMs);
  try {
    return await new Agent(options, config, clock, shutdown).start();
  } catch (thrown) {
    await shutdown.stop();
    throw thrown;
  }
}

class Agent {
  readonly #options: AgentOptions;
  readonly #config: PipelineConfig;
  readonly #clock: Clock;
  readonly #shutdown: Shutdown;
  readonly #telemetry: Telemetry;
  readonly #failed = Promise.withResolvers<AppError>();
  #isRegistered = false;
  #session: NodeSession | undefined;
  #pipeline: Pipeline | undefined;

  constructor(options: AgentOptions, config: PipelineConfig, clock: Clock, shutdown: Shutdown) {
    this.#options = options;
    this.#config = config;
    this.#clock = clock;
    this.#shutdown = shutdown;
    this.#telemetry = options.telemetry ?? this.#silentTelemetry();
  }

  async start(): Promise<AgentService> {
    const options = this.#options;
    const telemetry = this.#telemetry;
    for (const warning of this.#config.warnings) telemetry.emit(events.configWarning, { warning });
    const directory = await this.#openDirectory();
    this.#shutdown.register("data directory", () => directory.close());
    const name = this.#config.agent;
    const { directoryId } = directory.meta;
    const nodeId = directory.meta.nodeId ?? options.nodeId ?? `${name}-${directoryId.slice(0, 8)}`;
    const server = this.#server(directory, nodeId);
    const listeners = await server.start();
    this.#shutdown.register("listeners", () => server.stop(partStopMs));
    this.#session = this.#join(directory, nodeId, server);
    const started = await this.#startPipeline(directory, this.#session);
    this.#pipeline = started;
    server.setServing(true);
    const first = listeners[0];
    const address = first === undefined ? "" : `${first.advertisedHost}:${first.advertisedPort}`;
    telemetry.emit(events.agentStarted, {
      agent: name,
      agentId: directoryId,
      address,
      dataDir: directory.path,
      file: this.#config.file,
      recoveryMs: directory.recovery.durationMs,
      wasClean: directory.recovery.wasClean,
    });
    return {
      name,
      agentId: directoryId,
      nodeId,
      address,
      listeners,
      get addresses() {
        return started.addresses;
      },
      config: this.#config,
      telemetry,
      failed: this.#failed.promise,
      status: () => started.status(),
      pause: () => started.pause(),
      resume: () => started.resume(),
      finishAndDrain: (signal) => started.finishAndDrain(signal ?? this.#shutdown.signal),
      stop: () => this.#stop(started),
    };
  }

  async #stop(pipeline: Pipeline): Promise<readonly AppError[]> {
    const failures = await this.#shutdown.stop();
    const undelivered = pipeline.status().channels.reduce((sum, { depthCount }) => sum + depthCount, 0);
    this.#telemetry.emit(events.agentStopped, { agent: this.#config.agent, undelivered });
    return failures;
  }

  #silentTelemetry(): Telemetry {
    const telemetry = createTelemetry({
      service: "agent",
      node: this.#config.agent,
      version: this.#options.version ?? softwareVersion,
      destination: "silent",
      clock: this.#clock,
    });
    this.#shutdown.register("telemetry", () => telemetry.close());
    return telemetry;
  }

  #openDirectory(): Promise<DataDirectory> {
    const { dataDirectory, nodeId, unsafeSkipFsync } = this.#options;
    const reports = new DirectoryReports(this.#telemetry, (error) => this.#failed.resolve(error));
    return openDataDirectory({
      path: dataDirectory,
      disk: this.#options.disk ?? realDisk,
      clock: this.#clock,
      onEvent: (event) => reports.take(event),
      identity: { role: "agent", ...(nodeId === undefined ? {} : { nodeId }) },
      ...(unsafeSkipFsync === undefined ? {} : { unsafeSkipFsync }),
    });
  }

  #server(directory: DataDirectory, nodeId: string): RpcServer {
    const { listeners, allowInsecure, authorize } = this.#options;
    const server = createRpcServer({
      listeners: listeners ?? [{ name: "client", host: "127.0.0.1", port: 0 }],
      identity: {
        clusterId: () => this.#session?.clusterId ?? directory.meta.clusterId ?? "",
        nodeId,
        incarnation: directory.meta.starts.at(-1) ?? "",
        nodeEpoch: () => this.#session?.nodeEpoch ?? 0,
      },
      telemetry: this.#telemetry,
      ...(allowInsecure === undefined ? {} : { allowInsecure }),
      ...(authorize === undefined ? {} : { authorize }),
    });
    server.addService(AgentServiceService, { describeAgent: async () => this.#describe() });
    return server;
  }

  #describe(): DescribeAgentResponse {
    if (this.#pipeline === undefined) {
      throw new AppError("NODE_STARTING", `agent ${this.#config.agent} is starting: try again`);
    }
    return describeAgent(this.#pipeline.status());
  }

  /** Begins to register; undefined without a cluster. */
  #join(directory: DataDirectory, nodeId: string, server: RpcServer): NodeSession | undefined {
    const { bootstrapServers = [], tls } = this.#options;
    if (bootstrapServers.length === 0) return undefined;
    const telemetry = this.#telemetry;
    const session = new NodeSession({
      bootstrapServers,
      role: NodeRole.AGENT,
      nodeId,
      incarnation: directory.meta.starts.at(-1) ?? "",
      clusterId: directory.meta.clusterId ?? "",
      directoryId: directory.meta.directoryId,
      starts: directory.meta.starts,
      listeners: () => server.listeners.map(toListener),
      version: this.#options.version ?? softwareVersion,
      wasClean: directory.recovery.wasClean,
      clock: this.#clock,
      onRegistered: async ({ clusterId, nodeEpoch }) => {
        await directory.setIdentity({ clusterId, nodeId });
        this.#isRegistered = true;
        telemetry.readiness.set("registration", { ready: true });
        telemetry.emit(events.agentRegistered, { clusterId, nodeEpoch });
      },
      onFailure: (error, isFatal) => this.#onSessionFailure(error, isFatal),
      ...(tls === undefined ? {} : { tls }),
    });
    telemetry.readiness.set("registration", { ready: false, reason: "not registered yet" });
    session.start();
    this.#shutdown.register("cluster session", () => session.stop());
    return session;
  }

  #onSessionFailure(error: AppError, isFatal: boolean): void {
    const fields = { reason: error.reason, error: error.message };
    this.#telemetry.emit(isFatal ? events.registrationRefused : events.registrationFailed, fields);
    if (isFatal || !this.#isRegistered) {
      this.#telemetry.readiness.set("registration", { ready: false, reason: error.message });
    }
    if (isFatal) this.#failed.resolve(error);
  }

  async #startPipeline(directory: DataDirectory, session: NodeSession | undefined): Promise<Pipeline> {
    const { bootstrapServers = [], protectedPaths = [], stopGraceMs = stopGraceMsDefault } = this.#options;
    const pipeline = await Pipeline.start(this.#config, {
      agent: this.#config.agent,
      directory,
      disk: this.#options.disk ?? realDisk,
      clock: this.#clock,
      telemetry: this.#telemetry,
      bootstrapServers,
      protectedPaths,
      ...(session === undefined ? {} : { whenClusterReady: (signal) => registered(session, signal) }),
    });
    this.#shutdown.register("pipeline", () => pipeline.stop(stopGraceMs));
    this.#telemetry.readiness.set("pipeline", { ready: true });
    return pipeline;
  }
}

/** Resolves once the node is registered, or when `signal` aborts; rejects when it never will be. */
async function registered(session: NodeSession, signal: AbortSignal): Promise<void> {
  if (session.registration !== undefined) return;
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await Promise.race([session.registered, stopped]);
}

function toListener(listener: BoundListener): Listener {
  return {
    name: listener.name,
    host: listener.advertisedHost,
    port: listener.advertisedPort,
    tls: listener.tls,
  };
}
