/** What channels log and count. */
import { declareCounter, declareEvent, declareGauge } from "@millrace/telemetry";

/** Records put into a channel. */
export const channelPutTotal = declareCounter({
  name: "channel_put_records_total",
  help: "Records put into a channel since the start of the process.",
  labels: ["channel"],
});

/** Records committed by takers. */
export const channelDeliveredTotal = declareCounter({
  name: "channel_delivered_records_total",
  help: "Records of a channel that its sinks delivered since the start of the process.",
  labels: ["channel"],
});

/** Undelivered records. */
export const channelDepthRecords = declareGauge({
  name: "channel_depth_records",
  help: "Records put into a channel and not yet delivered.",
  labels: ["channel"],
});

/** Their bytes. */
export const channelDepthBytes = declareGauge({
  name: "channel_depth_bytes",
  help: "Bytes of the records put into a channel and not yet delivered.",
  labels: ["channel"],
});

/** Capacity in records. */
export const channelCapacityRecords = declareGauge({
  name: "channel_capacity_records",
  help: "Records a channel takes before its sources wait.",
  labels: ["channel"],
});

/** Flushed data of a channel that can no longer be read. */
export const channelRecordsLost = declareEvent({
  name: "channel_records_lost",
  level: "error",
  message: "Records of a channel cannot be read from disk any more and are skipped.",
  fields: {
    channel: "name of the channel",
    fromSequence: "first sequence lost",
    toSequence: "sequence after the last one lost",
    error: "what the log says",
  },
});

/** The take position could not be saved now. */
export const channelSaveFailed = declareEvent({
  name: "channel_save_failed",
  level: "error",
  message:
    "The take position of a channel could not be saved: after a crash its last records are delivered again.",
  fields: { channel: "name of the channel", error: "why" },
  counter: "channel_save_failures_total",
  labels: ["channel"],
  rateLimitMs: 10_000,
});
