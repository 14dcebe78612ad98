import { defineSource } from "@millrace/flow";
import { HttpSource, httpConfig } from "./http-source.ts";

/** Records over HTTP. */
export const httpSource = defineSource({
  type: "http",
  aliases: ["org.apache.flume.source.http.HTTPSource"],
  summary: "Takes JSON arrays of records by HTTP POST.",
  guarantee: "at-least-once",
  guaranteeNote:
    "200 means every record of the request is in the channel. A sender that repeats a request whose answer it did not see may double it.",
  config: httpConfig,
  examples: [{ title: "Local port", yaml: "type: http\nport: 8080" }],
  create: (config, context) => new HttpSource(config, context),
});
