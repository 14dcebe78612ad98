/** `millrace up`: what `npm start` calls. */
import { type Command, Option } from "commander";
import { collect } from "../cluster.ts";
import { addExamples } from "../help.ts";
import { portNumber, sizeInMebibytes } from "../numbers.ts";

/** Options of `up`. */
export interface UpCommandOptions {
  readonly data?: string;
  readonly tail?: readonly string[];
  readonly once?: boolean;
  readonly from?: "start" | "end";
  /** Bytes. */
  readonly size?: number;
  readonly port: number;
  readonly httpPort?: number;
}

/** Adds `up`. */
export function addUpCommand(program: Command): void {
  const command = program
    .command("up")
    .description(
      "Run everything in one process: files travel through agent, channel, topic and connector into files.",
    )
    .option("--data <dir>", "where everything is kept (default: ./.millrace)")
    .option(
      "--tail <path|glob>",
      "file to follow from its start; may be repeated (default: logs of this machine)",
      collect,
    )
    .option("--once", "deliver what is there, print the totals and end")
    .addOption(
      new Option("--from <place>", "where files are begun that were not seen before").choices([
        "start",
        "end",
      ]),
    )
    .option(
      "--size <size>",
      "topic data and channel together at most (default: 1GiB); the sources wait before",
      sizeInMebibytes,
    )
    .option("--port <number>", "port for clients; 0 = any free one", portNumber, 9750)
    .option(
      "--http-port <number>",
      "port of /metrics, /healthz and /readyz (default: the one after --port)",
      portNumber,
    )
    .action(async (options: UpCommandOptions) => {
      const { runUp } = await import("../up.ts");
      await runUp(options);
    });
  addExamples(command, [
    ["the machine's own logs", "millrace up"],
    ["your file, from its start", "millrace up --tail app.log"],
    ["everything that matches, delivered once", "millrace up --tail '/var/log/*.log' --once"],
    ["a second one beside the first", "millrace up --data /tmp/second --port 0"],
  ]);
}
