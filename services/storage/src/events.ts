/** What the storage service logs and counts, declared once. */
import { declareCounter, declareEvent, declareGauge, declareHistogram } from "@millrace/telemetry";

export const storageStarted = declareEvent({
  name: "storage_started",
  level: "info",
  message: "Storage node started.",
  fields: {
    address: "client address",
    dataDir: "data directory",
    partitions: "partitions found",
    recoveryMs: "time of recovery, milliseconds",
    wasClean: "whether the last stop was clean",
  },
});

export const storageStopped = declareEvent({
  name: "storage_stopped",
  level: "info",
  message: "Storage node stopped.",
  fields: { address: "client address" },
});

export const nodeRegistered = declareEvent({
  name: "storage_node_registered",
  level: "info",
  message: "Registered with the controller.",
  fields: { clusterId: "cluster", nodeEpoch: "epoch of the registration" },
  counter: "storage_registrations_total",
});

export const registrationFailed = declareEvent({
  name: "storage_registration_failed",
  level: "warn",
  message: "Registration or heartbeat failed.",
  fields: { reason: "error reason", error: "what happened" },
  counter: "storage_registration_failures_total",
  labels: ["reason"],
  rateLimitMs: 10_000,
});

export const registrationRefused = declareEvent({
  name: "storage_registration_refused",
  level: "error",
  message: "The controller refuses this node for good.",
  fields: { reason: "error reason", error: "what happened and what to do" },
});

export const metadataWatchBroken = declareEvent({
  name: "storage_metadata_watch_broken",
  level: "warn",
  message: "The metadata watch broke; the node goes on with what it knows.",
  fields: { reason: "error reason", error: "what happened" },
  counter: "storage_metadata_watch_failures_total",
  labels: ["reason"],
  rateLimitMs: 10_000,
});

export const partitionOpened = declareEvent({
  name: "partition_opened",
  level: "info",
  message: "Partition opened.",
  fields: { partition: "topic and number", topicId: "topic id", endOffset: "next offset" },
});

export const partitionLed = declareEvent({
  name: "partition_led",
  level: "info",
  message: "This node leads the partition.",
  fields: {
    partition: "topic and number",
    leaderEpoch: "leader epoch",
    endOffset: "offset at which it begins",
  },
  counter: "storage_leader_changes_total",
});

export const partitionDeleted = declareEvent({
  name: "partition_deleted",
  level: "info",
  message: "Partition deleted: its topic was deleted or it was moved away.",
  fields: { partition: "topic and number", topicId: "topic id" },
});

export const partitionFailed = declareEvent({
  name: "partition_failed",
  level: "error",
  message: "A partition cannot be served.",
  fields: { partition: "topic and number", reason: "error reason", error: "what happened" },
  counter: "storage_partition_failures_total",
  labels: ["reason"],
  rateLimitMs: 10_000,
});

export const staleLeaderEpoch = declareEvent({
  name: "partition_epoch_went_back",
  level: "error",
  message: "The controller names a leader epoch below the one on disk; the partition is not served.",
  fields: { partition: "topic and number", leaderEpoch: "told", ownEpoch: "on disk" },
});

export const sequenceReset = declareEvent({
  name: "producer_sequence_reset",
  level: "warn",
  message: "A named producer went on behind a gap: the records between are lost (rule P5).",
  fields: {
    partition: "topic and number",
    producerId: "producer id",
    producerEpoch: "producer epoch",
    lastSequence: "last wire sequence held; -1 = none",
    sequence: "wire sequence it goes on at",
  },
  counter: "storage_sequence_resets_total",
});

export const producerRemoved = declareEvent({
  name: "producer_removed",
  level: "info",
  message: "A named producer was removed; its state is forgotten.",
  fields: { partition: "topic and number", producerId: "producer id" },
});

export const directoryEvent = declareEvent({
  name: "data_directory_event",
  level: "debug",
  message: "The data directory reports.",
  fields: { kind: "what", details: "details as JSON" },
  counter: "storage_directory_events_total",
  labels: ["kind"],
});

export const directoryAlarm = declareEvent({
  name: "data_directory_alarm",
  level: "error",
  message: "The data directory reports damage.",
  fields: { kind: "what", details: "details as JSON" },
  counter: "storage_directory_alarms_total",
  labels: ["kind"],
});

export const directoryOffline = declareEvent({
  name: "data_directory_offline",
  level: "error",
  message: "The data directory is offline after a disk error; restart the node when the disk is well.",
  fields: { error: "what happened" },
});

export const producedBytes = declareCounter({
  name: "storage_produced_bytes_total",
  help: "Bytes of batches appended.",
});
export const producedRecords = declareCounter({
  name: "storage_produced_records_total",
  help: "Records appended.",
});
export const producedBatches = declareCounter({
  name: "storage_produced_batches_total",
  help: "Batches appended.",
});
export const duplicateBatches = declareCounter({
  name: "storage_duplicate_batches_total",
  help: "Batches recognised as repetitions (rule P3).",
});
export const refusedBatches = declareCounter({
  name: "storage_refused_batches_total",
  help: "Batches refused, by reason.",
  labels: ["reason"],
});
export const fetchedBytes = declareCounter({
  name: "storage_fetched_bytes_total",
  help: "Bytes of batches sent to readers.",
});
export const openStreams = declareGauge({
  name: "storage_open_streams",
  help: "Open produce and fetch streams.",
  labels: ["kind"],
});
export const hostedPartitions = declareGauge({
  name: "storage_partitions",
  help: "Partitions, by whether this node serves them now.",
  labels: ["state"],
});
export const logBytes = declareGauge({ name: "storage_log_bytes", help: "Bytes of all partitions on disk." });
export const appendSeconds = declareHistogram({
  name: "storage_append_seconds",
  help: "From the arrival of a batch to its durability.",
});
