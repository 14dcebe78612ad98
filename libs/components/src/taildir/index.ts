import { defineSource } from "@millrace/flow";
import { taildirConfig, taildirFromFlume } from "./config.ts";
import { TaildirSource } from "./taildir-source.ts";

export { directoryMarker } from "./discovery.ts";

/** Follows growing files. */
export const taildirSource = defineSource({
  type: "taildir",
  aliases: ["org.apache.flume.source.taildir.TaildirSource"],
  summary: "Follows files as they grow, line by line, across rotation and restarts.",
  guarantee: "exactly-once",
  guaranteeNote:
    "Positions are part of the channel's transaction. Rotation by rename is exact. With copy-and-truncate, lines written " +
    "between the last read and the truncation are gone from the file; a file that is rewritten with the same first bytes " +
    "and not shorter than before is taken for the same file.",
  config: taildirConfig,
  fromFlume: taildirFromFlume,
  examples: [
    {
      title: "One log and its rotations",
      yaml: "type: taildir\nfilegroups:\n  app: /var/log/app/app\\.log(\\.\\d+)?\nfileHeader: true",
    },
  ],
  create: (config, context) => new TaildirSource(config, context),
});
