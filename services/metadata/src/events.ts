/** What the metadata service logs and counts. */
import { declareEvent, declareGauge } from "@millrace/telemetry";

/** Registered and accepted. */
export const nodeRegisteredEvent = declareEvent({
  name: "node_registered",
  level: "info",
  message: "Node registered.",
  fields: { nodeId: "the node", role: "what it does", nodeEpoch: "epoch of the registration" },
  counter: "metadata_nodes_registered_total",
  labels: ["role"],
});

/** Its session ended. */
export const nodeFencedEvent = declareEvent({
  name: "node_fenced",
  level: "warn",
  message: "Node fenced: its heartbeats stopped.",
  fields: { nodeId: "the node", nodeEpoch: "epoch of the registration that ended" },
  counter: "metadata_nodes_fenced_total",
});

/** It said so. */
export const nodeStoppingEvent = declareEvent({
  name: "node_stopping",
  level: "info",
  message: "Node is stopping.",
  fields: { nodeId: "the node", nodeEpoch: "epoch of its registration" },
});

/** A topic was created. */
export const topicCreatedEvent = declareEvent({
  name: "topic_created",
  level: "info",
  message: "Topic created.",
  fields: { topic: "its name", topicId: "its id", partitions: "number of partitions" },
});

/** A topic was deleted. */
export const topicDeletedEvent = declareEvent({
  name: "topic_deleted",
  level: "info",
  message: "Topic deleted.",
  fields: { topicId: "its id" },
});

/** A task moved or was assigned for the first time. */
export const taskAssignedEvent = declareEvent({
  name: "task_assigned",
  level: "info",
  message: "Connector task assigned.",
  fields: {
    connector: "name of the connector",
    topicId: "topic id",
    partition: "partition number",
    instanceId: "who runs it; empty while nobody is alive",
    taskEpoch: "epoch of the assignment",
  },
  counter: "metadata_tasks_assigned_total",
});

/** The torn end of the last append was cut at start. */
export const tornTailCutEvent = declareEvent({
  name: "metadata_torn_tail_cut",
  level: "warn",
  message: "The metadata log ended in an unfinished append, which was cut.",
  fields: { bytes: "bytes cut" },
});

/** A snapshot could not be saved; the log keeps everything meanwhile. */
export const snapshotFailedEvent = declareEvent({
  name: "metadata_snapshot_failed",
  level: "error",
  message: "A snapshot of the metadata could not be saved; the log keeps growing until one is.",
  fields: { error: "what went wrong" },
  counter: "metadata_snapshots_failed_total",
});

/** The log takes no changes any more. */
export const logOfflineEvent = declareEvent({
  name: "metadata_log_offline",
  level: "error",
  message: "The metadata log is offline after a disk error; restart the service when the disk is well.",
  fields: { error: "what went wrong" },
  counter: "metadata_log_offline_total",
});

/** Objects in the metadata. */
export const objectsGauge = declareGauge({
  name: "metadata_objects",
  help: "Objects in the metadata, by kind.",
  labels: ["kind"],
});

/** Last sequence of the log. */
export const sequenceGauge = declareGauge({
  name: "metadata_log_sequence",
  help: "Sequence of the last committed change.",
});

/** Open watches. */
export const watchersGauge = declareGauge({
  name: "metadata_watchers",
  help: "Open metadata watches.",
});
