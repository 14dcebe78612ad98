/** Power cuts at every operation of the disk: what was acknowledged is there, the log opens and goes on. */
import { SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import type { NewBatch } from "../types.ts";
import { type EmbeddedLog, openEmbeddedLog } from "./embedded-log.ts";

const directory = "/data/metadata";
const fileBytesMax = 500;

const batch = (id: string): NewBatch => ({
  ...{ batchId: id, changeId: id, part: 0, partCount: 1 },
  records: [{ kind: "topicDeleted", topicId: id.repeat(3) }],
});

/** Says that it synced, and did not. */
class ForgetfulDisk extends SimDisk {
  override async open(path: string, mode: Parameters<SimDisk["open"]>[1]): ReturnType<SimDisk["open"]> {
    return { ...(await super.open(path, mode)), dataSync: async () => {} };
  }
}

/** What the caller of a log has been told so far. */
interface Told {
  acknowledged: number;
  /** Sequence whose snapshot is saved. */
  snapshot: number;
  /** Hash of each acknowledged batch, by sequence. */
  readonly hashes: Map<number, string>;
}

async function work(disk: SimDisk, told: Told): Promise<void> {
  let log = await openEmbeddedLog({ disk, directory, fileBytesMax });
  for (let index = 1; index <= 24; index++) {
    const outcome = await log.append(log.head.sequence, batch(`b${index}`));
    if (outcome.kind !== "appended") throw new Error("a foreign append");
    told.acknowledged = index;
    told.hashes.set(index, outcome.position.hash);
    if (index % 7 === 0) {
      await log.saveSnapshot({
        position: log.head,
        records: [{ kind: "topicDeleted", topicId: `s${index}` }],
      });
      told.snapshot = index;
    }
    if (index === 16) {
      await log.close();
      log = await openEmbeddedLog({ disk, directory, fileBytesMax });
    }
  }
  await log.close();
}

async function check(left: SimDisk, told: Readonly<Told>, where: string): Promise<EmbeddedLog> {
  const log = await openEmbeddedLog({ disk: left, directory, fileBytesMax });
  const snapshot = await log.loadSnapshot();
  const from = snapshot?.position.sequence ?? 0;
  // A snapshot not yet confirmed may be there; a confirmed one must be.
  expect(from, where).toBeGreaterThanOrEqual(told.snapshot);
  expect(log.head.sequence, where).toBeGreaterThanOrEqual(told.acknowledged);
  expect(log.head.sequence, where).toBeLessThanOrEqual(told.acknowledged + 1);
  let next = from + 1;
  for await (const { position, batchId } of log.read(next)) {
    expect([position.sequence, batchId], where).toEqual([next, `b${next}`]);
    const hash = told.hashes.get(next);
    if (hash !== undefined) expect(position.hash, where).toBe(hash);
    next++;
  }
  expect(next, where).toBe(log.head.sequence + 1);
  return log;
}

describe("the embedded log through power cuts", () => {
  it("keeps what was acknowledged, at every operation and many survivals, and takes appends again", async () => {
    const disk = new SimDisk();
    const told: Told = { acknowledged: 0, snapshot: 0, hashes: new Map() };
    const images: { readonly left: SimDisk; readonly told: Told; readonly where: string }[] = [];
    let torn = 0;
    disk.onOperation = ({ number, kind, path }) => {
      for (let seed = 0; seed < 20; seed++) {
        const where = `power cut after operation ${number} (${kind} ${path}), seed ${seed}`;
        images.push({ left: disk.crash(seed < 2 ? seed : number * 100 + seed), told: { ...told }, where });
      }
    };
    await work(disk, told);
    expect(images.length).toBeGreaterThan(1_000);
    for (const { left, told: then, where } of images) {
      const log = await check(left, then, where);
      if (log.tornBytes > 0) torn++;
      const { sequence } = log.head;
      expect((await log.append(sequence, batch(`b${sequence + 1}`))).kind, where).toBe("appended");
      // A second cut, at once: the append was acknowledged.
      const again = await openEmbeddedLog({ disk: left.crash(0), directory, fileBytesMax });
      expect(again.head.sequence, where).toBe(sequence + 1);
    }
    // Without torn ends this test would not have tested their cutting.
    expect(torn).toBeGreaterThan(5);
  });

  it("is what the sync is for: without it the same cuts lose acknowledged batches (negative control)", async () => {
    const disk = new ForgetfulDisk();
    const told: Told = { acknowledged: 0, snapshot: 0, hashes: new Map() };
    const log = await openEmbeddedLog({ disk, directory, fileBytesMax });
    for (let index = 1; index <= 5; index++) {
      await log.append(log.head.sequence, batch(`b${index}`));
      told.acknowledged = index;
    }
    await expect(check(disk.crash(0), told, "control")).rejects.toThrow();
  });

  it.each([
    "EIO",
    "ENOSPC",
  ])("one %s at any operation: an error, or success, never a lost ack", async (code) => {
    const clean = new SimDisk();
    await work(clean, { acknowledged: 0, snapshot: 0, hashes: new Map() });
    for (let failing = 1; failing <= clean.operations; failing++) {
      const disk = new SimDisk();
      disk.inject = ({ number }) => (number === failing ? code : undefined);
      const told: Told = { acknowledged: 0, snapshot: 0, hashes: new Map() };
      await work(disk, told).catch((error: unknown) => {
        expect(String(error)).toMatch(new RegExp(`STORAGE_FAILED|DISK_FULL|${code}|disk`));
      });
      disk.inject = undefined;
      await check(disk.crash(0), told, `${code} at operation ${failing}`);
    }
  });
});
