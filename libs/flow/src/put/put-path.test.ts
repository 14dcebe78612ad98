import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { createTelemetry } from "@millrace/telemetry";
import { SimClock, SimDisk } from "@millrace/testkit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FileChannel } from "../channel/file-channel.ts";
import { openFileChannel } from "../channel/open-channel.ts";
import { recordOf, textOf } from "../conformance/cases.ts";
import type { FlowRecord } from "../contract.ts";
import { PutPath } from "./put-path.ts";

const limits = {
  records: 10,
  bytes: 100_000,
  transactionRecords: 5,
  recordBytes: 2_000,
  keepAliveMs: 1_000,
};
const telemetry = createTelemetry({ service: "test", node: "test", destination: "silent" });
const never = new AbortController().signal;

let disk: SimDisk;
let clock: SimClock;
let directory: DataDirectory;
let channel: FileChannel;
let path: PutPath;

beforeEach(async () => {
  disk = new SimDisk();
  clock = new SimClock();
  directory = await openDataDirectory({
    path: "/data",
    disk,
    clock,
    identity: { role: "agent" },
    journalFileBytes: 64 * 1024,
  });
  channel = await openFileChannel({ name: "c1", directory, limits, clock, telemetry });
  path = new PutPath({ source: "r1", directory, required: [channel], optional: [], clock, telemetry });
});

afterEach(async () => {
  path.close();
  if (directory.failure === undefined) await channel.close();
  await directory.close().catch(() => undefined);
});

const records = (count: number, text = "x"): FlowRecord[] =>
  Array.from({ length: count }, () => recordOf(text));
const put = (count: number, waitMs = 0) => path.offer({ records: records(count) }, { waitMs, signal: never });

async function deliver(count: number): Promise<void> {
  const take = await channel.take(count, 1_000_000);
  channel.commit(take!.from, take!.to);
}

async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

describe("put path", () => {
  it("what can never be put is refused at once", async () => {
    await expect(put(6)).rejects.toMatchObject({ reason: "LIMIT_EXCEEDED" });
    const large = { records: [recordOf("x".repeat(2_000))] };
    await expect(path.offer(large, { waitMs: 0, signal: never })).rejects.toMatchObject({
      reason: "RECORD_TOO_LARGE",
    });
    await expect(path.offer(() => large, { waitMs: 0, signal: never })).rejects.toMatchObject({
      reason: "RECORD_TOO_LARGE",
    });
    expect(channel.figures.putCount).toBe(0);
  });

  it("waits for room, in order of arrival, and puts as soon as there is some", async () => {
    await put(5);
    await put(5);
    const outcomes: string[] = [];
    const wait = (name: string, count: number) =>
      path
        .offer({ records: records(count, name) }, { waitMs: 1_000, signal: never })
        .then((outcome) => outcomes.push(`${name} ${outcome}`));
    const first = wait("first", 4);
    const second = wait("second", 1);
    await deliver(3);
    await turns();
    expect(outcomes).toEqual([]);
    await deliver(3);
    await Promise.all([first, second]);
    expect(outcomes).toEqual(["first committed", "second committed"]);
    const taken: string[] = [];
    for (
      let take = await channel.take(20, 1_000_000);
      take !== undefined;
      take = await channel.take(20, 1_000_000)
    ) {
      taken.push(...take.records.map(textOf));
    }
    expect(taken).toEqual(["x", "x", "x", "x", "first", "first", "first", "first", "second"]);
  });

  it("is full after the wait, cancelled by its signal; neither puts later", async () => {
    await put(5);
    await put(5);
    expect(await put(1)).toBe("full");
    const late = put(1, 500);
    const stop = new AbortController();
    const stopped = path.offer(
      { records: records(1) },
      { waitMs: Number.POSITIVE_INFINITY, signal: stop.signal },
    );
    clock.advance(500);
    expect(await late).toBe("full");
    stop.abort();
    await expect(stopped).rejects.toMatchObject({ reason: "CANCELLED" });
    await deliver(10);
    await turns();
    expect(channel.figures.putCount).toBe(10);
    expect(channel.room.waiterCount).toBe(0);
  });

  it("prepare runs once, when there is room, in the same turn as the put (H3)", async () => {
    await put(5);
    await put(5);
    let runs = 0;
    let endAtPrepare = -1;
    const offered = path.offer(
      () => {
        runs++;
        endAtPrepare = channel.endSequence;
        return { records: records(2) };
      },
      { waitMs: 1_000, signal: never, room: { records: 2, bytes: 200 } },
    );
    await deliver(1);
    await turns();
    expect(runs).toBe(0);
    await deliver(1);
    expect(await offered).toBe("committed");
    expect([runs, endAtPrepare, channel.endSequence]).toEqual([1, 10, 12]);
    await deliver(5);
    expect(await path.offer(() => undefined, { waitMs: 0, signal: never })).toBe("committed");
    expect(channel.endSequence).toBe(12);
  });

  it("is answered only when durable; a failed fsync is never an answer (A2, L9)", async () => {
    disk.inject = ({ kind }) => (kind === "dataSync" ? "EIO" : undefined);
    await expect(put(2)).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
    disk.inject = undefined;
    await expect(put(2)).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
    expect(directory.failure).toBeDefined();
  });

  it("takers see nothing before it is durable (A2)", async () => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const taken: (number | undefined)[] = [];
    disk.onOperation = ({ kind }) => {
      if (kind === "write") void channel.take(10, 1_000).then((take) => taken.push(take?.to));
      if (kind === "dataSync") release();
    };
    const offered = put(3);
    await gate;
    disk.onOperation = undefined;
    await offered;
    expect(taken).toContain(undefined);
    expect(taken.every((to) => to === undefined)).toBe(true);
    expect((await channel.take(10, 1_000))?.to).toBe(3);
  });

  it("a full disk is a full channel: what was begun waits, the next is refused, then it goes on", async () => {
    const answers: Promise<string>[] = [];
    let outcome = "";
    let putCount = 0;
    for (let i = 0; i < 400 && outcome !== "full"; i++) {
      // the journal's next file finds no room
      if (i === 5) disk.capacityBytes = 0;
      const offered = path.offer({ records: records(1, "y".repeat(1_500)) }, { waitMs: 0, signal: never });
      outcome = await Promise.race([offered, turns(50).then(() => "waits")]);
      if (outcome === "full") continue;
      answers.push(offered);
      putCount++;
      if (outcome === "committed") await deliver(1);
    }
    expect(outcome).toBe("full");
    expect(channel.figures.putCount).toBe(putCount);
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 100 && (await put(1)) === "full"; i++) {
      clock.advance(5_000);
      await turns();
    }
    expect(new Set(await Promise.all(answers))).toEqual(new Set(["committed"]));
    expect(channel.figures.putCount).toBe(putCount + 1);
  });
});
