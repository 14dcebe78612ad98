/** What a batch of records touched, for watchers: ids only, the objects are read from the image after it. */
import { taskKey } from "./image.ts";
import type { MetadataRecord, TaskEnded } from "./records.ts";

/** Ids that a batch created, changed or ended. */
export interface ImageChanges {
  readonly topicIds: ReadonlySet<string>;
  readonly deletedTopicIds: ReadonlySet<string>;
  readonly nodeIds: ReadonlySet<string>;
  readonly removedNodeIds: ReadonlySet<string>;
  readonly connectors: ReadonlySet<string>;
  readonly deletedConnectors: ReadonlySet<string>;
  /** Keys of tasks. */
  readonly tasks: ReadonlySet<string>;
  readonly endedTasks: readonly TaskEnded[];
  readonly removedProducerIds: readonly number[];
  /** 0 = unchanged. */
  readonly featureLevel: number;
}

/** The changes of a batch, in the order they were made. */
export function changesOf(records: readonly MetadataRecord[]): ImageChanges {
  const changes = new Collector();
  for (const record of records) {
    changes.noteTopicOrNode(record);
    changes.noteConnectorOrProducer(record);
  }
  return changes;
}

/** What is noted last about an id is what holds. */
class Collector implements ImageChanges {
  readonly topicIds = new Set<string>();
  readonly deletedTopicIds = new Set<string>();
  readonly nodeIds = new Set<string>();
  readonly removedNodeIds = new Set<string>();
  readonly connectors = new Set<string>();
  readonly deletedConnectors = new Set<string>();
  readonly tasks = new Set<string>();
  readonly #ended = new Map<string, TaskEnded>();
  readonly removedProducerIds: number[] = [];
  featureLevel = 0;

  get endedTasks(): readonly TaskEnded[] {
    return [...this.#ended.values()];
  }

  noteTopicOrNode(record: MetadataRecord): void {
    switch (record.kind) {
      case "topicCreated":
      case "topicConfigChanged":
      case "partitionChanged":
        this.topicIds.add(record.topicId);
        break;
      case "topicDeleted":
        move(record.topicId, this.topicIds, this.deletedTopicIds);
        break;
      case "nodeRegistered":
        move(record.nodeId, this.removedNodeIds, this.nodeIds);
        break;
      case "nodeFenced":
      case "nodeStopping":
        this.nodeIds.add(record.nodeId);
        break;
      case "nodeRemoved":
        move(record.nodeId, this.nodeIds, this.removedNodeIds);
        break;
      default:
        break;
    }
  }

  noteConnectorOrProducer(record: MetadataRecord): void {
    switch (record.kind) {
      case "connectorCreated":
        move(record.name, this.deletedConnectors, this.connectors);
        break;
      case "connectorDeleted":
        move(record.name, this.connectors, this.deletedConnectors);
        break;
      case "taskAssigned":
        this.#ended.delete(taskKey(record));
        this.tasks.add(taskKey(record));
        break;
      case "taskEnded":
        this.tasks.delete(taskKey(record));
        this.#ended.set(taskKey(record), record);
        break;
      case "producerRemoved":
        this.removedProducerIds.push(record.producerId);
        break;
      case "featureLevelSet":
        this.featureLevel = record.level;
        break;
      default:
        break;
    }
  }
}

function move(id: string, from: Set<string>, to: Set<string>): void {
  from.delete(id);
  to.add(id);
}
