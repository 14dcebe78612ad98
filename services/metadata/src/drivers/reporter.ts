/** Log lines, metrics and readiness of the service, from committed changes. */
import type { AppError } from "@millrace/base";
import type { MetadataRecord } from "@millrace/controller";
import type { Telemetry } from "@millrace/telemetry";
import {
  logOfflineEvent,
  nodeFencedEvent,
  nodeRegisteredEvent,
  nodeStoppingEvent,
  objectsGauge,
  sequenceGauge,
  snapshotFailedEvent,
  taskAssignedEvent,
  topicCreatedEvent,
  topicDeletedEvent,
  watchersGauge,
} from "../events.ts";
import type { ActiveController, CommittedChange } from "./active-controller.ts";
import type { WatchHub } from "./watch-hub.ts";

/** Name of the service's part in readiness. */
const part = "metadata";

/** See the module's comment. */
export class Reporter {
  readonly #telemetry: Telemetry;

  constructor(telemetry: Telemetry) {
    this.#telemetry = telemetry;
    telemetry.readiness.set(part, { ready: false, reason: "starting" });
  }

  /** Exports gauges, and says that the service is ready. */
  observe(controller: ActiveController, hub: WatchHub): void {
    const { metrics, readiness } = this.#telemetry;
    metrics.observe(objectsGauge, () => {
      const { topics, nodes, connectors, tasks, producers } = controller.image;
      const counts = { topics, nodes, connectors, tasks, producers };
      return Object.entries(counts).map(([kind, things]) => ({ labels: { kind }, value: things.size }));
    });
    metrics.observe(sequenceGauge, () => [{ labels: {}, value: controller.position.sequence }]);
    metrics.observe(watchersGauge, () => [{ labels: {}, value: hub.watchers }]);
    readiness.set(part, { ready: true });
  }

  /** One line per thing that happened. */
  report({ records }: CommittedChange): void {
    for (const record of records) this.#reportRecord(record);
  }

  snapshotFailed(error: AppError): void {
    this.#telemetry.emit(snapshotFailedEvent, { error: error.message });
  }

  offline(error: AppError): void {
    this.#telemetry.emit(logOfflineEvent, { error: error.message });
    this.#telemetry.readiness.set(part, { ready: false, reason: error.message });
  }

  #reportRecord(record: MetadataRecord): void {
    const telemetry = this.#telemetry;
    switch (record.kind) {
      case "nodeRegistered":
        telemetry.emit(nodeRegisteredEvent, {
          ...{ nodeId: record.nodeId, role: record.role, nodeEpoch: record.nodeEpoch },
        });
        break;
      case "nodeFenced":
        telemetry.emit(nodeFencedEvent, { nodeId: record.nodeId, nodeEpoch: record.nodeEpoch });
        break;
      case "nodeStopping":
        telemetry.emit(nodeStoppingEvent, { nodeId: record.nodeId, nodeEpoch: record.nodeEpoch });
        break;
      case "topicCreated": {
        const { name: topic, topicId, partitions } = record;
        telemetry.emit(topicCreatedEvent, { topic, topicId, partitions: partitions.length });
        break;
      }
      case "topicDeleted":
        telemetry.emit(topicDeletedEvent, { topicId: record.topicId });
        break;
      case "taskAssigned": {
        const { connector, topicId, partition, instanceId, taskEpoch } = record;
        telemetry.emit(taskAssignedEvent, { connector, topicId, partition, instanceId, taskEpoch });
        break;
      }
      default:
        break;
    }
  }
}
