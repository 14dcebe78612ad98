import { link, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { realDisk } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  expectedLines,
  makeSink,
  numbered,
  published,
  publishedLines,
  temporaryFolder,
} from "./testing/harness.ts";
import { StepDisk } from "./testing/step-disk.ts";

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let directory: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  directory = join(folder.path, "out");
});
afterEach(() => folder.remove());

/** What an instance does from its open on: ten records a commit, from where it stands to `end`. */
async function deliver(
  sink: ReturnType<typeof makeSink>,
  epoch: number,
  end: number,
  step = 10,
): Promise<void> {
  const standing = await sink.open(epoch);
  for (let from = standing.resumeFrom ?? 0; from < end; ) {
    const to = Math.min(end, from + step);
    await sink.write(numbered(from, to));
    await sink.flush();
    from = to;
  }
}

/** An instance of epoch 1 that was killed between its entry and its rename: work for whoever opens next. */
async function leaveUnfinished(): Promise<void> {
  const dry = new StepDisk(realDisk);
  const probe = makeSink(join(folder.path, "probe"), dry);
  await deliver(probe, 1, 10);
  await probe.sink.close();
  const renameStep = dry.steps.lastIndexOf("rename") + 1;
  const killed = makeSink(directory, new StepDisk(realDisk, renameStep, "kill"));
  await expect(deliver(killed, 1, 10)).rejects.toThrow("killed");
  await killed.sink.close().catch(() => undefined);
  expect(await publishedLines(directory)).toEqual([]);
}

/** Number of steps of the zombie's whole run. */
async function countSteps(): Promise<string[]> {
  const dry = new StepDisk(realDisk);
  await leaveUnfinished();
  const sink = makeSink(directory, dry);
  await deliver(sink, 2, 40);
  await sink.sink.close();
  await folder.remove();
  folder = await temporaryFolder();
  directory = join(folder.path, "out");
  return dry.steps;
}

interface Outcome {
  readonly fenced: boolean;
  readonly lines: string[];
}

/** The zombie (epoch 2) stops before its step `n`; the successor (epoch 3) takes over; the zombie wakes up. */
async function race(n: number, movesAway: boolean): Promise<Outcome> {
  await leaveUnfinished();
  const disk = new StepDisk(realDisk, n, "pause");
  const zombie = makeSink(directory, disk);
  const zombieRun = deliver(zombie, 2, 40).then(
    () => undefined,
    (error: unknown) => error,
  );
  await disk.reached;
  const successor = makeSink(directory);
  // Many small commits, so that the entries the zombie knows are dropped meanwhile.
  await deliver(successor, 3, 50, 5);
  const moved = join(folder.path, "moved");
  await mkdir(moved);
  if (movesAway) {
    for (const name of (await published(directory)).keys())
      await rename(join(directory, name), join(moved, name));
  }
  disk.release();
  const error = await zombieRun;
  if (error !== undefined) expect(AppError.from(error)).toMatchObject({ reason: "STALE_TASK" });
  await zombie.sink.close();
  // The successor notices nothing, and neither does the next one.
  await successor.write(numbered(50, 60));
  await successor.flush();
  await successor.sink.close();
  const third = makeSink(directory);
  expect(await third.open(4)).toMatchObject({ resumeFrom: 60 });
  expect(third.sink.publishedCount()).toBe(60);
  await third.sink.close();
  return { fenced: error !== undefined, lines: await publishedLines(directory, moved) };
}

describe("two instances of one task (C3, C4)", () => {
  it("a zombie stopped at any step of opening and publishing doubles nothing and loses nothing", async () => {
    const steps = await countSteps();
    const stoppedAt = new Set<string>();
    let fencedRuns = 0;
    for (let n = 1; n <= steps.length; n++) {
      const outcome = await race(n, n % 2 === 0);
      expect(outcome.lines, `zombie stopped at step ${n} (${steps[n - 1]})`).toEqual(expectedLines(60));
      stoppedAt.add(steps[n - 1] as string);
      if (outcome.fenced) fencedRuns++;
      await folder.remove();
      folder = await temporaryFolder();
      directory = join(folder.path, "out");
    }
    // What the sweep must have exercised: every kind of step, and a fence in all runs but those past the last entry.
    for (const kind of ["link", "rename", "write", "dataSync", "list", "syncDirectory"])
      expect(stoppedAt).toContain(kind);
    expect(fencedRuns).toBeGreaterThan(steps.length / 2);
  }, 120_000);

  // Ten commits: the entry that the opener has seen is dropped meanwhile. One: the number it wants is taken.
  it.each([
    1, 10,
  ])("an opening stopped at any step, while the earlier writer commits %i times, fences it in the end", async (commits) => {
    const dry = new StepDisk(realDisk);
    await deliver(makeSink(directory), 1, 20);
    await makeSink(directory, dry).open(2);
    const steps = dry.steps.length;
    const refusals = { writer: 0, beforeFence: 0 };
    for (let n = 1; n <= steps; n++) {
      directory = join(folder.path, `out-${n}`);
      const writer = makeSink(directory);
      await deliver(writer, 2, 20);
      const disk = new StepDisk(realDisk, n, "pause");
      const opener = makeSink(directory, disk);
      const opening = opener.open(3);
      await disk.reached;
      try {
        for (let from = 20; from < 20 + 2 * commits; from += 2) {
          await writer.write(numbered(from, from + 2));
          await writer.flush();
        }
        refusals.beforeFence++;
      } catch (error) {
        expect(error).toMatchObject({ reason: "STALE_TASK" });
        refusals.writer++;
      }
      disk.release();
      const standing = await opening;
      await opener.write(numbered(standing.resumeFrom as number, 50));
      await opener.flush();
      await writer.sink.close();
      const after = makeSink(directory);
      await expect(after.open(2), "the writer opens again").rejects.toMatchObject({ reason: "STALE_TASK" });
      expect(await publishedLines(directory), `opener stopped at step ${n}`).toEqual(expectedLines(50));
    }
    expect(refusals.writer).toBeGreaterThan(0);
    expect(refusals.beforeFence).toBeGreaterThan(0);
  });

  it("an opening with a lower epoch is refused before it touches anything (C1)", async () => {
    const first = makeSink(directory);
    await deliver(first, 5, 10);
    const late = makeSink(directory);
    await expect(late.open(4)).rejects.toMatchObject({ reason: "STALE_TASK" });
    await first.write(numbered(10, 20));
    await first.flush();
    expect(await publishedLines(directory)).toEqual(expectedLines(20));
  });

  it("the same task opened again takes over from its earlier opening", async () => {
    const first = makeSink(directory);
    await deliver(first, 5, 10);
    await first.write(numbered(10, 15));
    const again = makeSink(directory);
    expect(await again.open(5)).toMatchObject({ resumeFrom: 10 });
    await again.write(numbered(10, 20));
    await again.flush();
    await expect(first.flush()).rejects.toMatchObject({ reason: "STALE_TASK" });
    await first.sink.close();
    expect(await publishedLines(directory)).toEqual(expectedLines(20));
  });
});

describe("killed at any step (C4, C5)", () => {
  it("a rename of which a power cut kept both names is finished, not repeated", async () => {
    await leaveUnfinished();
    const root = join(directory, ".millrace");
    const [log] = (await readdir(root)).filter((name) => name !== "names");
    const temporaries = join(root, log as string, "tmp");
    const [temporary] = await readdir(temporaries);
    await link(join(temporaries, temporary as string), join(directory, "logs-0-00000000000000000000.log"));
    const next = makeSink(directory);
    await deliver(next, 2, 20);
    await next.sink.close();
    expect(await publishedLines(directory)).toEqual(expectedLines(20));
    expect(await readdir(temporaries)).toEqual([]);
  });

  it("the next opening publishes every record exactly once and leaves no temporary", async () => {
    const steps = await countSteps();
    for (let n = 1; n <= steps.length; n++) {
      await leaveUnfinished();
      const killed = makeSink(directory, new StepDisk(realDisk, n, "kill"));
      await expect(deliver(killed, 2, 40)).rejects.toThrow("killed");
      await killed.sink.close().catch(() => undefined);
      const next = makeSink(directory);
      await deliver(next, 3, 50);
      await next.sink.close();
      expect(await publishedLines(directory), `killed at step ${n} (${steps[n - 1]})`).toEqual(
        expectedLines(50),
      );
      const [log] = (await readdir(join(directory, ".millrace"))).filter((name) => name !== "names");
      expect(await readdir(join(directory, ".millrace", log as string, "tmp"))).toEqual([]);
      await folder.remove();
      folder = await temporaryFolder();
      directory = join(folder.path, "out");
    }
  }, 120_000);
});
