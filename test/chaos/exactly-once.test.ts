/**
 * The promise of the whole, under kill -9: every line of real rotating files is in the published files exactly once,
 * byte for byte, in the order of its file, whichever process is killed whenever. And the same run without one of the
 * things that make it true must fail: otherwise it proves nothing.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Prng } from "@millrace/base";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeEnvironment, environmentLine, makeDataFolder } from "../support/environment.ts";
import { until } from "../support/processes.ts";
import { countPublished, judge, type Verdict } from "../support/published.ts";
import { RotatingLog } from "../support/rotating-log.ts";
import { Deployment, type ProcessName, type Without } from "./deployment.ts";

const everyone: readonly ProcessName[] = ["agent", "storage", "connector", "metadata"];

let folder: string;
let deployment: Deployment | undefined;

beforeEach(async () => {
  folder = await makeDataFolder("chaos");
});

afterEach(async () => {
  await deployment?.destroy();
  deployment = undefined;
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  readonly verdict: Verdict;
  readonly written: number;
  /** Kills at which lines were written and not yet published. */
  readonly killsWithWorkInFlight: number;
  /** Batches the storage node recognised as sent before, over all its starts. */
  readonly recognisedRetries: number;
  readonly rotations: number;
}

/** Writes `lineCount` lines to three rotating files while every process is killed in turn, `rounds` times. */
async function run(options: {
  readonly lineCount: number;
  readonly rounds: number;
  readonly victims?: readonly ProcessName[];
  readonly without?: Without;
}): Promise<Run> {
  const logs = join(folder, "logs");
  await mkdir(logs);
  const files = ["alpha", "beta", "gamma"].map(
    (name, i) => new RotatingLog({ name, path: join(logs, `${name}.log`), seed: i + 1, rotateEvery: 20_000 }),
  );
  const running = await Deployment.start(
    folder,
    files.map((file) => file.path),
    options.without,
  );
  deployment = running;
  const victims = options.victims ?? everyone;
  const kills = victims.length * options.rounds;
  const perFile = Math.ceil(options.lineCount / files.length);
  const perKill = Math.ceil(perFile / kills);
  let killsWithWorkInFlight = 0;
  let recognisedRetries = 0;
  const prng = new Prng(7);
  const written = (): number => files.reduce((sum, file) => sum + file.lines.length, 0);
  for (let kill = 0; kill < kills; kill++) {
    const victim = running.processes[victims[kill % victims.length] as ProcessName];
    for (let step = 0; step < 4; step++) {
      for (const file of files) file.write(Math.min(Math.ceil(perKill / 4), perFile - file.lines.length));
      // not aligned with anything: the kill comes while lines are read, sent, stored or published
      await new Promise((resolve) => setTimeout(resolve, prng.nextInt(0, 250)));
      if (step === 2) {
        if ((await countPublished(running.published)) < written()) killsWithWorkInFlight++;
        recognisedRetries += await running.metric("storage", "millrace_storage_duplicate_batches_total");
        await victim.kill9();
      }
    }
    await victim.start({ waitReady: kill % 2 === 0 });
  }
  for (const file of files) {
    file.write(perFile - file.lines.length);
    file.close();
  }
  for (const process of running.all) await process.waitReady();
  const total = written();
  await until(
    "every line is published",
    90_000,
    async () => (await countPublished(running.published)) >= total,
  ).catch(() => undefined);
  recognisedRetries += await running.metric("storage", "millrace_storage_duplicate_batches_total");
  // what would come twice comes now
  await new Promise((resolve) => setTimeout(resolve, 2500));
  const verdict = await judge(running.published, new Map(files.map((file) => [file.name, file.lines])));
  const rotations = files.reduce((sum, file) => sum + file.rotations, 0);
  return { verdict, written: total, killsWithWorkInFlight, recognisedRetries, rotations };
}

it("200k lines, every process killed with -9 in turn: each line once, byte for byte, in order", {
  timeout: 420_000,
}, async () => {
  process.stdout.write(`${environmentLine(await describeEnvironment(folder))}\n`);
  const result = await run({ lineCount: 200_000, rounds: 3 });
  expect(result.verdict).toEqual({
    publishedCount: result.written,
    missing: [],
    doubled: [],
    changed: [],
    outOfOrder: [],
  });
  // a run without these has shown nothing
  expect(result.killsWithWorkInFlight).toBeGreaterThanOrEqual(6);
  expect(result.rotations).toBeGreaterThanOrEqual(6);
  expect(result.recognisedRetries).toBeGreaterThan(0);
});

// Negative controls. Without fsync before the ack: the power-cut sweeps of libs/log and libs/flow.
it.each([
  { recordIdentity: true },
  { storedPosition: true },
])("without %o the same run doubles lines, and the checker sees it", {
  timeout: 300_000,
}, async (without) => {
  const { verdict } = await run({ lineCount: 30_000, rounds: 4, victims: ["agent"], without });
  expect(verdict.missing).toEqual([]);
  expect(verdict.doubled.length).toBeGreaterThan(0);
});
