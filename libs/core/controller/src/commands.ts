/** What the controller can be asked, as plain data. */
import type { ControllerLimits } from "./limits.ts";
import type { Answer, ListenerAddress, MetadataRecord, NodeRoleName } from "./records.ts";

/** Creates a topic. */
export interface CreateTopic {
  readonly kind: "createTopic";
  readonly requestId: string;
  readonly name: string;
  /** 0 = the cluster's default. */
  readonly partitionCount: number;
  /** 0 = the cluster's default. */
  readonly replicationFactor: number;
  readonly config: Readonly<Record<string, string>>;
}

/** Deletes a topic by name or id (exactly one is given). */
export interface DeleteTopic {
  readonly kind: "deleteTopic";
  readonly requestId: string;
  readonly name: string;
  readonly topicId: string;
}

/** Changes a topic's configuration. */
export interface AlterTopic {
  readonly kind: "alterTopic";
  readonly requestId: string;
  readonly name: string;
  readonly set: Readonly<Record<string, string>>;
  readonly unset: readonly string[];
}

/** The highest leader epoch a directory has seen of one partition. */
export interface SeenLeaderEpoch {
  readonly topicId: string;
  readonly partition: number;
  readonly leaderEpoch: number;
}

/** Registers a start of a node. */
export interface RegisterNode {
  readonly kind: "registerNode";
  readonly requestId: string;
  readonly nodeId: string;
  readonly role: NodeRoleName;
  readonly incarnation: string;
  readonly directoryId: string;
  /** Start history, oldest first, this start last (L1). */
  readonly starts: readonly string[];
  readonly listeners: readonly ListenerAddress[];
  readonly rack: string;
  readonly version: string;
  readonly seenNodeEpoch: number;
  readonly seenProducerId: number;
  /** Highest id of a named producer; 0 = none was seen. */
  readonly seenNamedProducerId: number;
  readonly seenEpochs: readonly SeenLeaderEpoch[];
}

/** A registration's session ended without a heartbeat. */
export interface NodeTimedOut {
  readonly kind: "nodeTimedOut";
  readonly nodeId: string;
  readonly nodeEpoch: number;
}

/** A node says that it stops. */
export interface StopNode {
  readonly kind: "stopNode";
  readonly nodeId: string;
  readonly nodeEpoch: number;
}

/** Gives a named producer its id and next epoch (P1, P2). */
export interface InitProducer {
  readonly kind: "initProducer";
  readonly requestId: string;
  readonly name: string;
  /** Start history of its owner, oldest first; may be empty. */
  readonly lineage: readonly string[];
}

/** Takes a block of anonymous producer ids (P1). */
export interface AllocateProducerIds {
  readonly kind: "allocateProducerIds";
  readonly count: number;
}

/** Removes a named producer. */
export interface RemoveProducer {
  readonly kind: "removeProducer";
  readonly requestId: string;
  readonly name: string;
}

/** Creates a connector. */
export interface CreateConnector {
  readonly kind: "createConnector";
  readonly requestId: string;
  readonly name: string;
  readonly topics: readonly string[];
  readonly sinkConfigJson: string;
  /** True: a new connector id, nothing is resumed (C9). */
  readonly reset: boolean;
}

/** Deletes a connector. */
export interface DeleteConnector {
  readonly kind: "deleteConnector";
  readonly requestId: string;
  readonly name: string;
}

/** Makes the cluster (first start of a log) and elects a controller. */
export interface ElectController {
  readonly kind: "electController";
  readonly controllerId: string;
}

/** A request for a change. */
export type Command =
  | CreateTopic
  | DeleteTopic
  | AlterTopic
  | RegisterNode
  | NodeTimedOut
  | StopNode
  | InitProducer
  | AllocateProducerIds
  | RemoveProducer
  | CreateConnector
  | DeleteConnector
  | ElectController;

/** What a decision depends on beside the image: everything impure comes in here. */
export interface DecisionInputs {
  /** Wall clock, epoch milliseconds; goes into created objects, decides nothing. */
  readonly nowMs: number;
  /** A fresh random id, used for whatever the command creates. */
  readonly newId: string;
  readonly limits: ControllerLimits;
  readonly defaultPartitionCount: number;
  readonly defaultReplicationFactor: number;
}

/** What is to be appended, and what the caller is told once it is. */
export interface Decision {
  readonly records: readonly MetadataRecord[];
  readonly answer: Answer | undefined;
}
