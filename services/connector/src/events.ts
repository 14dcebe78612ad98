/** What the connector service logs and counts, declared once. */
import { declareCounter, declareEvent, declareGauge } from "@millrace/telemetry";

const task = {
  connector: "name of the connector",
  topic: "name of the topic",
  partition: "partition number",
  taskEpoch: "epoch of the task",
} as const;

export const connectorServiceStarted = declareEvent({
  name: "connector_service_started",
  level: "info",
  message: "Connector service started.",
  fields: { dataDir: "data directory" },
});

export const connectorServiceStopped = declareEvent({
  name: "connector_service_stopped",
  level: "info",
  message: "Connector service stopped.",
  fields: { tasks: "tasks it ran" },
});

export const connectorRegistered = declareEvent({
  name: "connector_node_registered",
  level: "info",
  message: "Connector instance registered with the controller.",
  fields: { clusterId: "cluster", nodeEpoch: "epoch of the registration" },
  counter: "connector_registrations_total",
});

export const connectorRegistrationFailed = declareEvent({
  name: "connector_registration_failed",
  level: "warn",
  message: "Registration or heartbeat of the connector instance failed.",
  fields: { reason: "error reason", error: "what happened" },
  counter: "connector_registration_failures_total",
  labels: ["reason"],
  rateLimitMs: 10_000,
});

export const connectorRegistrationRefused = declareEvent({
  name: "connector_registration_refused",
  level: "error",
  message: "The controller refuses this connector instance for good.",
  fields: { reason: "error reason", error: "what happened and what to do" },
});

export const connectorWatchBroken = declareEvent({
  name: "connector_metadata_watch_broken",
  level: "warn",
  message: "The metadata watch of the connector instance broke; its tasks go on.",
  fields: { reason: "error reason", error: "what happened" },
  counter: "connector_metadata_watch_failures_total",
  labels: ["reason"],
  rateLimitMs: 10_000,
});

export const taskStarted = declareEvent({
  name: "connector_task_started",
  level: "info",
  message: "Task started.",
  fields: { ...task, offset: "offset it goes on from" },
  counter: "connector_tasks_started_total",
  labels: ["connector"],
});

export const taskStopped = declareEvent({
  name: "connector_task_stopped",
  level: "info",
  message: "Task stopped.",
  fields: { ...task, why: "moved, ended or leaving", offset: "offset below which everything is delivered" },
});

export const taskFailed = declareEvent({
  name: "connector_task_failed",
  level: "error",
  message: "Task failed; it is opened again.",
  fields: { ...task, reason: "error reason", error: "what happened and what to do", retryMs: "pause before" },
  counter: "connector_task_failures_total",
  labels: ["connector", "reason"],
  rateLimitMs: 10_000,
});

/** The same for what belongs to the life of a cluster: a task that moved, a topic that was deleted, a node away. */
export const taskInterrupted = declareEvent({
  name: "connector_task_interrupted",
  level: "warn",
  message: "Task interrupted; it is opened again unless it moved or ended.",
  fields: { ...task, reason: "error reason", error: "what happened", retryMs: "pause before" },
  counter: "connector_task_interruptions_total",
  labels: ["connector", "reason"],
  rateLimitMs: 10_000,
});

export const taskOvertaken = declareEvent({
  name: "connector_overtaken_by_retention",
  level: "error",
  message: "Retention removed records before they were delivered; they are lost to this connector.",
  fields: {
    ...task,
    fromOffset: "first offset lost",
    toOffset: "offset it goes on from",
    records: "offsets lost",
  },
  counter: "connector_overtaken_total",
  labels: ["connector"],
});

export const topicGone = declareEvent({
  name: "connector_topic_deleted",
  level: "warn",
  message: "The topic was deleted before everything in it was delivered.",
  fields: { ...task, undelivered: "offsets not delivered, as far as heard of" },
});

export const recordsSetAside = declareEvent({
  name: "connector_dead_letter",
  level: "warn",
  message: "Records that can never be delivered were set aside as dead letters.",
  fields: {
    ...task,
    reason: "why",
    fromOffset: "first offset",
    toOffset: "offset after the last",
    file: "where the dead letters are",
  },
  counter: "connector_dead_letters_total",
  labels: ["connector", "reason"],
  rateLimitMs: 1_000,
});

/** Tasks by state. */
export const tasksByState = declareGauge({
  name: "connector_tasks",
  help: "Tasks of this instance by state.",
  labels: ["connector", "state"],
});

/** Offsets not delivered yet. */
export const lagRecords = declareGauge({
  name: "connector_lag_records",
  help: "Offsets between what is delivered and the end of the log, as last heard of, over the tasks of this instance.",
  labels: ["connector"],
});

/** Records handed to sinks. */
export const recordsRead = declareCounter({
  name: "connector_records_read_total",
  help: "Records read from topics and handed to sinks.",
  labels: ["connector"],
});
