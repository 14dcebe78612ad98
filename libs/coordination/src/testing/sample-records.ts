/** One record of every kind with every field set: what the codec and the engines must carry. For tests. */
import type { Answer, MetadataRecord, PartitionState } from "@millrace/controller";

const state: PartitionState = {
  leaderId: "storage-1",
  leaderEpoch: 7,
  replicaIds: ["storage-1", "storage-2"],
  inSyncIds: ["storage-1"],
  partitionEpoch: 9,
};

const leaderless: PartitionState = { ...state, leaderId: "", inSyncIds: ["storage-2"] };

const answers: readonly Answer[] = [
  { kind: "topicCreated", subject: "logs", topicId: "T" },
  { kind: "topicDeleted", subject: "logs", topicId: "T" },
  { kind: "topicAltered", subject: "logs", topicId: "T" },
  { kind: "nodeRegistered", subject: "storage-1", nodeEpoch: 2 ** 40 },
  { kind: "producerNamed", subject: "agent/ä", producerId: 2 ** 40 + 5, producerEpoch: 32_767 },
  { kind: "producerRemoved", subject: "agent/ä", producerId: 0 },
  { kind: "connectorCreated", subject: "out", connectorId: "C" },
  { kind: "connectorDeleted", subject: "out" },
];

/** See the module's comment. */
export const sampleRecords: readonly MetadataRecord[] = [
  { kind: "clusterCreated", clusterId: "cluster", createdMs: 1_750_000_000_000 },
  { kind: "featureLevelSet", level: 1 },
  { kind: "controllerElected", controllerId: "metadata-1", epoch: 12 },
  {
    kind: "topicCreated",
    topicId: "T",
    name: "logs",
    config: { "retention.ms": "1", "segment.bytes": "1048576" },
    createdMs: 5,
    partitions: [state, leaderless],
  },
  { kind: "topicConfigChanged", topicId: "T", config: {} },
  { kind: "topicDeleted", topicId: "T" },
  { kind: "partitionChanged", topicId: "T", partition: 1, state: leaderless },
  ...(["metadata", "storage", "agent", "connector"] as const).map(
    (role): MetadataRecord => ({
      kind: "nodeRegistered",
      nodeId: `${role}-1`,
      role,
      nodeEpoch: 3,
      incarnation: "I",
      directoryId: role === "connector" ? "" : "D",
      startId: role === "connector" ? "" : "S",
      listeners: [{ name: "client", host: "h", port: 9751, tls: true }],
      rack: "r1",
      version: "0.1.0",
      state: role === "agent" ? "fenced" : role === "metadata" ? "stopping" : "alive",
    }),
  ),
  { kind: "nodeFenced", nodeId: "storage-1", nodeEpoch: 3 },
  { kind: "nodeStopping", nodeId: "storage-1", nodeEpoch: 3 },
  { kind: "nodeRemoved", nodeId: "agent-1" },
  { kind: "producerIdsAllocated", nextId: 1001 },
  {
    kind: "producerNamed",
    name: "agent/ä",
    producerId: 2 ** 40 + 5,
    producerEpoch: 32_767,
    startId: "S",
    previousProducerId: 2 ** 40 + 1,
  },
  { kind: "producerRemoved", name: "agent/ä", producerId: 2 ** 40 + 5 },
  {
    kind: "connectorCreated",
    name: "out",
    connectorId: "C",
    topics: ["logs", "other"],
    sinkConfigJson: '{"type":"file"}',
    generation: 2,
    createdMs: 6,
  },
  { kind: "connectorDeleted", name: "out" },
  {
    kind: "taskAssigned",
    connector: "out",
    topicId: "T",
    partition: 1,
    instanceId: "connector-1",
    incarnation: "I",
    taskEpoch: 4,
  },
  { kind: "taskEnded", connector: "out", topicId: "T", partition: 1, taskEpoch: 4 },
  ...answers.map(
    (answer, index): MetadataRecord => ({
      kind: "requestAnswered",
      requestId: `r${index}`,
      answer,
      sequence: index * 1000,
    }),
  ),
  { kind: "lineageSeen", directoryId: "D", nodeId: "storage-1", startId: "S" },
  { kind: "connectorRemembered", name: "out", connectorId: "C", generation: 2, taskEpochFloor: 4 },
  { kind: "floorsRaised", nodeEpoch: 9, anonymousProducerId: 1000, namedProducerId: 2 ** 40 + 9 },
];
