import { join } from "node:path";
import { type BatchHeader, readBatchHeader } from "@millrace/record";
import { type SimClock, SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { diskFullRetryMs, lazyCommitDelayMs } from "./limits.ts";
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
import type { Log } from "./types.ts";

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString();

/** Advances the clock until the promise settles. */
async function settle<T>(clock: SimClock, work: Promise<T>, stepMs = 100): Promise<T> {
  const progress = { isDone: false };
  const watched = work.finally(() => {
    progress.isDone = true;
  });
  watched.catch(() => {});
  for (let i = 0; i < 2000 && !progress.isDone; i++) {
    clock.advance(stepMs);
    await turns(1);
  }
  return watched;
}

describe("commit", () => {
  it("J2: puts one batch into several logs under each log's own offset and epoch, with state, at once", async () => {
    const { directory, disk } = await openSim();
    const topic = await directory.createLog(topicId, smallConfig);
    const channel = await directory.createLog(channelId, smallConfig);
    await append(directory, [channel], batchOf("before", { count: 3 }));
    const committed = directory.commit(
      [
        { logs: [topic, channel], batch: batchOf("both", { count: 2 }), leaderEpoch: 5 },
        { logs: [channel], batch: batchOf("second"), leaderEpoch: 5 },
      ],
      [{ key: "position", value: Buffer.from("42") }],
    );
    expect(committed.baseOffsets).toEqual([[0, 3], [5]]);
    expect([topic.endOffset, topic.durableOffset, channel.endOffset, channel.durableOffset]).toEqual([
      2, 0, 6, 3,
    ]);
    expect(text(directory.getState("position"))).toBe("42");
    await committed.durable;
    expect([topic.durableOffset, channel.durableOffset]).toEqual([2, 6]);
    const { directory: again } = await openSim(disk.crash(0));
    expect(text(again.getState("position"))).toBe("42");
    const readAgain = again.getLog(channelId) as Log;
    expect(await readAll(readAgain)).toEqual([
      [0, "before"],
      [3, "both"],
      [5, "second"],
    ]);
    const [chunk] = await (again.getLog(topicId) as Log).read(1, 1);
    expect(readBatchHeader(chunk as Uint8Array)).toMatchObject({
      baseOffset: 0,
      leaderEpoch: 5,
      lastOffset: 1,
    });
  });

  it("refuses the whole commit before anything is assigned when one part cannot be", async () => {
    const { directory } = await openSim();
    const topic = await directory.createLog(topicId, smallConfig);
    const small = await directory.createLog(otherId, { ...smallConfig, batchBytesMax: 200 });
    const batch = batchOf("large", { valueBytes: 300 });
    expect(() => directory.commit([{ logs: [topic, small], batch, leaderEpoch: 0 }])).toThrow(
      expect.objectContaining({ reason: "RECORD_TOO_LARGE" }),
    );
    expect(topic.endOffset).toBe(0);
    await append(directory, [topic], batchOf("a"), 3);
    expect(() => directory.commit([{ logs: [topic], batch: batchOf("b"), leaderEpoch: 2 }])).toThrow(
      expect.objectContaining({ reason: "FENCED_LEADER_EPOCH" }),
    );
    expect(() => directory.commit([], [{ key: "\u0000log/1", value: null }])).toThrow(/begin with NUL/);
    const state = [{ key: "k", value: Buffer.alloc(30_000) }];
    expect(() => directory.commit([{ logs: [topic], batch: batchOf("c"), leaderEpoch: 3 }], state)).toThrow(
      expect.objectContaining({ reason: "LIMIT_EXCEEDED" }),
    );
    expect(topic.endOffset).toBe(1);
  });

  it("serves only durable records to consumers and all to followers; wakes who waits", async () => {
    const { directory } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    const woken: number[] = [];
    log.onDurablePast(0, () => woken.push(0));
    log.onDurablePast(1, () => woken.push(1));
    log.onDurablePast(0, () => woken.push(99))();
    const { durable } = directory.commit([{ logs: [log], batch: batchOf("a"), leaderEpoch: 0 }]);
    expect(await log.read(0, 100)).toEqual([]);
    expect(await log.read(0, 100, "end")).toHaveLength(1);
    expect(woken).toEqual([]);
    await durable;
    expect(woken).toEqual([0]);
    log.onDurablePast(0, () => woken.push(2));
    expect(woken).toEqual([0, 2]);
    expect(await readAll(log)).toEqual([[0, "a"]]);
    await expect(log.read(2, 10)).rejects.toMatchObject({ reason: "OFFSET_OUT_OF_RANGE" });
    await expect(log.read(Number.NaN, 10)).rejects.toMatchObject({ reason: "OFFSET_OUT_OF_RANGE" });
  });

  it("keeps a lazy commit until company comes, or a second at most", async () => {
    const { directory, clock } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    const lazy = directory.commit([], [{ key: "a", value: Buffer.from("1") }], { lazy: true });
    let isDurable = false;
    void lazy.durable.then(() => {
      isDurable = true;
    });
    await turns();
    expect(isDurable).toBe(false);
    await append(directory, [log], batchOf("company"));
    expect(isDurable).toBe(true);
    const second = directory.commit([], [{ key: "a", value: null }], { lazy: true });
    await settle(clock, second.durable, lazyCommitDelayMs);
  });

  it("writes the next group while the caller of the last one goes on (no lost wake-up)", async () => {
    const { directory } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    for (let i = 0; i < 50; i++) {
      const { durable } = directory.commit([{ logs: [log], batch: batchOf(`b${i}`), leaderEpoch: 0 }]);
      await durable;
      for (let hop = 0; hop < i % 5; hop++) await Promise.resolve();
    }
    expect(log.durableOffset).toBe(50);
  });

  it("flush does not wait for what comes later: it ends under steady load", async () => {
    const { directory } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    const load = { isOn: true };
    const appending = (async () => {
      while (load.isOn) await append(directory, [log], batchOf("load"));
    })();
    await turns(3);
    for (let i = 0; i < 5; i++) {
      const before = log.endOffset;
      await directory.flush();
      expect(log.durableOffset).toBeGreaterThanOrEqual(before);
    }
    load.isOn = false;
    await appending;
  });

  it("bounds what is queued: whenWritable waits beyond the limit and wakes when the disk has caught up", async () => {
    const { directory, clock } = await openSim(new SimDisk(), { pendingBytesMax: 1000 });
    const log = await directory.createLog(topicId, smallConfig);
    expect(directory.whenWritable()).toBeUndefined();
    for (let i = 0; i < 5; i++)
      directory.commit([{ logs: [log], batch: batchOf(`b${i}`, { valueBytes: 300 }), leaderEpoch: 0 }]);
    const waiting = directory.whenWritable();
    expect(waiting).toBeInstanceOf(Promise);
    await settle(clock, waiting as Promise<void>);
    expect(directory.whenWritable()).toBeUndefined();
  });

  it("bounds the journal: files are checkpointed and used again, commits wait meanwhile, nothing is lost", async () => {
    const { directory, disk, events } = await openSim(new SimDisk(), { journalFileBytes: 8192 });
    const log = await directory.createLog(topicId, smallConfig);
    const durables: Promise<void>[] = [];
    for (let i = 0; i < 300; i++) {
      durables.push(
        directory.commit([{ logs: [log], batch: batchOf(`b${i}`, { valueBytes: 300 }), leaderEpoch: 0 }])
          .durable,
      );
    }
    await Promise.all(durables);
    const files = (await disk.list(join(testPath, "journal"))).filter((name) => name.endsWith(".journal"));
    expect(files.length).toBeLessThanOrEqual(4);
    expect(
      events.filter((event) => event.kind === "journalFileBegun" && event.isReused).length,
    ).toBeGreaterThan(5);
    const { directory: again } = await openSim(disk.crash(0), { journalFileBytes: 8192 });
    expect(await readAll(again.getLog(topicId) as Log)).toEqual(
      Array.from({ length: 300 }, (_, i) => [i, `b${i}`]),
    );
  });
});

describe("disk errors", () => {
  it("EIO and a failed fsync take the directory offline at once: everything waiting and later fails, nothing is retried", async () => {
    for (const kind of ["dataSync", "write"] as const) {
      const { directory, disk, events } = await openSim();
      const log = await directory.createLog(topicId, smallConfig);
      await append(directory, [log], batchOf("kept"));
      let failures = 0;
      disk.inject = (operation) => {
        if (operation.kind !== kind || !operation.path.endsWith(".journal")) return undefined;
        failures++;
        return "EIO";
      };
      const first = directory.commit([{ logs: [log], batch: batchOf("a"), leaderEpoch: 0 }]);
      const second = directory.commit([], [{ key: "k", value: null }], { lazy: true });
      await expect(first.durable).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
      await expect(second.durable).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
      disk.inject = undefined;
      const failed = expect.objectContaining({ reason: "STORAGE_FAILED" }) as Error;
      expect(() => directory.commit([{ logs: [log], batch: batchOf("b"), leaderEpoch: 0 }])).toThrow(failed);
      await expect(log.read(0, 10)).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
      expect(directory.failure).toEqual(failed);
      expect(failures).toBe(1);
      expect(events).toContainEqual(expect.objectContaining({ kind: "directoryOffline" }));
      await directory.close();
      const { directory: again } = await openSim(disk.crash(0));
      expect((await readAll(again.getLog(topicId) as Log))[0]).toEqual([0, "kept"]);
    }
  });

  it("ENOSPC on fsync takes the directory offline too", async () => {
    const { directory, disk } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    disk.inject = ({ kind }) => (kind === "dataSync" ? "ENOSPC" : undefined);
    await expect(append(directory, [log], batchOf("a"))).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
  });

  it("a full disk pauses appends, and they go on by themselves when there is room", async () => {
    const { directory, disk, clock, events } = await openSim(new SimDisk({ capacityBytes: 2 ** 40 }));
    const log = await directory.createLog(topicId, smallConfig);
    disk.inject = ({ kind, path }) => (kind === "write" && path.endsWith(".journal") ? "ENOSPC" : undefined);
    const waiting = directory.commit([{ logs: [log], batch: batchOf("waiting"), leaderEpoch: 0 }]);
    await turns();
    const full = expect.objectContaining({ reason: "DISK_FULL" }) as Error;
    expect(() => directory.commit([{ logs: [log], batch: batchOf("refused"), leaderEpoch: 0 }])).toThrow(
      full,
    );
    clock.advance(diskFullRetryMs);
    await turns();
    expect(() => directory.commit([{ logs: [log], batch: batchOf("refused"), leaderEpoch: 0 }])).toThrow(
      full,
    );
    disk.inject = undefined;
    await settle(clock, waiting.durable, diskFullRetryMs);
    await append(directory, [log], batchOf("after"));
    expect(await readAll(log)).toEqual([
      [0, "waiting"],
      [1, "after"],
    ]);
    expect(events.map((event) => event.kind)).toEqual(
      expect.arrayContaining(["diskFull", "diskUsableAgain"]),
    );
    const { directory: again } = await openSim(disk.crash(0));
    expect(await readAll(again.getLog(topicId) as Log)).toHaveLength(2);
  });

  it("a full disk under the segment files loses nothing: the journal has it", async () => {
    const { directory, disk, clock } = await openSim(new SimDisk({ capacityBytes: 2 ** 40 }));
    const log = await directory.createLog(topicId, smallConfig);
    disk.inject = ({ kind, path }) => (kind === "write" && path.endsWith(".log") ? "ENOSPC" : undefined);
    await append(directory, [log], batchOf("a"));
    clock.advance(1000);
    await turns();
    expect(await readAll(log)).toEqual([[0, "a"]]);
    const { directory: again } = await openSim(disk.crash(0));
    expect(await readAll(again.getLog(topicId) as Log)).toEqual([[0, "a"]]);
    disk.inject = undefined;
    await settle(clock, directory.close(), diskFullRetryMs);
  });
});

describe("logs", () => {
  it("gives the same log for the same id, with the newest config, over restarts", async () => {
    const { directory, disk } = await openSim();
    const [first, second] = await Promise.all([
      directory.createLog(topicId, smallConfig),
      directory.createLog(topicId, smallConfig),
    ]);
    expect(first).toBe(second);
    await directory.createLog(topicId, { ...smallConfig, retentionBytes: 77 });
    await directory.close();
    const { directory: again } = await openSim(disk);
    expect(again.getLog(topicId)?.config.retentionBytes).toBe(77);
    await expect(
      again.createLog({ ...topicId, topicId: "x", topicName: "../x" } as typeof topicId, smallConfig),
    ).rejects.toMatchObject({
      reason: "INVALID_TOPIC",
    });
  });

  it("reads back through segments, tail and indexes whatever the read size", async () => {
    const { directory, clock } = await openSim();
    const log = await directory.createLog(topicId, { ...smallConfig, segmentBytes: 5000 });
    const expected: [number, string][] = [];
    for (let i = 0; i < 80; i++) {
      expected.push([log.endOffset, `b${i}`]);
      await append(directory, [log], batchOf(`b${i}`, { count: 1 + (i % 3), valueBytes: 20 + (i % 9) * 30 }));
      if (i === 60)
        await settle(
          clock,
          directory.flush().then(() => turns(10)),
          300,
        );
    }
    expect(await readAll(log)).toEqual(expected);
    for (const [base, name] of expected) expect((await readAll(log, base))[0]).toEqual([base, name]);
    const sizes = await log.read(0, 1);
    expect(sizes).toHaveLength(1);
  });

  it("finds offsets by time across segments", async () => {
    const { directory } = await openSim();
    const log = await directory.createLog(topicId, { ...smallConfig, segmentBytes: 600 });
    for (let i = 0; i < 20; i++) {
      await append(
        directory,
        [log],
        batchOf(`b${i}`, { count: 2, timestampMs: 1000 + i * 10 - (i % 4 === 3 ? 25 : 0) }),
      );
    }
    const byHand = (timestampMs: number): number | undefined => {
      for (let i = 0; i < 20; i++) if (1000 + i * 10 - (i % 4 === 3 ? 25 : 0) >= timestampMs) return i * 2;
      return undefined;
    };
    for (let timestampMs = 990; timestampMs < 1200; timestampMs += 5) {
      expect((await log.offsetForTime(timestampMs))?.offset, String(timestampMs)).toBe(byHand(timestampMs));
    }
  });

  it("L4: keeps leader epochs over restarts and tells where each ended", async () => {
    const { directory, disk } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    await log.startEpoch(2);
    await append(directory, [log], batchOf("a", { count: 3 }), 2);
    await log.startEpoch(5);
    await expect(log.startEpoch(4)).rejects.toMatchObject({ reason: "FENCED_LEADER_EPOCH" });
    const { directory: again } = await openSim(disk.crash(0));
    const reopened = again.getLog(topicId) as Log;
    expect(reopened.leaderEpoch).toBe(5);
    expect(reopened.endOfEpoch(4)).toEqual({ epoch: 2, endOffset: 3 });
    expect([reopened.epochAt(2), reopened.epochAt(3)]).toEqual([2, undefined]);
  });
});

describe("P3 P4 producers over restarts", () => {
  const producer = (baseSequence: number, producerId = 7) => ({ producerId, producerEpoch: 0, baseSequence });

  it("recognise repeats after a clean close, a crash, and from snapshots of rolled segments", async () => {
    for (const isClean of [true, false]) {
      const { directory, disk } = await openSim();
      const log = await directory.createLog(topicId, smallConfig);
      for (let i = 0; i < 12; i++) {
        await append(directory, [log], batchOf(`b${i}`, { valueBytes: 300, producer: producer(i) }));
        // One that wrote only in the first segment.
        if (i === 0) await append(directory, [log], batchOf("once", { producer: producer(0, 2 ** 40) }));
      }
      if (isClean) await directory.close();
      const { directory: again } = await openSim(isClean ? disk : disk.crash(0));
      const reopened = again.getLog(topicId) as Log;
      const check = (baseSequence: number, producerId?: number) =>
        reopened.checkSequence(
          readBatchHeader(batchOf("x", { producer: producer(baseSequence, producerId) })),
        );
      expect(check(11)).toEqual({ kind: "duplicate", baseOffset: 12, throughOffset: 12 });
      expect(check(12)).toEqual({ kind: "append" });
      expect(check(13)).toMatchObject({ kind: "refused", reason: "OUT_OF_ORDER_SEQUENCE" });
      expect(check(0, 2 ** 40)).toEqual({ kind: "duplicate", baseOffset: 1, throughOffset: 1 });
    }
  });

  it("P1: a named producer that was removed stays removed", async () => {
    const { directory, disk } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    await append(directory, [log], batchOf("a", { producer: producer(0, 2 ** 40) }));
    expect(log.producers()).toHaveLength(1);
    await directory.commit([], log.removeProducer(2 ** 40)).durable;
    expect(log.producers()).toEqual([]);
    expect(log.removeProducer(2 ** 40)).toEqual([]);
    const { directory: again, disk: cut } = await openSim(disk.crash(0));
    expect(again.getLog(topicId)?.producers()).toEqual([]);
    await append(again, [again.getLog(topicId) as Log], batchOf("b", { producer: producer(0, 2 ** 40) }));
    const { directory: third } = await openSim(cut.crash(0));
    expect(third.getLog(topicId)?.producers()).toHaveLength(1);
  });

  it.each([
    true,
    false,
  ])("P2: a new id goes on where the old one ended, which is fenced; clean: %s", async (isClean) => {
    const [oldId, newId] = [2 ** 40, 2 ** 40 + 9];
    const { directory, disk } = await openSim();
    const log = await directory.createLog(topicId, smallConfig);
    const old = (sequence: number): BatchHeader =>
      readBatchHeader(batchOf("x", { producer: producer(sequence, oldId) }));
    const fresh = (sequence: number): BatchHeader =>
      readBatchHeader(batchOf("x", { producer: { ...producer(sequence, newId), producerEpoch: 0 } }));
    await append(directory, [log], batchOf("a", { producer: producer(0, oldId) }));
    await append(directory, [log], batchOf("b", { producer: producer(1, oldId) }));

    expect(log.checkSequence(fresh(2)), "without its predecessor it is a stranger").toMatchObject({
      reason: "UNKNOWN_PRODUCER",
    });
    expect(log.checkSequence(fresh(1), oldId)).toMatchObject({ kind: "duplicate", throughOffset: 1 });
    expect(log.checkSequence(fresh(3), oldId)).toMatchObject({ reason: "OUT_OF_ORDER_SEQUENCE" });
    expect(log.checkSequence(fresh(2), oldId)).toEqual({ kind: "append" });
    expect(log.checkSequence(old(2)), "nothing was appended: the old id may go on").toEqual({
      kind: "append",
    });

    const batch = batchOf("c", { producer: { ...producer(2, newId), producerEpoch: 0 } });
    const state = log.replaceProducer(oldId, newId);
    await directory.commit([{ logs: [log], batch, leaderEpoch: 0 }], state).durable;
    expect(log.replaceProducer(oldId, newId), "noted once").toEqual([]);
    if (isClean) await directory.close();
    const { directory: again } = await openSim(isClean ? disk : disk.crash(0));
    for (const each of isClean ? [again.getLog(topicId) as Log] : [log, again.getLog(topicId) as Log]) {
      // A late batch of a dead connection, its first one too: never a second copy.
      for (const sequence of [0, 2, 3])
        expect(each.checkSequence(old(sequence))).toMatchObject({ reason: "PRODUCER_FENCED" });
      expect(each.checkSequence(fresh(1), oldId)).toMatchObject({ kind: "duplicate" });
      expect(each.checkSequence(fresh(2))).toMatchObject({ kind: "duplicate" });
      expect(each.checkSequence(fresh(3))).toEqual({ kind: "append" });
    }
    // Removed by name, both are forgotten.
    const reopened = again.getLog(topicId) as Log;
    const gone = [...reopened.removeProducer(newId), ...reopened.removeProducer(oldId)];
    await again.commit([], gone).durable;
    expect(reopened.checkSequence(old(0))).toEqual({ kind: "append" });
  });
});
