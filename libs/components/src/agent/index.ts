import { defineSink } from "@millrace/flow";
import { AgentSink } from "./agent-sink.ts";
import { agentConfig } from "./config.ts";

/** To the next agent. */
export const agentSink = defineSink({
  type: "agent",
  summary: "Hands records over to another agent's `ingest` source.",
  guarantee: "exactly-once",
  guaranteeNote:
    "With file channels on both sides. Records whose fate at a lost receiver is unknown wait for it; after dispatch.pin.timeout " +
    "they go to another, marked and counted as possible duplicates.",
  hasStanding: false,
  canShare: false,
  config: agentConfig,
  examples: [{ title: "To a collector", yaml: "type: agent\nhostname: collector.example\nport: 9780" }],
  create: (config, context) => new AgentSink(config, context),
});
