/**
 * The tree of commands. Building it loads commander and nothing else of weight: what a command needs is imported when
 * it runs, so that `topic list` never loads a service. `docs/reference/cli.md` is generated from the same tree.
 */
import { Command } from "commander";
import { addAgentCommands } from "./commands/agent.ts";
import { addBenchCommands } from "./commands/bench.ts";
import { addClusterCommands } from "./commands/cluster.ts";
import { addConnectorCommands } from "./commands/connector.ts";
import { addConsumeCommand } from "./commands/consume.ts";
import { addProduceCommand } from "./commands/produce.ts";
import { addServeCommands } from "./commands/serve.ts";
import { addTopicCommands } from "./commands/topic.ts";
import { addUpCommand } from "./commands/up.ts";
import { addVersionCommand } from "./commands/version.ts";
import { addExamples } from "./help.ts";
import { version } from "./version.ts";

/** The whole tree, without side effects: nothing is printed and no process ends while it parses. */
export function buildProgram(): Command {
  const program = new Command("millrace")
    .description("Moves log and event data across servers and loses none of it.")
    .version(version, "-V, --version", "print the version")
    .option("--no-color", "plain text, as with NO_COLOR")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show help for a command")
    .showSuggestionAfterError()
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
    .configureOutput({ outputError: () => undefined })
    .exitOverride();
  addUpCommand(program);
  addTopicCommands(program);
  addProduceCommand(program);
  addConsumeCommand(program);
  addAgentCommands(program);
  addConnectorCommands(program);
  addClusterCommands(program);
  addBenchCommands(program);
  addServeCommands(program);
  addVersionCommand(program);
  return addExamples(program, [
    ["everything in one process; follows the machine's own logs", "millrace up"],
    ["your file, read from its start", "millrace up --tail app.log"],
    ["watch what arrives", "millrace consume logs -o end"],
  ]);
}
