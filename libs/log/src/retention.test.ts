import { SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { retentionCheckMs } from "./limits.ts";
import { ClockWatch, decideRetention, type RetentionInput } from "./retention.ts";
import {
  append,
  batchOf,
  channelId,
  openSim,
  otherId,
  readAll,
  smallConfig,
  topicId,
  turns,
} from "./testing/test-helpers.ts";
import type { Log } from "./types.ts";

/** Four segments of ten records and 100 bytes, the newest record of each one hour apart; the last one is active. */
function input(
  changes: Partial<RetentionInput> & { retentionMs?: number; retentionBytes?: number } = {},
): RetentionInput {
  const hourMs = 3_600_000;
  const segments = [0, 1, 2, 3].map((i) => ({
    baseOffset: i * 10,
    nextOffset: i * 10 + 10,
    sizeBytes: 100,
    newestMs: i * hourMs,
  }));
  const { retentionMs = -1, retentionBytes = -1 } = changes;
  return {
    segments,
    config: { retentionMs, retentionBytes },
    startOffset: 0,
    durableOffset: 40,
    retainFrom: Number.POSITIVE_INFINITY,
    nowMs: 4 * hourMs,
    ...changes,
  };
}

describe("decideRetention (kafka.md §3.5)", () => {
  it("keeps everything without limits", () => {
    expect(decideRetention(input()).count).toBe(0);
  });

  it("removes by size from the front while what is left reaches the limit", () => {
    expect(decideRetention(input({ retentionBytes: 250 }))).toEqual({ count: 1, reason: "size" });
    expect(decideRetention(input({ retentionBytes: 200 }))).toEqual({ count: 2, reason: "size" });
    expect(decideRetention(input({ retentionBytes: 0 })).count).toBe(4);
  });

  it("removes by time, the active segment too, and stops at the first that is young", () => {
    expect(decideRetention(input({ retentionMs: 2.5 * 3_600_000 }))).toEqual({ count: 2, reason: "time" });
    expect(decideRetention(input({ retentionMs: 1 })).count).toBe(4);
  });

  it("pauses time retention without a trusted clock", () => {
    expect(decideRetention({ ...input({ retentionMs: 1 }), nowMs: undefined }).count).toBe(0);
  });

  it("S2: never passes retainFrom, never what is not durable", () => {
    expect(decideRetention(input({ retentionBytes: 0, retainFrom: 20 })).count).toBe(2);
    expect(decideRetention(input({ retentionMs: 1, retainFrom: 19 })).count).toBe(1);
    expect(decideRetention(input({ retentionBytes: 0, durableOffset: 15 })).count).toBe(1);
  });

  it("removes whole segments below the start, held or not, but not the active one", () => {
    expect(decideRetention(input({ startOffset: 20, retainFrom: 0 }))).toEqual({ count: 2, reason: "start" });
    expect(decideRetention(input({ startOffset: 40 })).count).toBe(3);
  });
});

describe("ClockWatch", () => {
  it("notices a wall clock that moves against the monotonic one", () => {
    const watch = new ClockWatch();
    expect(watch.look(1000, 5)).toBe(0);
    expect(watch.look(61_000, 60_005)).toBe(0);
    expect(watch.look(61_000 + 7_200_000, 60_005)).toBe(7_200_000);
    expect(watch.look(61_000 + 7_201_000, 61_005)).toBe(0);
  });
});

async function filled(disk = new SimDisk(), id = topicId) {
  const world = await openSim(disk);
  const log = await world.directory.createLog(id, smallConfig);
  for (let i = 0; i < 20; i++) {
    await append(
      world.directory,
      [log],
      batchOf(`b${i}`, { valueBytes: 400, timestampMs: 1_700_000_000_000 + i * 1000 }),
    );
  }
  return { ...world, log };
}

describe("retention of a directory", () => {
  it("removes files, moves the start durably and tells", async () => {
    const { directory, disk, events, log } = await filled();
    log.alterConfig({ ...smallConfig, retentionBytes: 4000 });
    await directory.applyRetention();
    expect(log.startOffset).toBeGreaterThan(0);
    expect(log.sizeBytes).toBeLessThan(6000);
    expect(events).toContainEqual(
      expect.objectContaining({ kind: "segmentsDeleted", reason: "size", records: log.startOffset }),
    );
    await expect(log.read(0, 10)).rejects.toMatchObject({ reason: "OFFSET_OUT_OF_RANGE" });
    const names = (await disk.list("/data/topics/topic-0")).filter((name) => name.endsWith(".log"));
    expect(names[0]).toBe(`${String(log.startOffset).padStart(20, "0")}.log`);
    const { directory: again } = await openSim(disk.crash(0));
    expect(again.getLog(topicId)).toMatchObject({ startOffset: log.startOffset, endOffset: 20 });
    expect(again.recovery.corruptRanges).toEqual([]);
  });

  it("runs by itself, holds for retainFrom (S2), and empties a log that has wholly expired", async () => {
    const { directory, disk, clock, log } = await filled();
    log.alterConfig({ ...smallConfig, retentionMs: 1 });
    log.retainFrom = 7;
    clock.advance(retentionCheckMs);
    await turns(30);
    expect(log.startOffset).toBeGreaterThan(0);
    expect(log.startOffset).toBeLessThanOrEqual(7);
    log.retainFrom = Number.POSITIVE_INFINITY;
    await directory.applyRetention();
    expect([log.startOffset, log.endOffset, log.sizeBytes]).toEqual([20, 20, 0]);
    await append(directory, [log], batchOf("next"));
    const { directory: again } = await openSim(disk.crash(0));
    expect(await readAll(again.getLog(topicId) as Log)).toEqual([[20, "next"]]);
  });

  it("pauses time retention when the wall clock jumps, and says so", async () => {
    const { directory, clock, events, log } = await filled();
    log.alterConfig({ ...smallConfig, retentionMs: 86_400_000 });
    clock.jumpWall(40 * 86_400_000);
    await directory.applyRetention();
    expect(log.startOffset).toBe(0);
    expect(events).toContainEqual({ kind: "clockJumped", byMs: 40 * 86_400_000 });
    await directory.applyRetention();
    expect(log.startOffset).toBe(20);
  });

  it("P4: the producer snapshot of the new first segment is durable before older segments go", async () => {
    const { directory, disk, log } = await filled();
    await append(
      directory,
      [log],
      batchOf("named", {
        valueBytes: 400,
        producer: { producerId: 2 ** 40, producerEpoch: 0, baseSequence: 0 },
      }),
    );
    for (let i = 0; i < 8; i++) await append(directory, [log], batchOf("more", { valueBytes: 400 }));
    log.alterConfig({ ...smallConfig, retentionBytes: 500 });
    await directory.applyRetention();
    expect(log.startOffset).toBeGreaterThan(21);
    const { directory: again } = await openSim(disk.crash(0));
    expect(again.getLog(topicId)?.producers()).toMatchObject([
      { producerId: 2 ** 40, lastSequence: 0, lastOffset: 20 },
    ]);
  });

  it("advanceStart removes a channel's delivered segments and survives restarts", async () => {
    const { directory, disk, clock, log } = await filled(new SimDisk(), channelId);
    expect(() => log.advanceStart(21)).toThrow(/cannot move to 21/);
    log.advanceStart(10);
    expect(log.startOffset).toBe(10);
    await turns(30);
    expect(log.sizeBytes).toBeLessThan(20 * 460);
    log.advanceStart(20);
    await turns(30);
    clock.advance(2000);
    await directory.close();
    const { directory: again } = await openSim(disk);
    expect(again.getLog(channelId)).toMatchObject({ startOffset: 20, endOffset: 20 });
  });

  it("DeleteRecords inside a segment is journaled", async () => {
    const { directory, disk, clock, log } = await filled();
    log.advanceStart(2);
    await turns();
    clock.advance(2000);
    await directory.flush();
    const { directory: again } = await openSim(disk.crash(0));
    expect(again.getLog(topicId)?.startOffset).toBe(2);
  });
});

describe("J4 truncate", () => {
  it("lowers the end before the next append, durably, and over restarts", async () => {
    for (const offset of [0, 3, 7, 11, 19]) {
      const { directory, disk, log } = await filled();
      await log.truncate(offset);
      expect([log.endOffset, log.durableOffset]).toEqual([offset, offset]);
      await append(directory, [log], batchOf("new", { valueBytes: 300 }), 1);
      const expected = [...Array.from({ length: offset }, (_, i) => [i, `b${i}`]), [offset, "new"]];
      expect(await readAll(log)).toEqual(expected);
      for (const image of [disk.crash(0), disk.crash(1), disk.crash(5)]) {
        const { directory: again } = await openSim(image);
        expect(await readAll(again.getLog(topicId) as Log)).toEqual(expected);
        expect(again.getLog(topicId)?.endOfEpoch(0)?.endOffset ?? 0).toBe(offset);
      }
      await directory.close();
      const { directory: reopened } = await openSim(disk);
      expect(await readAll(reopened.getLog(topicId) as Log)).toEqual(expected);
    }
  });

  it("a checkpoint taken while the cut is under way does not count it as done", async () => {
    const { directory, disk, events } = await openSim(new SimDisk(), { journalFileBytes: 8192 });
    const log = await directory.createLog(topicId, { ...smallConfig, segmentBytes: 100_000 });
    const other = await directory.createLog(otherId, smallConfig);
    for (let i = 0; i < 10; i++) await append(directory, [log], batchOf(`b${i}`));
    const release = Promise.withResolvers<undefined>();
    disk.delay = ({ kind, path }) =>
      kind === "truncate" && path.includes("topic-0") ? release.promise : undefined;
    const cut = log.truncate(4);
    const checkpoints = (): number => events.filter((event) => event.kind === "checkpointed").length;
    const before = checkpoints();
    for (let i = 0; checkpoints() < before + 2; i++) {
      expect(i, "the journal has rolled by now").toBeLessThan(500);
      await append(directory, [other], batchOf(`o${i}`, { valueBytes: 300 }));
    }
    release.resolve(undefined);
    await cut;
    // As large as the batch that stood there: what followed it would be a good continuation.
    await append(directory, [log], batchOf("nw"), 1);
    const { directory: again } = await openSim(disk.crash(0), { journalFileBytes: 8192 });
    const kept = Array.from({ length: 4 }, (_, i) => [i, `b${i}`]);
    expect(await readAll(again.getLog(topicId) as Log)).toEqual([...kept, [4, "nw"]]);
  });

  it("forgets producers' batches that were cut", async () => {
    const { directory, log } = await filled();
    const producer = (baseSequence: number) => ({ producerId: 5, producerEpoch: 0, baseSequence });
    for (let i = 0; i < 6; i++)
      await append(directory, [log], batchOf("p", { valueBytes: 400, producer: producer(i) }));
    await log.truncate(23);
    expect(log.producers()).toMatchObject([{ producerId: 5, lastSequence: 2, lastOffset: 22 }]);
    await log.truncate(5);
    expect(log.producers()).toEqual([]);
  });

  it("takes a batch that the offset falls into whole, refuses below the start, ignores at the end", async () => {
    const { directory, log } = await filled();
    await append(directory, [log], batchOf("three", { count: 3 }));
    await log.truncate(22);
    expect(log.endOffset).toBe(20);
    await log.truncate(20);
    expect(log.endOffset).toBe(20);
    log.advanceStart(10);
    await turns(20);
    await expect(log.truncate(2)).rejects.toMatchObject({ reason: "OFFSET_OUT_OF_RANGE" });
  });
});
