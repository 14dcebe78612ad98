/**
 * Puts the service together, in the order it starts; it stops in reverse.
 *
 *   directory lock -> embedded log -> replay and election -> sessions -> gRPC -> registration of itself -> ready
 */
import { AppError } from "@millrace/base";
import type { ControllerLimits } from "@millrace/controller";
import { type EmbeddedLog, openEmbeddedLog } from "@millrace/coordination";
import { ConnectorServiceService } from "@millrace/proto/connector";
import { ControllerServiceService } from "@millrace/proto/controller";
import { MetadataServiceService } from "@millrace/proto/metadata";
import {
  type Authorize,
  checkHandshake,
  createRpcServer,
  type ListenerOptions,
  type RpcServer,
} from "@millrace/rpc";
import { type Clock, type Disk, Shutdown } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { ActiveController } from "./drivers/active-controller.ts";
import { type MetadataDirectory, openMetadataDirectory } from "./drivers/data-directory.ts";
import { LivenessLoop } from "./drivers/liveness-loop.ts";
import { ProducerIds } from "./drivers/producer-ids.ts";
import { Reporter } from "./drivers/reporter.ts";
import { Sessions } from "./drivers/sessions.ts";
import { TaskBoard } from "./drivers/task-board.ts";
import { WatchHub, type WatchLimits } from "./drivers/watch-hub.ts";
import { tornTailCutEvent } from "./events.ts";
import type { MetadataService } from "./main.ts";
import { connectorService } from "./rpc/connector-service.ts";
import { controllerService } from "./rpc/controller-service.ts";
import { metadataService } from "./rpc/metadata-service.ts";
import type { ServiceContext } from "./rpc/service-context.ts";

/** All options, decided. */
export interface WiringOptions {
  readonly nodeId: string;
  readonly clock: Clock;
  readonly disk: Disk;
  readonly telemetry: Telemetry;
  readonly dataDirectory: string;
  readonly listeners: readonly ListenerOptions[];
  readonly allowInsecure: boolean;
  readonly sessionTimeoutMs: number;
  readonly defaultPartitionCount: number;
  readonly defaultReplicationFactor: number;
  readonly snapshotEveryBatches: number;
  readonly limits: ControllerLimits;
  readonly watchLimits: WatchLimits;
  readonly version: string;
  readonly authorize: Authorize | undefined;
}

/** Time for calls in flight to end when the service stops. */
const stopGraceMs = 2_000;

/** Starts everything; what was started is stopped again when a later part fails. */
export async function wire(options: WiringOptions): Promise<MetadataService> {
  const shutdown = new Shutdown(options.clock);
  try {
    return await start(options, shutdown);
  } catch (error) {
    await shutdown.stop();
    throw error;
  }
}

async function start(options: WiringOptions, shutdown: Shutdown): Promise<MetadataService> {
  const { clock, disk, telemetry, nodeId } = options;
  const directory = await openMetadataDirectory(disk, options.dataDirectory, nodeId);
  shutdown.register("data directory", () => directory.close());
  const log = await openEmbeddedLog({ disk, directory: directory.logPath });
  shutdown.register("metadata log", () => log.close());
  if (log.tornBytes > 0) telemetry.emit(tornTailCutEvent, { bytes: log.tornBytes });

  const hub = new WatchHub(clock, options.watchLimits);
  const taskBoard = new TaskBoard();
  const reporter = new Reporter(telemetry);
  const controller = await electController(options, log, hub, reporter);
  shutdown.register("controller", () => controller.stop());
  await directory.setClusterId(controller.image.clusterId);
  controller.onChange((change) => {
    taskBoard.follow(change);
    reporter.report(change);
  });
  reporter.observe(controller, hub);

  const sessions = new Sessions({
    clock,
    timeoutMs: options.sessionTimeoutMs,
    tickMs: options.sessionTimeoutMs / 12,
  });
  const liveness = new LivenessLoop(controller, sessions, clock, nodeId);
  shutdown.register("liveness", () => liveness.stop());

  const context = { controller, log, hub, sessions, taskBoard, nodeId, version: options.version };
  const server = createServer(options, directory, { ...context, producerIds: new ProducerIds(controller) });
  shutdown.register("watches", () => hub.close());
  const listeners = await server.start();
  shutdown.register("gRPC server", async () => {
    hub.close();
    await server.stop(stopGraceMs);
  });
  await registerItself(options, directory, controller, listeners);
  server.setServing(true);
  const [first] = listeners;
  if (first === undefined)
    throw new AppError("INVALID_CONFIG", "the metadata service needs at least one listener");
  const client = listeners.find((listener) => listener.name === "client") ?? first;
  return {
    clusterId: controller.image.clusterId,
    nodeId,
    listeners,
    address: `${client.advertisedHost}:${client.advertisedPort}`,
    get ready() {
      return controller.failure === undefined;
    },
    stop: async () => {
      server.setServing(false);
      telemetry.readiness.set("metadata", { ready: false, reason: "stopping" });
      const [failure] = await shutdown.stop();
      if (failure !== undefined) throw failure;
    },
  };
}

function electController(
  options: WiringOptions,
  log: EmbeddedLog,
  hub: WatchHub,
  reporter: Reporter,
): Promise<ActiveController> {
  const { clock, nodeId, limits, defaultPartitionCount, defaultReplicationFactor, snapshotEveryBatches } =
    options;
  return ActiveController.start(
    {
      ...{ log, clock, limits, defaultPartitionCount, defaultReplicationFactor, snapshotEveryBatches },
      controllerId: nodeId,
      onSnapshotFailed: (error) => reporter.snapshotFailed(error),
      onOffline: (error) => reporter.offline(error),
    },
    (change) => hub.publish(change),
  );
}

function createServer(
  options: WiringOptions,
  directory: MetadataDirectory,
  parts: Omit<ServiceContext, "greet">,
): RpcServer {
  const { controller } = parts;
  const identity = {
    clusterId: () => controller.image.clusterId,
    nodeId: options.nodeId,
    incarnation: directory.meta.starts.at(-1) ?? "",
    nodeEpoch: () => controller.image.nodes.get(options.nodeId)?.nodeEpoch ?? 0,
  };
  const server = createRpcServer({
    listeners: options.listeners,
    telemetry: options.telemetry,
    identity,
    allowInsecure: options.allowInsecure,
    ...(options.authorize === undefined ? {} : { authorize: options.authorize }),
  });
  const context: ServiceContext = {
    ...parts,
    greet: (handshake) => checkHandshake(handshake, identity),
  };
  server.addService(MetadataServiceService, metadataService(context));
  server.addService(ControllerServiceService, controllerService(context));
  server.addService(ConnectorServiceService, connectorService(context));
  return server;
}

/** The service is a node of its cluster, so that clients that know one metadata replica find the others. */
async function registerItself(
  options: WiringOptions,
  { meta }: MetadataDirectory,
  controller: ActiveController,
  listeners: RpcServer["listeners"],
): Promise<void> {
  await controller.submit({
    kind: "registerNode",
    requestId: "",
    nodeId: options.nodeId,
    role: "metadata",
    incarnation: meta.starts.at(-1) ?? "",
    directoryId: meta.directoryId,
    starts: meta.starts,
    listeners: listeners.map(({ name, advertisedHost, advertisedPort, tls }) => ({
      ...{ name, host: advertisedHost, port: advertisedPort, tls },
    })),
    rack: "",
    version: options.version,
    seenNodeEpoch: 0,
    seenProducerId: 0,
    seenNamedProducerId: 0,
    seenEpochs: [],
  });
}
