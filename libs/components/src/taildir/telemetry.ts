/** What the taildir source reports. */
import { declareEvent } from "@millrace/telemetry";

export const filesSkipped = declareEvent({
  name: "taildir_files_skipped",
  level: "info",
  message: "Files are left alone.",
  fields: { source: "name of the source", files: "paths with reasons" },
});

export const fileTruncated = declareEvent({
  name: "taildir_file_truncated",
  level: "warn",
  message: "A file was truncated or rewritten in place; it is read again from its start.",
  fields: { path: "path of the file" },
  counter: "millrace_taildir_truncations_total",
});

export const fileGone = declareEvent({
  name: "taildir_file_gone",
  level: "warn",
  message:
    "A file was removed or moved to another folder; what it may have held beyond this offset was not read.",
  fields: { path: "last path of the file", offset: "position read to, bytes" },
  counter: "millrace_taildir_files_gone_total",
});
