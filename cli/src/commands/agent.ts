/** `millrace agent`: run, validate, graph. */
import type { CheckedPipeline } from "@millrace/service-agent";
import type { Command } from "commander";
import { addExamples } from "../help.ts";
import { count, errorLine, exitCode, Output } from "../output.ts";
import type { ServeOptions } from "./serve.ts";

interface FileOptions {
  readonly name?: string;
  readonly flumeCompat?: boolean;
}

/** Adds `agent` and what is below it. */
export function addAgentCommands(program: Command): void {
  const agent = program
    .command("agent")
    .description("Run, check and draw agent configurations: flume.conf or YAML.");
  addRun(agent);
  addValidate(agent);
  addGraph(agent);
  addIdentity(agent);
}

function withName(command: Command): Command {
  return command
    .option("-n, --name <agent>", "agent of the file; needed when it has several")
    .option("--flume-compat", "unknown keys are warnings, not errors");
}

function addRun(agent: Command): void {
  const command = agent
    .command("run")
    .description("Run an agent from a configuration file until it is stopped.")
    .usage("[options] <file> [--<setting> <value>...]")
    .argument("<file>", "flume.conf (*.conf, *.properties) or YAML")
    .option("--once", "deliver what is there, then end")
    .option("--print-config", "print the effective settings and where each came from, then end")
    .option("--log-level <level>", "error, warn, info or debug")
    .allowUnknownOption()
    .allowExcessArguments();
  withName(command).action(async (file: string, options: FileOptions & ServeOptions, own: Command) => {
    const { serveService } = await import("../serve.ts");
    const flags = ["--file", file];
    if (options.name !== undefined) flags.push("--name", options.name);
    if (options.flumeCompat === true) flags.push("--flume-compat", "true");
    await serveService("agent", options, [...flags, ...own.args.slice(1)]);
  });
  addExamples(command, [
    ["everything that is there, then end", "millrace agent run pipeline.yaml --once"],
    ["an existing Flume configuration, unchanged", "millrace agent run flume.conf --name a1"],
    [
      "with its data somewhere else",
      "millrace agent run pipeline.yaml --data-directory /var/lib/millrace/agent",
    ],
  ]);
}

async function check(file: string, { name, flumeCompat }: FileOptions): Promise<CheckedPipeline> {
  const { checkPipeline } = await import("@millrace/service-agent");
  return checkPipeline(file, { agent: name, isFlumeCompat: flumeCompat });
}

function addValidate(agent: Command): void {
  const command = agent
    .command("validate")
    .description("Check a configuration file: every problem with its line, exit code 1.")
    .argument("<file>", "flume.conf (*.conf, *.properties) or YAML");
  withName(command).action(async (file: string, options: FileOptions) => {
    const output = new Output();
    const { AppError } = await import("@millrace/base");
    try {
      const { agent, sourceCount, channelCount, sinkCount, warnings } = await check(file, options);
      for (const warning of warnings) output.note(`warning: ${warning}`);
      const parts = [count(sourceCount, "source"), count(channelCount, "channel"), count(sinkCount, "sink")];
      await output.write(`${file}: agent ${agent} is valid: ${parts.join(", ")}\n`);
    } catch (thrown) {
      if (AppError.from(thrown).reason !== "INVALID_CONFIG") throw thrown;
      // The problems are what was asked for: data, one line each.
      await output.write(`${errorLine(thrown)}\n`);
      process.exitCode = exitCode.failure;
    }
  });
  addExamples(command, [["before it is deployed", "millrace agent validate flume.conf"]]);
}

function addGraph(agent: Command): void {
  const command = agent
    .command("graph")
    .description("Draw the pipelines of a configuration file as a Mermaid flowchart.")
    .argument("<file>", "flume.conf (*.conf, *.properties) or YAML");
  withName(command).action(async (file: string, options: FileOptions) => {
    await new Output().write((await check(file, options)).mermaid);
  });
  addExamples(command, [["into a file for a page", "millrace agent graph pipeline.yaml > pipeline.mmd"]]);
}

function addIdentity(agent: Command): void {
  const command = agent
    .command("identity")
    .description(
      "Give a copied or restored data directory an identity of its own, so that it may run beside the original.",
    )
    .argument("<dir>", "data directory of the agent; of `millrace up`: its subdirectory agent")
    .requiredOption("--new", "do it: what the copy holds is delivered once more, as another agent's records")
    .action(async (directory: string) => {
      const { renewAgentIdentity } = await import("@millrace/service-agent");
      await new Output().write(`${await renewAgentIdentity(directory)}\n`);
    });
  addExamples(command, [
    ["a copy on a second machine", "millrace agent identity --new /var/lib/millrace/agent"],
  ]);
}
