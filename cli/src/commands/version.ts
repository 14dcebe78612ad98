/** `millrace version`. */
import type { Command } from "commander";
import { type FormatOptions, withFormat } from "../cluster.ts";
import { addExamples } from "../help.ts";
import { Output } from "../output.ts";
import { version } from "../version.ts";

/** Adds `version`. */
export function addVersionCommand(program: Command): void {
  const command = program
    .command("version")
    .description("Print the versions of Millrace and Node.")
    .action(async (options: FormatOptions) => {
      const node = process.versions.node;
      await new Output().print(
        { data: { millrace: version, node }, text: `millrace ${version} · node ${node}\n` },
        options.output,
      );
    });
  addExamples(withFormat(command), [["for a script", "millrace version -o json"]]);
}
