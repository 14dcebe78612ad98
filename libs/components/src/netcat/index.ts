import { defineSource } from "@millrace/flow";
import { NetcatSource, netcatConfig } from "./netcat-source.ts";

/** Lines over TCP. */
export const netcatSource = defineSource({
  type: "netcat",
  summary: "Listens on a TCP port; each line is a record.",
  guarantee: "at-least-once",
  guaranteeNote:
    "OK is answered after the line is in the channel. A sender that repeats lines whose OK it did not see may double them.",
  config: netcatConfig,
  examples: [{ title: "Local port", yaml: "type: netcat\nbind: 127.0.0.1\nport: 44444" }],
  create: (config, context) => new NetcatSource(config, context),
});
