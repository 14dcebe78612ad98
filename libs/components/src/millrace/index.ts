import { defineSink } from "@millrace/flow";
import { millraceConfig } from "./config.ts";
import { MillraceSink } from "./millrace-sink.ts";

/** Into a topic. */
export const millraceSink = defineSink({
  type: "millrace",
  summary: "Delivers into a Millrace topic.",
  guarantee: "exactly-once",
  guaranteeNote:
    "From a file channel, through kill -9 and power loss of every party. From a memory channel what it held at a crash is lost.",
  hasStanding: true,
  canShare: false,
  needsCluster: true,
  config: millraceConfig,
  examples: [{ title: "A topic", yaml: "type: millrace\ntopic: logs" }],
  create: (config, context) => new MillraceSink(config, context),
});
