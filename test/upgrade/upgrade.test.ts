/**
 * What earlier versions left behind is opened and delivered by this one: each folder here is a cluster that lost power
 * with work in flight (`make.ts`). Started again, every record of it is published exactly once, and the agent's source
 * goes on from the position that the old version stored.
 */
import { cp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeDataFolder } from "../support/environment.ts";
import { until } from "../support/processes.ts";
import { countPublished, publishedFiles } from "../support/published.ts";
import { numbers, OldCluster, publishedFolder, serviceNames } from "./old-cluster.ts";

const versions = (await readdir(import.meta.dirname)).filter((name) => /^\d+\.\d+\.\d+$/.test(name));
const deliveryMsMax = 45_000;

let folder = "";
let cluster: OldCluster | undefined;

beforeEach(async () => {
  folder = await makeDataFolder("upgraded");
});

afterEach(async () => {
  await cluster?.kill9(...serviceNames);
  cluster = undefined;
  await rm(folder, { recursive: true, force: true });
});

/** Lines of all published files, sorted. */
async function publishedLines(): Promise<string[]> {
  const out = join(folder, publishedFolder);
  const names = await publishedFiles(out);
  const texts = await Promise.all(names.map((name) => readFile(join(out, name), "utf8")));
  return texts.flatMap((text) => text.split("\n").slice(0, -1)).sort();
}

/** A copy of the version's cluster, every service of this version running on it. */
async function startCopy(version: string): Promise<OldCluster> {
  await cp(join(import.meta.dirname, version, "data"), folder, { recursive: true });
  const copy = await OldCluster.in(folder);
  cluster = copy;
  await copy.writePipeline(numbers.afterUpgrade);
  for (const name of serviceNames) await copy.processes[name].start();
  return copy;
}

describe.each(versions)("data of version %s", (version) => {
  it("is delivered: every record once, and what comes after it (A1, A4, P1, P3, C5, L1)", async () => {
    const text = await readFile(join(import.meta.dirname, version, "expected.txt"), "utf8");
    const expected = text.split("\n").slice(0, -1);
    const running = await startCopy(version);
    await until("everything is published", deliveryMsMax, async () => {
      return (await countPublished(join(folder, publishedFolder))) >= expected.length;
    });
    // The agent did not know of all it had sent: the log recognised it.
    expect(await running.metric("storage", "millrace_storage_duplicate_batches_total")).toBeGreaterThan(0);
    // The drain publishes what was still held, a second copy of anything too.
    for (const name of serviceNames.toReversed()) await running.processes[name].stop();
    expect(await publishedLines()).toEqual(expected);
  });
});

it("there is a directory of a version to upgrade from", () => {
  expect(versions.length).toBeGreaterThan(0);
});
