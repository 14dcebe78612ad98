/** What the millrace sink reports. */
import { declareEvent } from "@millrace/telemetry";

export const topicReplaced = declareEvent({
  name: "sink_topic_replaced",
  level: "warn",
  message: "The topic was deleted; what it had not acknowledged goes to the topic that bears its name now.",
  fields: {
    topic: "name of the topic",
    deletedId: "topic id that is gone",
    newId: "topic id delivered to from now on",
    fromSequence: "first channel sequence delivered there",
  },
  counter: "millrace_sink_topics_replaced_total",
});

export const logBehind = declareEvent({
  name: "sink_log_behind",
  level: "error",
  message:
    "The partition lost acknowledged records that the channel no longer holds; the producer goes on behind the gap.",
  fields: { topic: "name of the topic", partition: "partition", lostCount: "records lost" },
  counter: "millrace_sink_log_behind_total",
});
