/** The image as clients see it. */
import type {
  ClusterImage,
  ConnectorImage,
  ImageChanges,
  NodeImage,
  NodeRoleName,
  NodeStateName,
  TaskImage,
  TopicImage,
} from "@millrace/controller";
import {
  type Connector,
  type MetadataDelta,
  type MetadataSnapshot,
  type Node,
  NodeRole,
  NodeState,
  type TaskAssignment,
  type Topic,
} from "@millrace/proto/metadata";

const roles: Readonly<Record<NodeRoleName, NodeRole>> = {
  metadata: NodeRole.METADATA,
  storage: NodeRole.STORAGE,
  agent: NodeRole.AGENT,
  connector: NodeRole.CONNECTOR,
};

const states: Readonly<Record<NodeStateName, NodeState>> = {
  alive: NodeState.ALIVE,
  fenced: NodeState.FENCED,
  stopping: NodeState.STOPPING,
};

/** The name of a role on the wire; undefined when it has none here. */
export function roleName(role: NodeRole): NodeRoleName | undefined {
  return (Object.keys(roles) as NodeRoleName[]).find((name) => roles[name] === role);
}

/** A topic. */
export function toTopic(topic: TopicImage): Topic {
  return {
    topicId: topic.topicId,
    name: topic.name,
    partitions: topic.partitions.map((state, partition) => ({
      partition,
      leaderId: state.leaderId,
      leaderEpoch: state.leaderEpoch,
      replicaIds: [...state.replicaIds],
      inSyncIds: [...state.inSyncIds],
      partitionEpoch: state.partitionEpoch,
    })),
    config: { ...topic.config },
    createdMs: topic.createdMs,
  };
}

/** A node. */
export function toNode(node: NodeImage): Node {
  const { nodeId, nodeEpoch, incarnation, directoryId, rack, version } = node;
  const listeners = node.listeners.map((listener) => ({ ...listener }));
  const role = roles[node.role];
  return {
    nodeId,
    role,
    nodeEpoch,
    incarnation,
    directoryId,
    listeners,
    state: states[node.state],
    rack,
    version,
  };
}

/** A connector. */
export function toConnector(connector: ConnectorImage): Connector {
  return { ...connector, topics: [...connector.topics] };
}

/** A task's assignment. */
export function toTask(task: TaskImage): TaskAssignment {
  return { ...task };
}

/** Everything. */
export function toSnapshot(image: ClusterImage): MetadataSnapshot {
  return {
    clusterId: image.clusterId,
    topics: [...image.topics.values()].map(toTopic),
    nodes: [...image.nodes.values()].map(toNode),
    connectors: [...image.connectors.values()].map(toConnector),
    tasks: [...image.tasks.values()].map(toTask),
    featureLevel: image.featureLevel,
    removedProducerIds: [...image.removedProducerIds.keys()],
  };
}

/** A change: the touched objects as `image` has them. */
export function toDelta(image: ClusterImage, changes: ImageChanges): MetadataDelta {
  return {
    topics: present(changes.topicIds, image.topics).map(toTopic),
    deletedTopicIds: [...changes.deletedTopicIds],
    nodes: present(changes.nodeIds, image.nodes).map(toNode),
    removedNodeIds: [...changes.removedNodeIds],
    connectors: present(changes.connectors, image.connectors).map(toConnector),
    deletedConnectors: [...changes.deletedConnectors],
    tasks: present(changes.tasks, image.tasks).map(toTask),
    endedTasks: changes.endedTasks.map(({ connector, topicId, partition, taskEpoch }) => ({
      ...{ connector, topicId, partition, taskEpoch },
      instanceId: "",
      incarnation: "",
    })),
    removedProducerIds: [...changes.removedProducerIds],
    featureLevel: changes.featureLevel,
  };
}

function present<T>(ids: ReadonlySet<string>, things: ReadonlyMap<string, T>): T[] {
  return [...ids].map((id) => things.get(id)).filter((thing) => thing !== undefined);
}
