/** What the agent sink reports. */
import { declareEvent } from "@millrace/telemetry";

export const receiverGivenUp = declareEvent({
  name: "hop_receiver_given_up",
  level: "error",
  message:
    "A receiver did not come back within dispatch.pin.timeout; what it may hold is sent to another, marked as possible duplicates.",
  fields: {
    sink: "name of the sink",
    receiver: "directory id of the receiver",
    recordCount: "records whose fate there is unknown",
  },
  counter: "hop_receivers_given_up_total",
});
