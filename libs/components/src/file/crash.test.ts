/** Power cuts at every operation of the file sink, on the simulated disk that keeps what POSIX promises and no more. */
import type { Disk, DiskFile } from "@millrace/runtime";
import { SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { expectedLines, linesOn, makeSink, numbered, type TestSink } from "./testing/harness.ts";

const directory = "/out";
const total = 40;

/** Opens under `epoch` and delivers up to {@link total}, ten records a file. Returns where it stood. */
async function deliverOn(sink: TestSink, epoch: number): Promise<number> {
  const standing = await sink.open(epoch);
  const stood = standing.resumeFrom ?? 0;
  for (let from = stood; from < total; from = Math.min(total, from + 10)) {
    await sink.write(numbered(from, Math.min(total, from + 10)));
    await sink.flush();
  }
  await sink.sink.close();
  return stood;
}

interface Cut {
  readonly disk: SimDisk;
  readonly at: string;
  /** What the runner had been told is delivered. */
  readonly delivered: number;
}

/** The disks that power cuts leave, one per operation and seed, of a run on `disk`. */
async function cutsOf(
  disk: SimDisk,
  epoch: number,
  seeds: readonly number[],
  wrap: (disk: SimDisk) => Disk,
): Promise<Cut[]> {
  const cuts: Cut[] = [];
  const sink = makeSink(directory, wrap(disk));
  const firstOperation = disk.operations;
  disk.onOperation = ({ number, kind, path }) => {
    for (const seed of seeds) {
      const at = `operation ${number - firstOperation} of epoch ${epoch} (${kind} ${path}), seed ${seed}`;
      cuts.push({ disk: disk.crash(seed), at, delivered: sink.feedback.delivered_.at(-1) ?? 0 });
    }
  };
  await deliverOn(sink, epoch);
  disk.onOperation = undefined;
  return cuts;
}

/** A new start after a cut: everything is there exactly once, nothing delivered is forgotten. */
async function checkAfter({ disk, at, delivered }: Cut, epoch: number): Promise<void> {
  const stood = await deliverOn(makeSink(directory, disk), epoch);
  expect(stood, `what was delivered stays: ${at}`).toBeGreaterThanOrEqual(delivered);
  expect(await linesOn(disk, directory), at).toEqual(expectedLines(total));
}

const asItIs = (disk: SimDisk): Disk => disk;

/** The disk without the fsync of files: the negative control. */
function withoutDataSync(disk: SimDisk): Disk {
  return new Proxy(disk, {
    get: (target, name: keyof SimDisk) => {
      const value: unknown = Reflect.get(target, name);
      if (name !== "open") return typeof value === "function" ? (value.bind(target) as unknown) : value;
      return async (...args: Parameters<Disk["open"]>): Promise<DiskFile> => ({
        ...(await target.open(...args)),
        dataSync: () => Promise.resolve(),
      });
    },
  });
}

describe("a power cut (C3, C4, C5)", () => {
  it("at any operation of opening and publishing: each record published exactly once", async () => {
    const cuts = await cutsOf(new SimDisk(), 1, [0, 1, 2, 3, 4], asItIs);
    expect(cuts.length).toBeGreaterThan(200);
    for (const cut of cuts) await checkAfter(cut, 2);
  });

  it("and another at any operation of the recovery", async () => {
    const cuts = await cutsOf(new SimDisk(), 1, [0, 2], asItIs);
    let checked = 0;
    for (const cut of cuts.filter((_, i) => i % 31 === 0)) {
      const again = await cutsOf(cut.disk, 2, [0, 1, 3], asItIs);
      for (const second of again) {
        await checkAfter({ ...second, at: `${cut.at}, then ${second.at}` }, 3);
        checked++;
      }
    }
    expect(checked).toBeGreaterThan(300);
  });

  it("negative control: without the fsync of data the same sweep finds losses", async () => {
    const cuts = await cutsOf(new SimDisk(), 1, [0, 2, 3], withoutDataSync);
    let failures = 0;
    for (const cut of cuts) {
      await checkAfter(cut, 2).catch(() => failures++);
    }
    expect(failures).toBeGreaterThan(0);
  });
});

describe("a full disk", () => {
  it("refuses and loses nothing: with room again everything is published once", async () => {
    for (let capacityBytes = 0; capacityBytes < 6000; capacityBytes += 97) {
      const disk = new SimDisk({ capacityBytes });
      const sink = makeSink(directory, disk);
      const error: unknown = await deliverOn(sink, 1).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (error !== undefined) expect(error).toMatchObject({ reason: "DISK_FULL" });
      await sink.sink.close();
      disk.capacityBytes = Number.POSITIVE_INFINITY;
      await deliverOn(sink, 1);
      expect(await linesOn(disk, directory), `capacity ${capacityBytes}`).toEqual(expectedLines(total));
    }
  });
});
