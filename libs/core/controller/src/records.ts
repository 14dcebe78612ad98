/**
 * The metadata log's vocabulary: plain unions, one per kind of change (design §4).
 *
 * A record states a fact that has been decided; replaying all records in order gives every replica the same image.
 * `libs/coordination` alone maps them to protobuf. A new kind is a new feature level.
 */

/** What a node does. */
export type NodeRoleName = "metadata" | "storage" | "agent" | "connector";

/** A node's state as the controller sees it. */
export type NodeStateName = "alive" | "fenced" | "stopping";

/** Where a node is reached. */
export interface ListenerAddress {
  /** `client` or `internal`. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** State of a partition. */
export interface PartitionState {
  /** Node id of the leader; empty when there is none. */
  readonly leaderId: string;
  /** +1 at every change of leader, to none and from none included. */
  readonly leaderEpoch: number;
  /** Node ids, preferred leader first. */
  readonly replicaIds: readonly string[];
  /** In-sync replicas; the last one stays in when it is fenced. */
  readonly inSyncIds: readonly string[];
  /** +1 at every change of this description. */
  readonly partitionEpoch: number;
}

/** The first record of every log. */
export interface ClusterCreated {
  readonly kind: "clusterCreated";
  readonly clusterId: string;
  readonly createdMs: number;
}

/** From here on records of this feature level may appear. */
export interface FeatureLevelSet {
  readonly kind: "featureLevelSet";
  readonly level: number;
}

/** The controller that appended this is the active one, until the next such record. */
export interface ControllerElected {
  readonly kind: "controllerElected";
  readonly controllerId: string;
  readonly epoch: number;
}

/** A topic came to be (L3: its id is new for ever). */
export interface TopicCreated {
  readonly kind: "topicCreated";
  readonly topicId: string;
  readonly name: string;
  /** Keys that were set; the rest are defaults. */
  readonly config: Readonly<Record<string, string>>;
  readonly createdMs: number;
  readonly partitions: readonly PartitionState[];
}

/** A topic's keys from now on. */
export interface TopicConfigChanged {
  readonly kind: "topicConfigChanged";
  readonly topicId: string;
  /** All keys that are set now. */
  readonly config: Readonly<Record<string, string>>;
}

/** A topic is gone, with its tasks. */
export interface TopicDeleted {
  readonly kind: "topicDeleted";
  readonly topicId: string;
}

/** A partition's new state. Leader epochs never fall; partition epochs rise by one. */
export interface PartitionChanged {
  readonly kind: "partitionChanged";
  readonly topicId: string;
  readonly partition: number;
  readonly state: PartitionState;
}

/** A start of a node was accepted (L1, L2). */
export interface NodeRegistered {
  readonly kind: "nodeRegistered";
  readonly nodeId: string;
  readonly role: NodeRoleName;
  readonly nodeEpoch: number;
  /** Id of the process's start. */
  readonly incarnation: string;
  /** Empty for nodes without a data directory. */
  readonly directoryId: string;
  /** Last entry of the directory's start history; empty without a directory. */
  readonly startId: string;
  readonly listeners: readonly ListenerAddress[];
  readonly rack: string;
  readonly version: string;
  /** `alive` when it registers; other states only in snapshots. */
  readonly state: NodeStateName;
}

/** A node's heartbeats stopped. */
export interface NodeFenced {
  readonly kind: "nodeFenced";
  readonly nodeId: string;
  readonly nodeEpoch: number;
}

/** A node said that it is stopping. */
export interface NodeStopping {
  readonly kind: "nodeStopping";
  readonly nodeId: string;
  readonly nodeEpoch: number;
}

/** A node is forgotten; its directory's lineage is not. */
export interface NodeRemoved {
  readonly kind: "nodeRemoved";
  readonly nodeId: string;
}

/** Anonymous producer ids below `nextId` are given out or given up (P1). */
export interface ProducerIdsAllocated {
  readonly kind: "producerIdsAllocated";
  readonly nextId: number;
}

/** A named producer's id and epoch from now on (P1, P2). */
export interface ProducerNamed {
  readonly kind: "producerNamed";
  readonly name: string;
  readonly producerId: number;
  readonly producerEpoch: number;
  /** Last entry of its owner's start history; empty when it has none. */
  readonly startId: string;
  /** Id the name had before its epochs were used up; 0 = none. */
  readonly previousProducerId: number;
}

/** A named producer was removed by name; its state on storage nodes may go. */
export interface ProducerRemoved {
  readonly kind: "producerRemoved";
  /** Empty in snapshots, where only the id is left. */
  readonly name: string;
  readonly producerId: number;
}

/** A connector came to be, or came back under its name (C9). */
export interface ConnectorCreated {
  readonly kind: "connectorCreated";
  readonly name: string;
  readonly connectorId: string;
  readonly topics: readonly string[];
  readonly sinkConfigJson: string;
  readonly generation: number;
  readonly createdMs: number;
}

/** A connector is gone, with its tasks; its id and task epochs are remembered (C9). */
export interface ConnectorDeleted {
  readonly kind: "connectorDeleted";
  readonly name: string;
}

/** Who runs a task from now on (C1). */
export interface TaskAssigned {
  readonly kind: "taskAssigned";
  readonly connector: string;
  readonly topicId: string;
  readonly partition: number;
  /** Empty while no instance is alive. */
  readonly instanceId: string;
  readonly incarnation: string;
  /** +1 at every change of instance. */
  readonly taskEpoch: number;
}

/** A task ended because its connector no longer delivers the partition. */
export interface TaskEnded {
  readonly kind: "taskEnded";
  readonly connector: string;
  readonly topicId: string;
  readonly partition: number;
  /** The last epoch it had. */
  readonly taskEpoch: number;
}

/** What a request was and what was answered: enough to recognise and answer its repetition. */
export interface RequestAnswered {
  readonly kind: "requestAnswered";
  readonly requestId: string;
  readonly answer: Answer;
  /** Sequence it was answered at; 0 in the log (its batch's), set in snapshots. */
  readonly sequence: number;
}

/** Snapshots only: a directory's lineage that outlives its node (L1). */
export interface LineageSeen {
  readonly kind: "lineageSeen";
  readonly directoryId: string;
  readonly nodeId: string;
  readonly startId: string;
}

/** Snapshots only: what is remembered of a connector's name (C9). */
export interface ConnectorRemembered {
  readonly kind: "connectorRemembered";
  readonly name: string;
  readonly connectorId: string;
  readonly generation: number;
  readonly taskEpochFloor: number;
}

/** Ids at or below these were given out or seen; nothing is issued at or below (design §4). */
export interface FloorsRaised {
  readonly kind: "floorsRaised";
  readonly nodeEpoch: number;
  readonly anonymousProducerId: number;
  readonly namedProducerId: number;
}

/** One change of the cluster's metadata. */
export type MetadataRecord =
  | ClusterCreated
  | FeatureLevelSet
  | ControllerElected
  | TopicCreated
  | TopicConfigChanged
  | TopicDeleted
  | PartitionChanged
  | NodeRegistered
  | NodeFenced
  | NodeStopping
  | NodeRemoved
  | ProducerIdsAllocated
  | ProducerNamed
  | ProducerRemoved
  | ConnectorCreated
  | ConnectorDeleted
  | TaskAssigned
  | TaskEnded
  | RequestAnswered
  | LineageSeen
  | ConnectorRemembered
  | FloorsRaised;

/** What a command did, as its caller is told. `subject` is the name or id the request was about. */
export type Answer =
  | { readonly kind: "topicCreated"; readonly subject: string; readonly topicId: string }
  | { readonly kind: "topicDeleted"; readonly subject: string; readonly topicId: string }
  | { readonly kind: "topicAltered"; readonly subject: string; readonly topicId: string }
  | { readonly kind: "nodeRegistered"; readonly subject: string; readonly nodeEpoch: number }
  | {
      readonly kind: "producerNamed";
      readonly subject: string;
      readonly producerId: number;
      readonly producerEpoch: number;
    }
  | { readonly kind: "producerRemoved"; readonly subject: string; readonly producerId: number }
  | { readonly kind: "connectorCreated"; readonly subject: string; readonly connectorId: string }
  | { readonly kind: "connectorDeleted"; readonly subject: string };
