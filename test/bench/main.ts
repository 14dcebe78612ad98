/**
 * `npm run bench [-- NAME...] [--rounds N] [--quick]`: every case in turn, round after round, medians as a table and
 * as JSON in bench-results/. Each case runs in a process and a folder of its own; data on tmpfs is refused.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { arch, availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { describeEnvironment, environmentLine, makeDataFolder } from "../support/environment.ts";
import { type Figure, summarize, table } from "./bench.ts";
import { cases } from "./cases/index.ts";

const resultsFolder = new URL("../../bench-results/", import.meta.url);
const secondsFull = 4;
const secondsQuick = 1;
/** A case that takes longer hangs: it is ended and named. */
const caseMsMax = 180_000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  const lines = cases.map(({ name, summary }) => `  ${name.padEnd(14)}${summary}`);
  say(`npm run bench -- [NAME...] [--rounds N] [--quick]\n\n${lines.join("\n")}`);
} else {
  await bench();
}

async function bench(): Promise<void> {
  const names = chosen();
  const rounds = values.quick ? 1 : Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds ${values.rounds}: use a number from 1`);
  const probe = await makeDataFolder("bench");
  const environment = await describeEnvironment(probe);
  await rm(probe, { recursive: true });
  const machine = {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 1e9),
    arch: arch(),
    node: process.version,
    loadBefore: loadavg()[0] ?? 0,
  };
  say(environmentLine(environment));
  say(
    `${machine.cores} x ${machine.cpu}, ${machine.memoryGb} GB, node ${machine.node}, load ${machine.loadBefore.toFixed(1)}`,
  );
  const figures: Figure[][] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const name of names) {
      process.stderr.write(`round ${round} of ${rounds}: ${name}\n`);
      figures.push(await runCase(name, values.quick ? secondsQuick : secondsFull));
    }
  }
  const summaries = summarize(figures);
  say(`\n${table(summaries)}`);
  const date = new Date().toISOString();
  await mkdir(resultsFolder, { recursive: true });
  const path = new URL(`${date.replaceAll(":", "-")}.json`, resultsFolder);
  await writeFile(path, `${JSON.stringify({ date, rounds, environment, machine, summaries }, null, 2)}\n`);
  say(`\n${path.pathname}`);
}

/** The cases named on the command line; all of them when none is. */
function chosen(): readonly string[] {
  const known = cases.map(({ name }) => name);
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`no benchmark ${unknown}: ${known.join(", ")}`);
  return positionals.length > 0 ? positionals : known;
}

/** Runs a case in a process of its own, so that none inherits the heap or the compiled code of another. */
async function runCase(name: string, seconds: number): Promise<Figure[]> {
  const folder = await makeDataFolder(`bench-${name}`);
  try {
    const child = fork(new URL("run-case.ts", import.meta.url), [name, folder, String(seconds)], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      timeout: caseMsMax,
    });
    let figures: Figure[] | undefined;
    child.on("message", (message) => {
      figures = message as Figure[];
    });
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0 || figures === undefined) throw new Error(`benchmark ${name} ended with ${code}`);
    return figures;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
