/** Examples: shown below a command's help and printed into docs/reference/cli.md. */
import type { Command } from "commander";

/** What it does, and the command line. */
export type Example = readonly [purpose: string, line: string];

const examplesOf = new WeakMap<Command, readonly Example[]>();

/** Adds examples to a command's help. */
export function addExamples(command: Command, examples: readonly Example[]): Command {
  examplesOf.set(command, examples);
  return command.addHelpText(
    "after",
    () => `\nExamples:\n${examples.map(([purpose, line]) => `  # ${purpose}\n  ${line}`).join("\n")}`,
  );
}

/** The examples of a command. */
export function examples(command: Command): readonly Example[] {
  return examplesOf.get(command) ?? [];
}
