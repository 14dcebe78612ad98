import { join } from "node:path";
import { type SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import {
  append,
  batchOf,
  channelId,
  openSim,
  otherId,
  readAll,
  smallConfig,
  testPath,
  topicId,
  turns,
} from "./testing/test-helpers.ts";
import type { DataDirectory, Log } from "./types.ts";

const topicFolder = join(testPath, "topics", "topic-0");
const firstSegment = join(topicFolder, `${"0".repeat(20)}.log`);

async function twoLogs(directory: DataDirectory, config = smallConfig): Promise<[Log, Log]> {
  return [await directory.createLog(topicId, config), await directory.createLog(otherId, config)];
}

const named = (log: DataDirectory, name: string): Log => log.logs.find((each) => each.label === name) as Log;

/** Ten batches of one record into both logs, closed cleanly or cut off; the first log rolls twice. */
async function filledDisk(options: { isClean: boolean; config?: typeof smallConfig }): Promise<SimDisk> {
  const { directory, disk } = await openSim();
  const logs = await twoLogs(directory, options.config);
  for (let i = 0; i < 10; i++) await append(directory, logs, batchOf(`b${i}`, { valueBytes: 400 }));
  if (options.isClean) {
    await directory.close();
    return disk;
  }
  return disk.crash(0);
}

const all = Array.from({ length: 10 }, (_, i) => [i, `b${i}`]);

describe("J4 the flushed-through mark", () => {
  it("J2: what was acknowledged comes back from the journal alone", async () => {
    const { directory } = await openSim(await filledDisk({ isClean: false }));
    expect(directory.recovery).toMatchObject({
      wasClean: false,
      replayedEntries: 10 + 2,
      corruptRanges: [],
      tornTails: [],
    });
    for (const log of directory.logs) expect(await readAll(log)).toEqual(all);
  });

  it("a clean close replays and walks nothing", async () => {
    const { directory } = await openSim(await filledDisk({ isClean: true }));
    expect(directory.recovery).toMatchObject({ wasClean: true, replayedEntries: 0 });
    for (const log of directory.logs) expect(await readAll(log)).toEqual(all);
  });

  it("below the mark a bad batch is corruption: quarantined with its offsets, never served, never cut; others go on", async () => {
    for (const isUnclean of [false, true]) {
      const filled = await filledDisk({ isClean: true });
      let disk = filled;
      if (isUnclean) {
        // An append and a power cut: the mark stands where the clean close put it.
        const { directory } = await openSim(filled);
        await append(directory, directory.logs, batchOf("b10", { valueBytes: 400 }));
        disk = filled.crash(0);
      }
      disk.corrupt(firstSegment, 700, (byte) => byte ^ 1);
      const { directory, events } = await openSim(disk);
      const log = named(directory, "topic-0");
      expect(await readAll(named(directory, "other-1"))).toHaveLength(isUnclean ? 11 : 10);
      await expect(log.read(1, 10)).rejects.toMatchObject({
        reason: "RECORD_LOST_ON_DISK",
        metadata: { fromOffset: "1", nextOffset: "2" },
      });
      expect(await readAll(log, 2)).toEqual([...all.slice(2), ...(isUnclean ? [[10, "b10"]] : [])]);
      // A read that begins before the damage ends there.
      expect((await log.read(0, 10_000)).map((chunk) => chunk.length)).toEqual([
        (await log.read(0, 1))[0]?.length,
      ]);
      expect(events).toContainEqual(
        expect.objectContaining({ kind: "corruptionQuarantined", fromOffset: 1, toOffset: 2 }),
      );
      await append(directory, [log], batchOf("after"));
      expect((await readAll(log, 2)).at(-1)?.[1]).toBe("after");
    }
  });

  it("reports a segment that lost its end, or is gone, as a range; offsets are not used again", async () => {
    const shortened = await filledDisk({ isClean: true });
    const { directory: before } = await openSim(shortened);
    const end = named(before, "topic-0").endOffset;
    const last = (await shortened.list(topicFolder)).filter((name) => name.endsWith(".log")).at(-1) as string;
    const cut = shortened.crash(0);
    await (await cut.open(join(topicFolder, last), "write")).truncate(30);
    const { directory } = await openSim(cut);
    const log = named(directory, "topic-0");
    expect(log.endOffset).toBe(end);
    const [range] = directory.recovery.corruptRanges;
    expect(range).toMatchObject({ log: "topic-0", toOffset: end });
    await expect(log.read(end - 1, 10)).rejects.toMatchObject({ reason: "RECORD_LOST_ON_DISK" });
    expect(await append(directory, [log], batchOf("next"))).toEqual([end]);
    expect(await readAll(log, end)).toEqual([[end, "next"]]);

    const gone = cut.crash(0);
    await gone.removeTree(topicFolder);
    const reopened = await openSim(gone);
    expect(named(reopened.directory, "topic-0")).toMatchObject({ startOffset: 0, endOffset: end + 1 });
    await expect(named(reopened.directory, "topic-0").read(0, 10)).rejects.toMatchObject({
      reason: "RECORD_LOST_ON_DISK",
    });
  });

  it("finds every flipped bit of a flushed segment and never serves wrong bytes", async () => {
    const filled = await filledDisk({ isClean: true, config: { ...smallConfig, segmentBytes: 100_000 } });
    const { length } = filled.contents(firstSegment) as Uint8Array;
    for (let at = 0; at < length; at += at < 61 ? 1 : 37) {
      const disk = filled.crash(0);
      disk.corrupt(firstSegment, at, (byte) => byte ^ (1 << (at % 8)));
      const { directory } = await openSim(disk);
      const log = named(directory, "topic-0");
      let offset = 0;
      let lostCount = 0;
      while (offset < log.endOffset) {
        try {
          for (const [base, name] of await readAll(log, offset)) {
            expect(name, `byte ${at}`).toBe(`b${base}`);
            offset = base + 1;
          }
        } catch (error) {
          expect(error, `byte ${at}`).toMatchObject({ reason: "RECORD_LOST_ON_DISK" });
          offset = Number((error as { metadata: { nextOffset: string } }).metadata.nextOffset);
          lostCount++;
        }
      }
      // The leader epoch too, which the batch's checksum does not cover.
      expect(lostCount, `byte ${at}`).toBe(1);
    }
  });
});

describe("J6 os topics", () => {
  const osConfig = { ...smallConfig, flushPolicy: "os" as const };

  it("acknowledges without fsync; a power cut may take the end, and what is kept is a prefix, fsynced before it is served", async () => {
    const seen = new Set<number>();
    for (let seed = 2; seed < 40; seed++) {
      const { directory, disk, clock } = await openSim();
      const log = await directory.createLog(topicId, osConfig);
      for (let i = 0; i < 8; i++) {
        const { durable } = directory.commit([
          { logs: [log], batch: batchOf(`b${i}`, { valueBytes: 300 }), leaderEpoch: 0 },
        ]);
        await durable;
        expect(log.durableOffset).toBe(i + 1);
        clock.advance(250);
        await turns();
      }
      const cut = disk.crash(seed);
      const { directory: again } = await openSim(cut);
      const kept = await readAll(named(again, "topic-0"));
      expect(kept).toEqual(all.slice(0, kept.length));
      seen.add(kept.length);
      const { directory: third } = await openSim(cut.crash(0));
      expect(await readAll(named(third, "topic-0"))).toEqual(kept);
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  it("J4: beyond the mark a bad batch is torn: cut, with what follows", async () => {
    const { directory, disk } = await openSim();
    const log = await directory.createLog(topicId, osConfig);
    await append(directory, [log], batchOf("kept"));
    await directory.close();
    // Bytes behind the mark, as an unsynced write leaves them.
    const file = await disk.open(firstSegment, "write");
    await file.write([Buffer.alloc(50, 7)], await file.size());
    const checkpoint = join(testPath, "journal", "checkpoint");
    expect(disk.contents(checkpoint)).toBeDefined();
    const { directory: again, events } = await openSim(disk);
    expect(await readAll(named(again, "topic-0"))).toEqual([[0, "kept"]]);
    expect(again.recovery.tornTails).toEqual([{ log: "topic-0", fromOffset: 1, bytes: 50 }]);
    expect(events).toContainEqual({ kind: "tornTailCut", log: "topic-0", fromOffset: 1, bytes: 50 });
    expect((disk.contents(firstSegment) as Uint8Array).length).toBe(batchOf("kept").length);
  });
});

describe("L6 indexes, snapshots and epochs are functions of the log", () => {
  it("rebuilds them to the same bytes when they are lost or damaged", async () => {
    const filled = await openSim();
    const log = await filled.directory.createLog(topicId, smallConfig);
    for (let i = 0; i < 30; i++) {
      const producer = { producerId: 3 + (i % 2), producerEpoch: 0, baseSequence: Math.floor(i / 2) };
      const batch = batchOf(`b${i}`, {
        valueBytes: 50 + (i % 7) * 20,
        timestampMs: 1000 + ((i * 37) % 11) * 100,
        producer,
      });
      await append(filled.directory, [log], batch, Math.floor(i / 10));
    }
    await filled.directory.close();
    const { disk } = filled;
    const derived = (await disk.list(topicFolder)).filter((name) => /index|snapshot|epoch/.test(name));
    const before = derived.map((name) => [
      name,
      Buffer.from(disk.contents(join(topicFolder, name)) ?? []).toString("hex"),
    ]);
    for (const damage of ["remove", "truncate"]) {
      const damaged = disk.crash(0);
      for (const name of derived) {
        const path = join(topicFolder, name);
        if (damage === "remove") await damaged.removeFile(path);
        else await (await damaged.open(path, "write")).truncate(5);
      }
      const { directory } = await openSim(damaged);
      await directory.close();
      const after = derived.map((name) => [
        name,
        Buffer.from(damaged.contents(join(topicFolder, name)) ?? []).toString("hex"),
      ]);
      const isSnapshotOfOldSegment = (name: string): boolean =>
        name.endsWith(".snapshot") && !name.includes("30.snapshot");
      const comparable = (rows: string[][]): string[][] =>
        rows.filter(([name]) => !isSnapshotOfOldSegment(name as string));
      expect(comparable(after), damage).toEqual(comparable(before));
    }
  });
});

describe("J1 layout and registry", () => {
  it("is a Kafka log directory under topics/, with identity in partition.metadata", async () => {
    const { directory, disk } = await openSim();
    await twoLogs(directory);
    await directory.createLog(channelId, smallConfig);
    await directory.setIdentity({ clusterId: "cluster", nodeId: "4" });
    await append(directory, directory.logs, batchOf("a"));
    await directory.close();
    expect(await disk.list(testPath)).toEqual(["channels", "journal", "meta", "topics"]);
    expect(await disk.list(join(testPath, "topics"))).toEqual([
      ".kafka_cleanshutdown",
      "log-start-offset-checkpoint",
      "meta.properties",
      "other-1",
      "recovery-point-offset-checkpoint",
      "replication-offset-checkpoint",
      "topic-0",
    ]);
    const text = (path: string): string => Buffer.from(disk.contents(path) ?? []).toString();
    expect(text(join(topicFolder, "partition.metadata"))).toBe(
      "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA\n",
    );
    expect(text(join(testPath, "topics", "recovery-point-offset-checkpoint"))).toBe(
      "0\n2\ntopic 0 1\nother 1 1\n",
    );
    expect(await disk.list(join(testPath, "channels"))).toEqual(["channel"]);
  });

  it("refuses a folder of another topic id, moves aside data that no log claims, removes what was being deleted", async () => {
    const disk = await filledDisk({ isClean: true });
    const topics = join(testPath, "topics");
    await disk.rename(topicFolder, join(topics, "stray-0"));
    const { directory, events } = await openSim(disk);
    expect(events).toContainEqual(expect.objectContaining({ kind: "strayDirectory" }));
    expect(
      (await disk.list(topics)).some((name) => name.startsWith("stray-0.") && name.endsWith("-stray")),
    ).toBe(true);
    await directory.close();
    await disk.rename(join(topics, "other-1"), join(topics, "topic-0.tmp"));
    await disk.removeTree(topicFolder);
    await disk.rename(join(topics, "topic-0.tmp"), topicFolder);
    await expect(openSim(disk)).rejects.toMatchObject({ reason: "LINEAGE_REFUSED" });
  });

  it("a deleted log is gone for good, its namesake is another log", async () => {
    const { directory, disk } = await openSim();
    const [log] = await twoLogs(directory);
    await append(directory, [log], batchOf("old"));
    await directory.deleteLog(log);
    expect(directory.getLog(topicId)).toBeUndefined();
    const id = { ...topicId, topicId: "CCCCCCCCCCCCCCCCCCCCCC" } as typeof topicId;
    const anew = await directory.createLog(id, smallConfig);
    await append(directory, [anew], batchOf("new"));
    const { directory: again } = await openSim(disk.crash(0));
    expect(again.getLog(topicId)).toBeUndefined();
    expect(await readAll(again.getLog(id) as Log)).toEqual([[0, "new"]]);
    await expect(log.read(0, 10)).rejects.toMatchObject({ reason: "UNKNOWN_TOPIC_ID" });
  });
});
