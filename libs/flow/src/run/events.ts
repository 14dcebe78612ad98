/** What runners log and count. */
import { declareCounter, declareEvent } from "@millrace/telemetry";

/** Records a source put. */
export const sourceRecordsTotal = declareCounter({
  name: "source_records_total",
  help: "Records a source put into its channels since the start of the process.",
  labels: ["source"],
});

/** Records a sink delivered. */
export const sinkDeliveredTotal = declareCounter({
  name: "sink_delivered_records_total",
  help: "Records a sink delivered since the start of the process.",
  labels: ["sink"],
});

/** A component failed and is tried again. */
export const componentFailed = declareEvent({
  name: "component_failed",
  level: "warn",
  message: "A component failed and is tried again.",
  fields: {
    component: "name of the component",
    error: "why",
    retryMs: "pause before the next attempt, milliseconds",
  },
  counter: "component_failures_total",
  labels: ["component"],
  rateLimitMs: 10_000,
});

/** A record was set aside. */
export const recordSetAside = declareEvent({
  name: "record_set_aside",
  level: "warn",
  message: "A record can never be delivered and was set aside as a dead letter.",
  fields: {
    component: "name of the component that refused it",
    reason: "why",
    file: "file of the dead letters",
  },
  counter: "dead_letters_total",
  labels: ["component"],
  rateLimitMs: 10_000,
});

/** A sink stands behind its channel's take position. */
export const sinkRewound = declareEvent({
  name: "sink_rewound",
  level: "warn",
  message: "A sink stands behind what its channel counts as delivered: what is kept is delivered again.",
  fields: {
    sink: "name of the sink",
    standsAt: "sequence the sink wants next",
    deliveredThrough: "take position of the channel",
    lostCount: "records between that the channel has no more",
  },
  counter: "sink_rewinds_total",
  labels: ["sink"],
});
