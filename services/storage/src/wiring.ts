/**
 * A storage node put together.
 *
 * Order of start: directory (recovered) -> listener bound -> registration (repeated until a controller answers) ->
 * metadata followed -> partitions opened and led. Order of stop: tell the controller -> stop serving, streams answer
 * what they have -> listener -> directory (clean mark). With the metadata service away a node that was registered
 * before starts all the same and waits; one that runs goes on serving.
 */
import { AppError } from "@millrace/base";
import { NodeSession, type Registration } from "@millrace/client";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import type { Listener } from "@millrace/proto/metadata";
import { NodeRole } from "@millrace/proto/metadata";
import { StorageServiceService } from "@millrace/proto/storage";
import {
  type Authorize,
  type BoundListener,
  createRpcServer,
  type ListenerOptions,
  type RpcServer,
  type ServerIdentity,
  type TlsClientOptions,
} from "@millrace/rpc";
import { type Clock, type Disk, realDisk, Shutdown, systemClock } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { Appender } from "./drivers/appender.ts";
import { DirectoryReports } from "./drivers/directory-reports.ts";
import { Floors } from "./drivers/floors.ts";
import { type PartitionStatus, Partitions } from "./drivers/partitions.ts";
import * as events from "./events.ts";
import {
  drainMsMax,
  requestBytesMaxDefault,
  storagePortDefault,
  streamCreditBytesDefault,
} from "./limits.ts";
import { observeStorage } from "./metrics.ts";
import { fetchOnce, serializeFetchMessage, serveFetch } from "./rpc/fetch.ts";
import { produceOnce, serveProduce } from "./rpc/produce.ts";
import { describeProducers, listOffsets } from "./rpc/queries.ts";
import { ServiceParts } from "./rpc/service-parts.ts";

/** How a storage node is started. */
export interface StorageOptions {
  /** Made when absent. */
  readonly dataDirectory: string;
  /** Default: the directory's, or one made of the directory's id. */
  readonly nodeId?: string;
  /** Metadata replicas, host:port. */
  readonly bootstrapServers: readonly string[];
  /** Default: one `client` listener on 127.0.0.1:9760. */
  readonly listeners?: readonly ListenerOptions[];
  /** Allows listeners beyond loopback without TLS. */
  readonly allowInsecure?: boolean;
  /** TLS towards the metadata service. */
  readonly tls?: TlsClientOptions;
  readonly authorize?: Authorize;
  /** A silent one when absent. The caller closes what it gives. */
  readonly telemetry?: Telemetry;
  readonly rack?: string;
  /** Software version, told to the controller. */
  readonly version?: string;
  readonly clock?: Clock;
  readonly disk?: Disk;
  readonly streamCreditBytes?: number;
  readonly requestBytesMax?: number;
  readonly journalFileBytes?: number;
  /** Negative control of the tests only. */
  readonly unsafeSkipFsync?: boolean;
}

/** A running storage node. */
export interface StorageService {
  readonly nodeId: string;
  /** host:port that clients are told. */
  readonly address: string;
  readonly listeners: readonly BoundListener[];
  readonly telemetry: Telemetry;
  /** Resolves when the node is registered and its partitions are opened; rejects when it is refused for good. */
  readonly ready: Promise<void>;
  /** Resolves with the error that ends the node's usefulness: refused by the controller, or a dead disk. */
  readonly failed: Promise<AppError>;
  /** Retention does not remove offsets at or above `offset` (rule S2); Infinity lifts it. False: not hosted here. */
  holdRetention(topicId: string, partition: number, offset: number): boolean;
  /** Applies retention now; it also runs by itself. */
  applyRetention(): Promise<void>;
  /** How the hosted partitions stand, all at one moment (rule S1). */
  partitions(): PartitionStatus[];
  /** Drains and stops; returns what did not stop well. */
  stop(): Promise<readonly AppError[]>;
}

const softwareVersion = "0.1.0";

/** Starts a storage node. Returns when it listens; `ready` tells when it serves. */
export async function startStorage(options: StorageOptions): Promise<StorageService> {
  const clock = options.clock ?? systemClock;
  const shutdown = new Shutdown(clock, drainMsMax * 2);
  try {
    return await new StorageNode(options, clock, shutdown).start();
  } catch (thrown) {
    await shutdown.stop();
    throw thrown;
  }
}

class StorageNode {
  readonly #options: StorageOptions;
  readonly #clock: Clock;
  readonly #shutdown: Shutdown;
  readonly #failed = Promise.withResolvers<AppError>();
  readonly #stopping: PromiseWithResolvers<void> = Promise.withResolvers();
  #isRegistered = false;

  constructor(options: StorageOptions, clock: Clock, shutdown: Shutdown) {
    this.#options = options;
    this.#clock = clock;
    this.#shutdown = shutdown;
  }

  async start(): Promise<StorageService> {
    const options = this.#options;
    const reports = new DirectoryReports((error) => this.#failed.resolve(error));
    const directory = await this.#openDirectory(reports);
    this.#shutdown.register("data directory", () => directory.close());
    const nodeId =
      directory.meta.nodeId ?? options.nodeId ?? `storage-${directory.meta.directoryId.slice(0, 8)}`;
    const telemetry = this.#telemetry(nodeId);
    reports.attach(telemetry);

    const floors = new Floors(directory);
    const server = this.#server(directory, nodeId, telemetry, () => session);
    const session = this.#session({ directory, nodeId, telemetry, floors, server });
    const partitions = new Partitions({
      directory,
      nodeId,
      view: session.view,
      telemetry,
      clock: this.#clock,
    });
    const appender = new Appender({
      directory,
      partitions,
      telemetry,
      clock: this.#clock,
      onProducerId: (producerId) => floors.noteProducerId(producerId),
    });
    const identity = identityOf(directory, nodeId, () => session);
    const parts = this.#parts(partitions, appender, identity, telemetry);
    addStorageService(server, parts);
    const listeners = await server.start();
    this.#shutdown.register("listeners", () => server.stop(drainMsMax));
    observeStorage(telemetry, { parts, appender, partitions, directory });
    const ready = this.#join(session, partitions, floors, server, telemetry);
    ready.catch(() => {}); // whoever waits hears it, and `failed` tells it
    this.#shutdown.register("cluster session", () => this.#leave(session, partitions));
    const first = listeners[0];
    const address = first === undefined ? "" : `${first.advertisedHost}:${first.advertisedPort}`;
    telemetry.emit(events.storageStarted, {
      address,
      dataDir: directory.path,
      partitions: directory.logs.length,
      recoveryMs: directory.recovery.durationMs,
      wasClean: directory.recovery.wasClean,
    });
    return {
      nodeId,
      address,
      listeners,
      telemetry,
      ready,
      failed: this.#failed.promise,
      applyRetention: () => directory.applyRetention(),
      partitions: () => partitions.status(),
      holdRetention: (topicId, partition, offset) => partitions.holdRetention(topicId, partition, offset),
      stop: async () => {
        const failures = await this.#shutdown.stop();
        telemetry.emit(events.storageStopped, { address });
        return failures;
      },
    };
  }

  #parts(
    partitions: Partitions,
    appender: Appender,
    identity: ServerIdentity,
    telemetry: Telemetry,
  ): ServiceParts {
    const refused = telemetry.metrics.counter(events.refusedBatches);
    const appendSeconds = telemetry.metrics.histogram(events.appendSeconds);
    return new ServiceParts({
      partitions,
      appender,
      identity,
      clock: this.#clock,
      streamCreditBytes: this.#options.streamCreditBytes ?? streamCreditBytesDefault,
      requestBytesMax: this.#options.requestBytesMax ?? requestBytesMaxDefault,
      stopping: this.#stopping.promise,
      onRefused: (reason) => refused.inc({ reason }),
      onAppendMs: (ms) => appendSeconds.observe(ms / 1000),
    });
  }

  #openDirectory(reports: DirectoryReports): Promise<DataDirectory> {
    const { dataDirectory, nodeId, journalFileBytes, unsafeSkipFsync } = this.#options;
    return openDataDirectory({
      path: dataDirectory,
      disk: this.#options.disk ?? realDisk,
      clock: this.#clock,
      onEvent: (event) => reports.take(event),
      identity: { role: "storage", ...(nodeId === undefined ? {} : { nodeId }) },
      ...(journalFileBytes === undefined ? {} : { journalFileBytes }),
      ...(unsafeSkipFsync === undefined ? {} : { unsafeSkipFsync }),
    });
  }

  #telemetry(nodeId: string): Telemetry {
    if (this.#options.telemetry !== undefined) return this.#options.telemetry;
    const telemetry = createTelemetry({
      service: "storage",
      node: nodeId,
      version: this.#options.version ?? softwareVersion,
      destination: "silent",
      clock: this.#clock,
    });
    this.#shutdown.register("telemetry", () => telemetry.close());
    return telemetry;
  }

  #server(
    directory: DataDirectory,
    nodeId: string,
    telemetry: Telemetry,
    session: () => NodeSession,
  ): RpcServer {
    const { listeners, allowInsecure, authorize } = this.#options;
    return createRpcServer({
      listeners: listeners ?? [{ name: "client", host: "127.0.0.1", port: storagePortDefault }],
      identity: identityOf(directory, nodeId, session),
      telemetry,
      ...(allowInsecure === undefined ? {} : { allowInsecure }),
      ...(authorize === undefined ? {} : { authorize }),
    });
  }

  #session(parts: {
    readonly directory: DataDirectory;
    readonly nodeId: string;
    readonly telemetry: Telemetry;
    readonly floors: Floors;
    readonly server: RpcServer;
  }): NodeSession {
    const { directory, nodeId, telemetry, floors, server } = parts;
    const { token } = floors;
    const { tls, rack } = this.#options;
    return new NodeSession({
      bootstrapServers: this.#options.bootstrapServers,
      role: NodeRole.STORAGE,
      nodeId,
      incarnation: directory.meta.starts.at(-1) ?? "",
      clusterId: directory.meta.clusterId ?? "",
      directoryId: directory.meta.directoryId,
      starts: directory.meta.starts,
      listeners: () => server.listeners.map(toListener),
      version: this.#options.version ?? softwareVersion,
      wasClean: directory.recovery.wasClean,
      seen: () => floors.seen(),
      clock: this.#clock,
      onRegistered: async (registration) => {
        await registered(registration, directory, nodeId, floors, telemetry);
        this.#isRegistered = true;
      },
      onFailure: (error, isFatal) => this.#onSessionFailure(error, isFatal, telemetry),
      onWatch: (failure) => onWatch(failure, telemetry),
      ...(token === undefined ? {} : { token }),
      ...(tls === undefined ? {} : { tls }),
      ...(rack === undefined ? {} : { rack }),
    });
  }

  #onSessionFailure(error: AppError, isFatal: boolean, telemetry: Telemetry): void {
    const fields = { reason: error.reason, error: error.message };
    telemetry.emit(isFatal ? events.registrationRefused : events.registrationFailed, fields);
    if (isFatal || !this.#isRegistered)
      telemetry.readiness.set("registration", { ready: false, reason: error.message });
    if (isFatal) this.#failed.resolve(error);
  }

  /** Registers, follows the metadata and opens partitions. Resolves when the first state is carried out. */
  async #join(
    session: NodeSession,
    partitions: Partitions,
    floors: Floors,
    server: RpcServer,
    telemetry: Telemetry,
  ): Promise<void> {
    telemetry.readiness.set("registration", { ready: false, reason: "not registered yet" });
    telemetry.readiness.set("partitions", { ready: false, reason: "the metadata has not arrived yet" });
    const loaded: PromiseWithResolvers<void> = Promise.withResolvers();
    session.view.onChange(() => {
      floors.noteToken(session.view);
      partitions.update().then(
        () => loaded.resolve(),
        (thrown: unknown) => this.#failed.resolve(AppError.from(thrown)),
      );
    });
    session.start();
    await session.registered;
    await loaded.promise;
    server.setServing(true);
  }

  async #leave(session: NodeSession, partitions: Partitions): Promise<void> {
    await session.stop(drainMsMax);
    await partitions.stop();
    this.#stopping.resolve();
  }
}

function identityOf(directory: DataDirectory, nodeId: string, session: () => NodeSession): ServerIdentity {
  return {
    clusterId: () => session().clusterId,
    nodeId,
    incarnation: directory.meta.starts.at(-1) ?? "",
    nodeEpoch: () => session().nodeEpoch,
  };
}

function addStorageService(server: RpcServer, parts: ServiceParts): void {
  const definition = {
    ...StorageServiceService,
    fetch: { ...StorageServiceService.fetch, responseSerialize: serializeFetchMessage },
  };
  server.addService(definition, {
    produce: (stream) => serveProduce(stream, parts),
    produceOnce: (request) => produceOnce(request, parts),
    fetch: (stream) => serveFetch(stream, parts),
    fetchOnce: (request, context) => fetchOnce(request, parts, context.signal),
    listOffsets: (request) => listOffsets(request, parts),
    describeProducers: (request) => describeProducers(request, parts),
  });
}

/** A registration is written down before the node serves: a new directory learns its cluster, floors go up. */
async function registered(
  registration: Registration,
  directory: DataDirectory,
  nodeId: string,
  floors: Floors,
  telemetry: Telemetry,
): Promise<void> {
  const { clusterId, nodeEpoch } = registration;
  await directory.setIdentity({ clusterId, nodeId });
  await floors.noteNodeEpoch(nodeEpoch);
  telemetry.readiness.set("registration", { ready: true });
  telemetry.emit(events.nodeRegistered, { clusterId, nodeEpoch });
}

/** With the watch broken the node serves what it serves; readiness says that changes wait. */
function onWatch(failure: AppError | undefined, telemetry: Telemetry): void {
  if (failure === undefined) {
    telemetry.readiness.set("metadata", { ready: true });
    return;
  }
  telemetry.readiness.set("metadata", {
    ready: false,
    reason: `changes of topics and leaders wait: ${failure.message}`,
  });
  telemetry.emit(events.metadataWatchBroken, { reason: failure.reason, error: failure.message });
}

function toListener({ name, advertisedHost, advertisedPort, tls }: BoundListener): Listener {
  return { name, host: advertisedHost, port: advertisedPort, tls };
}
