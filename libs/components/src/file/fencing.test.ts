/** Zombies: an instance that sleeps at any step while another one takes over, on the simulated disk and on the real one. */
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { type Disk, realDisk } from "@millrace/runtime";
import { SimDisk } from "@millrace/testkit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  expectedLines,
  linesOn,
  makeSink,
  numbered,
  type TestSink,
  temporaryFolder,
} from "./testing/harness.ts";
import { StepDisk } from "./testing/step-disk.ts";

/** A disk with an output directory. */
interface Place {
  readonly disk: Disk;
  readonly root: string;
  readonly directory: string;
}

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let places = 0;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

const kinds = {
  sim: (): Place => ({ disk: new SimDisk(), root: "/", directory: "/out" }),
  real: (): Place => {
    const root = join(folder.path, String(places++));
    return { disk: realDisk, root, directory: join(root, "out") };
  },
};

const sinkAt = (place: Place, disk: Disk = place.disk): TestSink => makeSink(place.directory, disk);
const linesAt = (place: Place): Promise<string[]> => linesOn(place.disk, place.directory);

/** What an instance does from its open on: `step` records a commit, from where it stands to `end`. */
async function deliver(sink: TestSink, epoch: number, end: number, step = 10): Promise<void> {
  const standing = await sink.open(epoch);
  for (let from = standing.resumeFrom ?? 0; from < end; ) {
    const to = Math.min(end, from + step);
    await sink.write(numbered(from, to));
    await sink.flush();
    from = to;
  }
}

/** An instance of epoch 1 that was killed between its entry and its rename: work for whoever opens next. */
async function leaveUnfinished(place: Place): Promise<void> {
  const dry = new StepDisk(new SimDisk());
  await deliver(makeSink("/out", dry), 1, 10);
  const killed = sinkAt(place, new StepDisk(place.disk, dry.steps.lastIndexOf("rename") + 1, "kill"));
  await expect(deliver(killed, 1, 10)).rejects.toThrow("killed");
  await killed.sink.close().catch(() => undefined);
  expect(await linesAt(place)).toEqual([]);
}

/** The steps of the zombie's whole run. */
async function zombieSteps(): Promise<readonly string[]> {
  const place = kinds.sim();
  await leaveUnfinished(place);
  const dry = new StepDisk(place.disk);
  const sink = sinkAt(place, dry);
  await deliver(sink, 2, 40);
  await sink.sink.close();
  return dry.steps;
}

/** Folder of the only commit log. */
async function logFolder({ disk, directory }: Place): Promise<string> {
  const root = join(directory, ".millrace");
  const [log] = (await disk.list(root)).filter((name) => name !== "names");
  return join(root, log as string);
}

async function moveAway({ disk, directory }: Place, to: string): Promise<void> {
  for (const name of await disk.list(directory)) {
    if (!name.startsWith(".")) await disk.rename(join(directory, name), join(to, name));
  }
}

/** The zombie (epoch 2) stops before its step `n`; the successor (epoch 3) takes over; the zombie wakes up. */
async function race(
  place: Place,
  n: number,
  movesAway: boolean,
): Promise<{ fenced: boolean; lines: string[] }> {
  await leaveUnfinished(place);
  const sleeping = new StepDisk(place.disk, n, "pause");
  const zombie = sinkAt(place, sleeping);
  const zombieRun = deliver(zombie, 2, 40).then(
    () => undefined,
    (error: unknown) => AppError.from(error),
  );
  await sleeping.reached;
  const successor = sinkAt(place);
  // Many small commits, so that the entries the zombie knows are dropped meanwhile.
  await deliver(successor, 3, 50, 5);
  const moved = join(place.root, "moved");
  await place.disk.makeDirectory(moved);
  // A user may take published files away; they must not come back.
  if (movesAway) await moveAway(place, moved);
  sleeping.release();
  const error = await zombieRun;
  if (error !== undefined) expect(error).toMatchObject({ reason: "STALE_TASK" });
  await zombie.sink.close();
  // The successor notices nothing, and neither does the next one.
  await successor.write(numbered(50, 60));
  await successor.flush();
  await successor.sink.close();
  const third = sinkAt(place);
  expect(await third.open(4)).toMatchObject({ resumeFrom: 60 });
  expect(third.sink.publishedCount()).toBe(60);
  await third.sink.close();
  return { fenced: error !== undefined, lines: await linesOn(place.disk, place.directory, moved) };
}

describe.each([
  ["sim", 1],
  ["real", 7],
] as const)("two instances of one task on the %s disk (C3, C4)", (kind, everyNth) => {
  it("a zombie stopped at any step of opening and publishing doubles nothing and loses nothing", async () => {
    const steps = await zombieSteps();
    const stoppedAt = new Set<string>();
    let runs = 0;
    let fencedRuns = 0;
    for (let n = 1; n <= steps.length; n += everyNth) {
      for (const movesAway of [false, true]) {
        const outcome = await race(kinds[kind](), n, movesAway);
        expect(outcome.lines, `zombie stopped at step ${n} (${steps[n - 1]})`).toEqual(expectedLines(60));
        stoppedAt.add(steps[n - 1] as string);
        runs++;
        if (outcome.fenced) fencedRuns++;
      }
    }
    // What the sweep must have exercised: every kind of step, and a fence in most runs.
    if (everyNth === 1) {
      for (const step of ["link", "rename", "write", "dataSync", "list", "syncDirectory"])
        expect(stoppedAt).toContain(step);
    }
    expect(fencedRuns).toBeGreaterThan(runs / 2);
  });
});

describe("opening (C1, C4)", () => {
  // Ten commits: the entry that the opener has seen is dropped meanwhile. One: the number it wants is taken.
  it.each([
    1, 10,
  ])("stopped at any step, while the earlier writer commits %i times, it fences it in the end", async (commits) => {
    const dry = new StepDisk(new SimDisk());
    await deliver(makeSink("/out", dry), 1, 20);
    const before = dry.steps.length;
    await makeSink("/out", dry).open(2);
    const refusals = { writer: 0, none: 0 };
    for (let n = 1; n <= dry.steps.length - before; n++) {
      const place = kinds.sim();
      const writer = sinkAt(place);
      await deliver(writer, 2, 20);
      const sleeping = new StepDisk(place.disk, n, "pause");
      const opener = sinkAt(place, sleeping);
      const opening = opener.open(3);
      await sleeping.reached;
      try {
        for (let from = 20; from < 20 + 2 * commits; from += 2) {
          await writer.write(numbered(from, from + 2));
          await writer.flush();
        }
        refusals.none++;
      } catch (error) {
        expect(error).toMatchObject({ reason: "STALE_TASK" });
        refusals.writer++;
      }
      sleeping.release();
      const standing = await opening;
      await opener.write(numbered(standing.resumeFrom as number, 50));
      await opener.flush();
      await writer.sink.close();
      await expect(sinkAt(place).open(2), "the writer opens again").rejects.toMatchObject({
        reason: "STALE_TASK",
      });
      expect(await linesAt(place), `opener stopped at step ${n}`).toEqual(expectedLines(50));
    }
    expect(refusals.writer).toBeGreaterThan(0);
    expect(refusals.none).toBeGreaterThan(0);
  });

  it("stopped at any step, it leaves alone what a higher epoch is writing", async () => {
    const steps = (await zombieSteps()).length;
    for (let n = 1; n <= steps; n++) {
      const place = kinds.sim();
      await leaveUnfinished(place);
      const sleeping = new StepDisk(place.disk, n, "pause");
      const slow = sinkAt(place, sleeping);
      const opening = slow.open(2).catch((error: unknown) => error);
      const isSleeping = await Promise.race([sleeping.reached.then(() => true), opening.then(() => false)]);
      if (!isSleeping) break;
      const heir = sinkAt(place);
      const standing = await heir.open(3);
      await heir.write(numbered(standing.resumeFrom as number, 30));
      sleeping.release();
      await opening;
      await heir.flush();
      expect(await linesAt(place), `opener stopped at step ${n}`).toEqual(expectedLines(30));
    }
  });

  it("with a lower epoch it is refused before it touches anything", async () => {
    const place = kinds.real();
    const first = sinkAt(place);
    await deliver(first, 5, 10);
    await expect(sinkAt(place).open(4)).rejects.toMatchObject({ reason: "STALE_TASK" });
    await first.write(numbered(10, 20));
    await first.flush();
    expect(await linesAt(place)).toEqual(expectedLines(20));
  });

  it("the same task opened again takes over from its earlier opening", async () => {
    const place = kinds.real();
    const first = sinkAt(place);
    await deliver(first, 5, 10);
    await first.write(numbered(10, 15));
    const again = sinkAt(place);
    expect(await again.open(5)).toMatchObject({ resumeFrom: 10 });
    await again.write(numbered(10, 20));
    await again.flush();
    await expect(first.flush()).rejects.toMatchObject({ reason: "STALE_TASK" });
    await first.sink.close();
    expect(await linesAt(place)).toEqual(expectedLines(20));
  });
});

describe("killed (C4, C5)", () => {
  it.each([
    ["sim", 1],
    ["real", 5],
  ] as const)("at any step, on the %s disk: each record exactly once, and no temporary is left", async (kind, everyNth) => {
    const steps = await zombieSteps();
    for (let n = 1; n <= steps.length; n += everyNth) {
      const place = kinds[kind]();
      await leaveUnfinished(place);
      const killed = sinkAt(place, new StepDisk(place.disk, n, "kill"));
      await expect(deliver(killed, 2, 40)).rejects.toThrow("killed");
      await killed.sink.close().catch(() => undefined);
      const next = sinkAt(place);
      await deliver(next, 3, 50);
      await next.sink.close();
      expect(await linesAt(place), `killed at step ${n} (${steps[n - 1]})`).toEqual(expectedLines(50));
      expect(await place.disk.list(join(await logFolder(place), "tmp"))).toEqual([]);
    }
  });

  it("a rename of which a power cut kept both names is finished, not repeated", async () => {
    const place = kinds.real();
    await leaveUnfinished(place);
    const temporaries = join(await logFolder(place), "tmp");
    const [temporary] = await place.disk.list(temporaries);
    const final = join(place.directory, "logs-0-00000000000000000000.log");
    await place.disk.link(join(temporaries, temporary as string), final);
    const next = sinkAt(place);
    await deliver(next, 2, 20);
    await next.sink.close();
    expect(await linesAt(place)).toEqual(expectedLines(20));
    expect(await place.disk.list(temporaries)).toEqual([]);
  });
});
