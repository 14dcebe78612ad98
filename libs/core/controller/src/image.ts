/**
 * The cluster's metadata as it stands after a batch of the log: an immutable value. `applyRecords` makes the next one
 * and shares what did not change, so that decisions can be tried on a copy and thrown away.
 */
import type {
  Answer,
  ConnectorCreated,
  NodeRegistered,
  PartitionState,
  ProducerNamed,
  TaskAssigned,
} from "./records.ts";

/** A topic. */
export interface TopicImage {
  readonly topicId: string;
  readonly name: string;
  readonly config: Readonly<Record<string, string>>;
  readonly createdMs: number;
  readonly partitions: readonly PartitionState[];
}

/** A registered node. */
export type NodeImage = Omit<NodeRegistered, "kind">;

/** A connector. */
export type ConnectorImage = Omit<ConnectorCreated, "kind">;

/** A task's assignment. */
export type TaskImage = Omit<TaskAssigned, "kind">;

/** A named producer. */
export type ProducerImage = Omit<ProducerNamed, "kind">;

/** The last accepted start of a data directory (L1). */
export interface LineageImage {
  readonly nodeId: string;
  readonly startId: string;
}

/** What is remembered of a connector's name after its deletion (C9). */
export interface ConnectorMemory {
  readonly connectorId: string;
  readonly generation: number;
  /** No task of the name gets an epoch at or below. */
  readonly taskEpochFloor: number;
}

/** A request that was answered, and at which sequence. */
export interface AnsweredRequest {
  readonly answer: Answer;
  readonly sequence: number;
}

/** The whole metadata. */
export interface ClusterImage {
  /** Sequence of the last batch in it; 0 = empty. */
  readonly sequence: number;
  readonly clusterId: string;
  readonly createdMs: number;
  readonly featureLevel: number;
  readonly controllerId: string;
  readonly controllerEpoch: number;
  /** By topic id. */
  readonly topics: ReadonlyMap<string, TopicImage>;
  /** Topic id by name. */
  readonly topicIds: ReadonlyMap<string, string>;
  /** By node id. */
  readonly nodes: ReadonlyMap<string, NodeImage>;
  /** By directory id. */
  readonly lineages: ReadonlyMap<string, LineageImage>;
  /** Highest node epoch given out or seen. */
  readonly nodeEpochFloor: number;
  /** By name. */
  readonly connectors: ReadonlyMap<string, ConnectorImage>;
  /** By name. */
  readonly connectorMemory: ReadonlyMap<string, ConnectorMemory>;
  /** By {@link taskKey}. */
  readonly tasks: ReadonlyMap<string, TaskImage>;
  /** By name. */
  readonly producers: ReadonlyMap<string, ProducerImage>;
  /** Next anonymous producer id to allocate. */
  readonly anonymousProducerIdNext: number;
  /** Next named producer id. */
  readonly namedProducerIdNext: number;
  /** Ids of removed named producers, oldest first. */
  readonly removedProducerIds: ReadonlyMap<number, true>;
  /** By request id, in order of their sequences. */
  readonly requests: ReadonlyMap<string, AnsweredRequest>;
}

/** The image before the first record. Producer ids start at 1: 0 is what an unset field reads as. */
export const emptyImage: ClusterImage = {
  sequence: 0,
  clusterId: "",
  createdMs: 0,
  featureLevel: 0,
  controllerId: "",
  controllerEpoch: 0,
  topics: new Map(),
  topicIds: new Map(),
  nodes: new Map(),
  lineages: new Map(),
  nodeEpochFloor: 0,
  connectors: new Map(),
  connectorMemory: new Map(),
  tasks: new Map(),
  producers: new Map(),
  anonymousProducerIdNext: 1,
  namedProducerIdNext: 2 ** 40,
  removedProducerIds: new Map(),
  requests: new Map(),
};

/** Key of a task: a connector's partition. */
export function taskKey(task: {
  readonly connector: string;
  readonly topicId: string;
  readonly partition: number;
}): string {
  return `${task.connector}/${task.topicId}/${task.partition}`;
}

/** The topic of a name, if there is one. */
export function topicByName(image: ClusterImage, name: string): TopicImage | undefined {
  const topicId = image.topicIds.get(name);
  return topicId === undefined ? undefined : image.topics.get(topicId);
}

/** Nodes of a role that are alive, by id. */
export function aliveNodes(image: ClusterImage, role: NodeImage["role"]): NodeImage[] {
  return [...image.nodes.values()]
    .filter((node) => node.role === role && node.state === "alive")
    .sort((a, b) => compareText(a.nodeId, b.nodeId));
}

/** Order of ids and names: by code units, the same on every machine. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
