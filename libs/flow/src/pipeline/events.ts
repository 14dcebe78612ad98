/** What pipelines log and count. */
import { declareEvent } from "@millrace/telemetry";

/** Records gone with a memory channel. */
export const volatileRecordsLost = declareEvent({
  name: "memory_channel_records_lost",
  level: "error",
  message:
    "A memory channel was stopped with undelivered records: they are gone unless their source reads them again.",
  fields: { channel: "name of the channel", records: "how many" },
});

/** A channel nobody takes from any more. */
export const channelLeftBehind = declareEvent({
  name: "channel_left_behind",
  level: "warn",
  message:
    "The data directory holds a channel that the configuration does not name: its records are kept and not delivered.",
  fields: { channel: "name of the channel", endSequence: "sequence after its last record" },
});
