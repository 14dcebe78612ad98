/** `docs/reference/cli.md`: every command with its arguments, options and examples, from the tree that runs. */
import { examples } from "../../cli/src/help.ts";
import { buildProgram } from "../../cli/src/program.ts";
import { generatedNotice, table } from "../lib/markdown.ts";
import type { Generator } from "./generator.ts";

type Command = Readonly<ReturnType<typeof buildProgram>>;

/** The generator of the command line's page. */
export const cliReference: Generator = {
  owns: [],
  generate() {
    const program = buildProgram();
    const commands = leaves(program);
    const content = `# Command line

${generatedNotice("cli/src/commands")}

Exit codes: 0 done, 1 failed, 2 the command line is wrong. Data goes to stdout, notes and errors to stderr.

${table(
  ["Command", "What it does"],
  commands.map((command) => [`[\`${fullName(command)}\`](#${anchor(command)})`, command.description()]),
)}

${commands.map(section).join("\n")}`;
    return Promise.resolve([{ path: "docs/reference/cli.md", content }]);
  },
};

/** Commands that do something themselves, in the order of the help. */
function leaves(command: Command): Command[] {
  const children = command.commands.filter((child) => child.name() !== "help");
  return children.length === 0 ? [command] : children.flatMap(leaves);
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

function anchor(command: Command): string {
  return fullName(command).replaceAll(" ", "-");
}

function section(command: Command): string {
  const parts = [`## ${fullName(command)}`, command.description(), usage(command)];
  const help = command.createHelp();
  const args = help.visibleArguments(command).map((item) => [`\`${item.name()}\``, item.description]);
  if (args.length > 0) parts.push(table(["Argument", "Meaning"], args));
  const options = help
    .visibleOptions(command)
    .filter((option) => option.long !== "--help")
    .map((option) => [`\`${option.flags}\``, help.optionDescription(option)]);
  if (options.length > 0) parts.push(table(["Option", "Meaning"], options));
  const lines = examples(command).map(([purpose, line]) => `# ${purpose}\n${line}`);
  if (lines.length > 0) parts.push(`\`\`\`sh\n${lines.join("\n")}\n\`\`\``);
  return `${parts.join("\n\n")}\n`;
}

function usage(command: Command): string {
  return `\`\`\`\n${fullName(command)} ${command.usage()}\n\`\`\``;
}
