/**
 * A connector instance put together.
 *
 * Order of start: directory -> registration (repeated until a controller answers) -> metadata followed -> tasks. Order
 * of stop: tasks publish what they read -> the controller is told, so that the tasks move at once -> directory. With
 * the metadata service away the tasks go on: the destination fences whoever has lost his.
 */
import type { AppError } from "@millrace/base";
import { NodeSession, type Registration } from "@millrace/client";
import { components } from "@millrace/components";
import { DeadLetters } from "@millrace/flow";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { NodeRole } from "@millrace/proto/metadata";
import { type Clock, realDisk, type Shutdown } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { ClusterClient } from "./cluster-client.ts";
import type { TaskContext } from "./drivers/task-context.ts";
import { TaskSet } from "./drivers/task-set.ts";
import * as events from "./events.ts";
import { leaveMsMax } from "./limits.ts";
import { observeTasks } from "./metrics.ts";
import type { ConnectorOptions, ConnectorService } from "./service.ts";

const softwareVersion = "0.1.0";

/** Starts the parts in order; each registers how it is stopped. */
export class ConnectorNode {
  readonly #options: ConnectorOptions;
  readonly #clock: Clock;
  readonly #shutdown: Shutdown;
  readonly #failed = Promise.withResolvers<AppError>();

  constructor(options: ConnectorOptions, clock: Clock, shutdown: Shutdown) {
    this.#options = options;
    this.#clock = clock;
    this.#shutdown = shutdown;
  }

  async start(): Promise<ConnectorService> {
    const directory = await this.#openDirectory();
    this.#shutdown.register("data directory", () => directory.close());
    const nodeId =
      directory.meta.nodeId ?? this.#options.nodeId ?? `connector-${directory.meta.directoryId.slice(0, 8)}`;
    const telemetry = this.#telemetry(nodeId);
    const tasks = new TaskSet({
      nodeId,
      incarnation: directory.meta.starts.at(-1) ?? "",
      context: this.#taskContext(directory, nodeId, telemetry),
    });
    const unobserve = observeTasks(telemetry, tasks);
    this.#shutdown.register("metrics", unobserve);
    const session = this.#session(directory, nodeId, telemetry, tasks);
    const ready = this.#join(session, tasks, telemetry);
    this.#shutdown.register("cluster session", () => session.stop(leaveMsMax));
    this.#shutdown.register("tasks", () => tasks.stop());
    telemetry.emit(events.connectorServiceStarted, { dataDir: directory.path });
    return {
      nodeId,
      telemetry,
      ready,
      failed: this.#failed.promise,
      status: () => tasks.statuses,
      flush: () => tasks.flush(),
      stop: async () => {
        telemetry.readiness.set("connector", { ready: false, reason: "stopping" });
        const count = tasks.statuses.length;
        const failures = await this.#shutdown.stop();
        telemetry.emit(events.connectorServiceStopped, { tasks: count });
        return failures;
      },
    };
  }

  #openDirectory(): Promise<DataDirectory> {
    const { dataDirectory, nodeId, disk = realDisk } = this.#options;
    return openDataDirectory({
      path: dataDirectory,
      disk,
      clock: this.#clock,
      identity: { role: "connector", ...(nodeId === undefined ? {} : { nodeId }) },
    });
  }

  #telemetry(nodeId: string): Telemetry {
    if (this.#options.telemetry !== undefined) return this.#options.telemetry;
    const version = this.#options.version ?? softwareVersion;
    const telemetry = createTelemetry({ service: "connector", node: nodeId, version });
    this.#shutdown.register("telemetry", () => telemetry.close());
    return telemetry;
  }

  #taskContext(directory: DataDirectory, nodeId: string, telemetry: Telemetry): TaskContext {
    const { bootstrapServers, tls, registry = components, disk = realDisk } = this.#options;
    const clock = this.#clock;
    const client = new ClusterClient({
      bootstrapServers,
      clientId: nodeId,
      clock,
      ...(tls === undefined ? {} : { tls }),
    });
    this.#shutdown.register("client", () => client.close());
    const letters = new Map<string, DeadLetters>();
    this.#shutdown.register("dead letters", async () => {
      for (const one of letters.values()) await one.close();
    });
    return {
      registry,
      client: () => client.get(),
      directory,
      deadLetters: (connector) => {
        const present =
          letters.get(connector) ?? new DeadLetters({ component: connector, directory, disk, clock });
        letters.set(connector, present);
        return present;
      },
      bootstrapServers,
      clock,
      disk,
      telemetry,
    };
  }

  #session(directory: DataDirectory, nodeId: string, telemetry: Telemetry, tasks: TaskSet): NodeSession {
    const { bootstrapServers, tls, rack, version } = this.#options;
    return new NodeSession({
      bootstrapServers,
      role: NodeRole.CONNECTOR,
      nodeId,
      incarnation: directory.meta.starts.at(-1) ?? "",
      clusterId: directory.meta.clusterId ?? "",
      directoryId: directory.meta.directoryId,
      starts: directory.meta.starts,
      listeners: () => [],
      version: version ?? softwareVersion,
      wasClean: directory.recovery.wasClean,
      tasks: () => tasks.reports,
      clock: this.#clock,
      onRegistered: (registration) => onRegistered(registration, directory, nodeId, telemetry),
      onFailure: (error, isFatal) => this.#onSessionFailure(error, isFatal, telemetry),
      onWatch: (failure) => onWatch(failure, telemetry),
      ...(tls === undefined ? {} : { tls }),
      ...(rack === undefined ? {} : { rack }),
    });
  }

  #onSessionFailure(error: AppError, isFatal: boolean, telemetry: Telemetry): void {
    const fields = { reason: error.reason, error: error.message };
    telemetry.emit(
      isFatal ? events.connectorRegistrationRefused : events.connectorRegistrationFailed,
      fields,
    );
    if (!isFatal) return;
    telemetry.readiness.set("connector", { ready: false, reason: error.message });
    this.#failed.resolve(error);
  }

  /** Registers and follows the assignments. Resolves when the first ones are known. */
  #join(session: NodeSession, tasks: TaskSet, telemetry: Telemetry): Promise<void> {
    telemetry.readiness.set("connector", { ready: false, reason: "not registered yet" });
    const loaded: PromiseWithResolvers<void> = Promise.withResolvers();
    session.view.onChange(() => {
      tasks.update(session.view);
      telemetry.readiness.set("connector", { ready: true });
      loaded.resolve();
    });
    session.start();
    const ready = session.registered.then(() => loaded.promise);
    ready.catch(() => {}); // whoever waits hears it, and `failed` tells it
    return ready;
  }
}

async function onRegistered(
  { clusterId, nodeEpoch }: Registration,
  directory: DataDirectory,
  nodeId: string,
  telemetry: Telemetry,
): Promise<void> {
  if (directory.meta.clusterId !== clusterId) await directory.setIdentity({ clusterId, nodeId });
  telemetry.emit(events.connectorRegistered, { clusterId, nodeEpoch });
}

function onWatch(failure: AppError | undefined, telemetry: Telemetry): void {
  if (failure === undefined) return;
  telemetry.emit(events.connectorWatchBroken, { reason: failure.reason, error: failure.message });
}
