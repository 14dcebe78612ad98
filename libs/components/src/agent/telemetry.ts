/** What the agent sink reports. */
import { declareCounter, declareEvent } from "@millrace/telemetry";

export const receiverGivenUp = declareEvent({
  name: "hop_receiver_given_up",
  level: "error",
  message:
    "A receiver did not come back within dispatch.pin.timeout; what it may hold is sent to another, marked as possible duplicates.",
  fields: {
    sink: "name of the sink",
    receiver: "directory id of the receiver",
    recordCount: "records that may be there",
  },
  counter: "hop_receivers_given_up_total",
});

export const possibleDuplicatesSentTotal = declareCounter({
  name: "hop_possible_duplicates_sent_total",
  help: "Records sent marked as possible duplicates: a receiver that was given up may have them (dispatch.pin.timeout).",
  labels: ["sink"],
});
