/**
 * The static checks of `npm run check`, which `npm test` runs and counts too. A step is one tool with its arguments,
 * for the whole repository or narrowed to one folder. Two run at a time, the longest first.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type RunResult, root, run } from "./run.ts";

/** One check. `run` never throws: whatever goes wrong is its output. */
export interface Step {
  readonly name: string;
  run(): Promise<RunResult>;
}

const cache = join(root, "node_modules", ".cache", "millrace");
const baseline = "proto/baseline.binpb";
const concurrencyMax = 2;
/** Of a failed step's output the first and last lines are shown, together at most this many. */
const outputLinesMax = 400;
/** Folders with TypeScript or JavaScript of ours, as far as they exist yet. */
const codeFolders = ["cli", "libs", "services", "test", "scripts", "examples"];

const tool = (name: string, command: string, ...args: string[]): Step => ({
  name,
  run: () => run(command, args),
});

/** All static checks of the repository. */
export function staticSteps(): Step[] {
  const folders = codeFolders.filter((folder) => existsSync(join(root, folder)));
  return [
    tool("lint", "eslint", ".", "--max-warnings", "0"),
    { name: "types", run: () => typeCheck(undefined) },
    tool("dead code", "knip", "--no-progress", "--no-config-hints"),
    tool("layers", "depcruise", ...folders),
    { name: "generated files up to date", run: () => run("node", ["scripts/generate.ts", "--check"]) },
    tool("format", "biome", "ci", "--colors=off", "."),
    tool("proto lint", "buf", "lint"),
    { name: "proto breaking changes", run: breakingCheck },
  ];
}

/** The same, for one folder; what has no meaning below the root (generated files, protos elsewhere) is left out. */
export function narrowSteps(folder: string): Step[] {
  const cached = ["--cache", "--cache-strategy", "content", "--cache-location", join(cache, "eslint-")];
  const steps = [
    tool("lint", "eslint", folder, "--max-warnings", "0", ...cached),
    { name: "types", run: () => typeCheck(folder) },
    tool("layers", "depcruise", folder),
    tool("format", "biome", "ci", "--colors=off", "--no-errors-on-unmatched", folder),
  ];
  if (existsSync(join(root, folder, "package.json"))) {
    steps.push(tool("dead code", "knip", "--no-progress", "--no-config-hints", "--workspace", folder));
  }
  return steps;
}

/** The fast tests, optionally of one folder. Their total is the last line of the output. */
export function fastTests(folder: string | undefined): Step {
  const filter = folder === undefined ? [] : [`${folder}/`, "--passWithNoTests"];
  return tool("fast tests", "vitest", "run", "--project", "fast", ...filter);
}

/** TypeScript has no narrow mode: a written tsconfig includes only the folder (imports are followed from there). */
async function typeCheck(folder: string | undefined): Promise<RunResult> {
  await mkdir(cache, { recursive: true });
  const id = folder === undefined ? "root" : createHash("sha256").update(folder).digest("hex").slice(0, 12);
  let project = join(root, "tsconfig.json");
  if (folder !== undefined) {
    project = join(cache, `tsconfig-${id}.json`);
    const base = join(root, "tsconfig.base.json");
    await writeFile(project, JSON.stringify({ extends: base, include: [join(root, folder, "**/*.ts")] }));
  }
  const state = join(cache, `${id}.tsbuildinfo`);
  return run("tsc", ["--project", project, "--noEmit", "--incremental", "--tsBuildInfoFile", state]);
}

async function breakingCheck(): Promise<RunResult> {
  if (!existsSync(join(root, baseline))) {
    const output = `${baseline} is missing: \`npm run generate -- --baseline\` makes it\n`;
    return { ok: false, output, durationMs: 0 };
  }
  return run("buf", ["breaking", "--against", baseline]);
}

/** Runs steps, prints a line for each and the output of failed ones, and returns how many passed and failed. */
export async function runSteps(steps: readonly Step[]): Promise<{ passed: number; failed: number }> {
  const waiting = [...steps];
  const counts = { passed: 0, failed: 0 };
  const worker = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      const result = await step.run();
      counts[result.ok ? "passed" : "failed"] += 1;
      report(step, result);
    }
  };
  await Promise.all(Array.from({ length: concurrencyMax }, worker));
  return counts;
}

function report(step: Step, result: RunResult): void {
  const seconds = (result.durationMs / 1000).toFixed(1);
  const total = /^\d+ passed, \d+ failed, \d+ skipped$/m.exec(result.output)?.[0];
  console.log(
    `${result.ok ? "ok    " : "FAILED"} ${step.name} (${seconds} s)${total === undefined ? "" : `: ${total}`}`,
  );
  if (result.ok) return;
  const lines = result.output.trimEnd().split("\n");
  const omitted = lines.length - outputLinesMax;
  if (omitted > 0) lines.splice(outputLinesMax / 2, omitted, `... ${omitted} lines left out ...`);
  console.log(lines.map((line) => `  | ${line}`).join("\n"));
}
