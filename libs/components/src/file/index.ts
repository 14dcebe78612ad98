import { defineSink } from "@millrace/flow";
import { fileSinkSchema, fromFlumeKeys } from "./config.ts";
import { FileSink } from "./file-sink.ts";

/** Files, one record a line; `file_roll` in an agent. */
export const fileSink = defineSink({
  type: "file",
  aliases: ["file_roll", "org.apache.flume.sink.RollingFileSink"],
  summary: "Writes records into files, one a line; only complete files are visible.",
  guarantee: "exactly-once",
  guaranteeNote:
    "By a commit log in the hidden folder `.millrace` of the directory (rules C2 to C5): through kill -9, power cuts and " +
    "instances that slept through their task's move. The folder belongs to the output: who deletes it gets everything again. " +
    "From a memory channel only what the channel still holds.",
  config: fileSinkSchema,
  fromFlume: fromFlumeKeys,
  hasStanding: true,
  canShare: false,
  examples: [
    { title: "A file every ten seconds", yaml: "type: file\ndirectory: /var/lib/out\nrollInterval: 10" },
    {
      title: "JSON lines that keep everything",
      yaml: "type: file\ndirectory: /var/lib/out\nformat: json\nrollSize: 64MiB",
    },
  ],
  create: (config, context) => new FileSink(config, context),
});
