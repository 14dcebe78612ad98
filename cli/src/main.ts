/** The command line's entry: runs a command, turns whatever it throws into one line and an exit code. */
import { errorCode } from "@millrace/runtime";
import { CommanderError } from "commander";
import { errorLine, exitCode } from "./output.ts";
import { buildProgram } from "./program.ts";

async function main(argv: readonly string[]): Promise<void> {
  endQuietlyWithoutReader();
  if (argv.includes("--no-color")) process.env["NO_COLOR"] = "1";
  try {
    await buildProgram().parseAsync(argv, { from: "user" });
  } catch (thrown) {
    if (thrown instanceof CommanderError) reportUsage(thrown);
    else reportFailure(thrown);
  }
}

/** `millrace --help | head -1`: a reader that has seen enough is no failure. Commands that care listen themselves. */
function endQuietlyWithoutReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error) => {
      if (errorCode(error) !== "EPIPE") throw error;
      if (stream.listenerCount("error") === 1) process.exit(exitCode.ok);
    });
  }
}

/** Help and version end here too; they are no errors. */
function reportUsage(error: CommanderError): void {
  if (error.exitCode === 0) return;
  process.exitCode = exitCode.usage;
  // Help shown because no command was given has said everything.
  if (error.code === "commander.help") return;
  const text = error.message.replace(/^error: /, "").replaceAll(/\s*\n\s*/g, " ");
  process.stderr.write(`millrace: ${text}; --help shows how\n`);
}

function reportFailure(thrown: unknown): void {
  process.exitCode = exitCode.failure;
  process.stderr.write(`millrace: ${errorLine(thrown)}\n`);
  if (process.env["MILLRACE_DEBUG"] === "1" && thrown instanceof Error)
    process.stderr.write(`${thrown.stack ?? ""}\n`);
}

await main(process.argv.slice(2));
