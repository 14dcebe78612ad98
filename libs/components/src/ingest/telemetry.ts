/** What the ingest source reports. */
import { declareCounter } from "@millrace/telemetry";

export const duplicatesTotal = declareCounter({
  name: "ingest_duplicates_total",
  help: "Records that a sender sent again and that were held already: recognised, not taken twice.",
  labels: ["source"],
});

export const possibleDuplicatesTotal = declareCounter({
  name: "ingest_possible_duplicates_total",
  help: "Records that their sender had sent to another receiver with unknown outcome (dispatch.pin.timeout passed).",
  labels: ["source"],
});
