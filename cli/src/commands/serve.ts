/** `millrace serve`: each service alone. */
import type { Command } from "commander";
import { addExamples } from "../help.ts";

/** Services that can be served. */
export const serviceNames = ["metadata", "storage", "agent", "connector"] as const;

/** Name of a service. */
export type ServiceName = (typeof serviceNames)[number];

/** Options of every `serve` command. */
export interface ServeOptions {
  readonly config?: string;
  readonly printConfig?: boolean;
  readonly logLevel?: string;
  /** Agents only: deliver what is there, then end. */
  readonly once?: boolean;
}

const about: Record<ServiceName, { readonly text: string; readonly example: string }> = {
  metadata: {
    text: "Run the metadata service: topics, nodes, leaders, tasks.",
    example: "millrace serve metadata --data-directory /var/lib/millrace/metadata",
  },
  storage: {
    text: "Run a storage node: partitions on disk.",
    example:
      "millrace serve storage --data-directory /var/lib/millrace/storage --bootstrap-servers meta:9750",
  },
  agent: {
    text: "Run an agent: the pipelines of a configuration file.",
    example: "millrace serve agent --file flume.conf",
  },
  connector: {
    text: "Run a connector instance: it takes its share of the connectors' tasks.",
    example: "millrace serve connector --bootstrap-servers meta:9750",
  },
};

/** Adds `serve` and what is below it. */
export function addServeCommands(program: Command): void {
  const serve = program.command("serve").description("Run one service in this process.");
  for (const name of serviceNames) {
    const command = serve
      .command(name)
      .description(about[name].text)
      .usage("[options] [--<setting> <value>...]")
      .option("--config <file>", "settings as YAML; environment and flags win")
      .option("--print-config", "print the effective settings and where each came from, then end")
      .option("--log-level <level>", "error, warn, info or debug")
      .allowUnknownOption()
      .allowExcessArguments()
      .action(async (options: ServeOptions, own: Command) => {
        const { serveService } = await import("../serve.ts");
        await serveService(name, options, own.args);
      });
    addExamples(command, [
      ["with settings as flags", about[name].example],
      ["all settings, with their defaults", `millrace serve ${name} --print-config`],
    ]);
  }
}
