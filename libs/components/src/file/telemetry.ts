/** What the file sink counts and logs. */
import { declareCounter, declareEvent } from "@millrace/telemetry";

/** One published file. */
export const filePublished = declareEvent({
  name: "file_published",
  level: "debug",
  message: "File published.",
  fields: {
    sink: "name of the sink",
    file: "name of the file",
    records: "records in it",
    bytes: "size of the file",
  },
  counter: "file_sink_files_published_total",
  labels: ["sink"],
});

/** Records in published files. */
export const recordsPublished = declareCounter({
  name: "file_sink_records_published_total",
  help: "Records in files published by this process.",
  labels: ["sink"],
});

/** Bytes in published files. */
export const bytesPublished = declareCounter({
  name: "file_sink_published_bytes_total",
  help: "Bytes of files published by this process.",
  labels: ["sink"],
});

/** Records changed by `newlines: escape`. */
export const recordsEscaped = declareCounter({
  name: "file_sink_records_escaped_total",
  help: "Records with a line feed inside that was written as the two bytes \\n.",
  labels: ["sink"],
});
