import { defineSource } from "@millrace/flow";
import { ingestConfig } from "./config.ts";
import { IngestSource } from "./ingest-source.ts";

/** Records from other agents and from applications. */
export const ingestSource = defineSource({
  type: "ingest",
  summary: "Listens for other agents' `agent` sinks, and for applications over gRPC.",
  guarantee: "exactly-once",
  guaranteeNote:
    "From agents, with file channels on both sides: a repeated send is recognised by its sequences. From applications at least once: " +
    "one that repeats a call whose answer it did not see may double it.",
  config: ingestConfig,
  examples: [{ title: "The collector of a hop", yaml: "type: ingest\nbind: 127.0.0.1\nport: 9780" }],
  create: (config, context) => new IngestSource(config, context),
});
