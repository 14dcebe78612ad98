/** What every channel must do (reliability.md A1, A2; delivery.md A2). */
import assert from "node:assert/strict";
import type { Channel, Take } from "../channel/types.ts";
import type { FlowRecord } from "../contract.ts";
import { type ConformanceCase, never, recordOf, textOf, until, within } from "./cases.ts";

/** One open channel. */
export interface ChannelSetup {
  readonly channel: Channel;
  /** One put transaction; resolves when it is committed. */
  readonly put: (records: readonly FlowRecord[]) => Promise<void>;
  /** Closes and opens it again on the same data. Absent for a volatile channel. */
  readonly reopen?: () => Promise<ChannelSetup>;
  readonly tearDown: () => Promise<void>;
}

/** How a channel is tested. */
export interface ChannelFixture {
  /** An empty channel with room for 10,000 records. */
  readonly setUp: () => Promise<ChannelSetup>;
}

const manyBytes = 2 ** 30;

function texts(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, i) => `record ${from + i}`);
}

async function putTexts(setup: ChannelSetup, from: number, to: number): Promise<void> {
  await setup.put(texts(from, to).map((text) => recordOf(text)));
}

async function take(setup: ChannelSetup, recordsMax: number): Promise<Take> {
  const found = await within("take", setup.channel.take(recordsMax, manyBytes));
  assert.ok(found !== undefined, "something is takable");
  found.records.forEach((record, i) => assert.equal(record.offset, found.from + i));
  assert.ok(found.to - found.from <= recordsMax);
  checkConservation(setup.channel);
  return found;
}

/** Takes exactly [from, to), in as many takes as the channel needs. */
async function takeRange(setup: ChannelSetup, from: number, to: number): Promise<void> {
  for (let next = from; next < to; ) {
    const found = await take(setup, to - next);
    assert.equal(found.from, next);
    assert.deepEqual(found.records.map(textOf), texts(found.from, found.to));
    next = found.to;
  }
}

/** Put = committed + depth, at any moment (reliability A1). */
function checkConservation(channel: Channel): void {
  const { putCount, depthCount, takenCount } = channel.figures;
  assert.equal(putCount, channel.endSequence);
  assert.ok(depthCount >= takenCount && depthCount <= putCount - channel.position);
}

type Story = (setup: ChannelSetup) => Promise<void>;

const inOrder: Story = async (setup) => {
  await putTexts(setup, 0, 1);
  await putTexts(setup, 1, 40);
  await putTexts(setup, 40, 100);
  await takeRange(setup, 0, 100);
  assert.equal(await setup.channel.take(10, manyBytes), undefined, "nothing is taken twice");
  assert.deepEqual([setup.channel.figures.putCount, setup.channel.figures.depthCount], [100, 100]);
  setup.channel.commit(0, 100);
  assert.deepEqual([setup.channel.position, setup.channel.figures.depthCount], [100, 0]);
  assert.deepEqual([setup.channel.room.usedRecords, setup.channel.room.usedBytes], [0, 0]);
};

const keepsRecords: Story = async (setup) => {
  const headers = [
    { key: "__proto__", value: Buffer.from("a") },
    { key: "twice", value: null },
    { key: "twice", value: new Uint8Array() },
  ];
  const records: FlowRecord[] = [
    { key: null, value: null, headers: [], timestampMs: -1 },
    { key: new Uint8Array(), value: new Uint8Array(), headers, timestampMs: 0, streamId: "stream é" },
    { key: Buffer.from([0, 255]), value: Buffer.alloc(1_500_000, 7), headers: [], timestampMs: 2 ** 45 },
  ];
  await setup.put(records);
  const found: unknown[] = [];
  while (found.length < records.length) found.push(...(await take(setup, 3)).records);
  const plain = (record: FlowRecord): unknown => ({
    key: record.key && Buffer.from(record.key).toString("hex"),
    value: record.value && Buffer.from(record.value).toString("hex"),
    headers: record.headers.map(({ key, value }) => [key, value && Buffer.from(value).toString("hex")]),
    timestampMs: record.timestampMs,
    streamId: record.streamId,
  });
  assert.deepEqual((found as FlowRecord[]).map(plain), records.map(plain));
};

const bytesBound: Story = async (setup) => {
  await putTexts(setup, 0, 10);
  const first = await setup.channel.take(10, 1);
  assert.equal(first?.to, 1, "at least one record, whatever the byte limit");
};

const outOfOrder: Story = async (setup) => {
  await putTexts(setup, 0, 30);
  for (const from of [0, 10, 20]) await takeRange(setup, from, from + 10);
  setup.channel.commit(20, 30);
  setup.channel.commit(10, 15);
  assert.equal(setup.channel.position, 0);
  assert.equal(setup.channel.figures.depthCount, 15);
  setup.channel.commit(0, 10);
  assert.equal(setup.channel.position, 15);
  setup.channel.commit(15, 20);
  assert.equal(setup.channel.position, 30);
  assert.equal(setup.channel.figures.depthCount, 0);
  assert.throws(() => setup.channel.commit(20, 30), "nothing is committed twice");
};

const rollsBack: Story = async (setup) => {
  await putTexts(setup, 0, 30);
  await takeRange(setup, 0, 30);
  setup.channel.commit(0, 5);
  setup.channel.rollback(20, 25);
  setup.channel.rollback(5, 12);
  await putTexts(setup, 30, 35);
  await takeRange(setup, 5, 12);
  await takeRange(setup, 20, 25);
  await takeRange(setup, 30, 35);
  setup.channel.commit(5, 35);
  assert.equal(setup.channel.position, 35);
};

const wakesTakers: Story = async (setup) => {
  const woken = setup.channel.whenTakable(never());
  await putTexts(setup, 0, 1);
  await within("woken by a put", woken);
  await takeRange(setup, 0, 1);
  const wokenAgain = setup.channel.whenTakable(never());
  setup.channel.rollback(0, 1);
  await within("woken by a rollback", wokenAgain);
  const stop = new AbortController();
  await takeRange(setup, 0, 1);
  const stopped = setup.channel.whenTakable(stop.signal);
  stop.abort();
  await within("woken by its signal", stopped);
};

const resolves: Story = async (setup) => {
  const resolved: number[] = [];
  setup.channel.onResolved((through) => resolved.push(through));
  await putTexts(setup, 0, 10);
  await takeRange(setup, 0, 10);
  setup.channel.commit(0, 4, { sink: "k1", bytes: Buffer.from("at 4") });
  await until("resolved through 4", () => setup.channel.resolvedThrough === 4);
  setup.channel.commit(4, 10, { sink: "k1", bytes: Buffer.from("at 10") });
  await until("resolved through 10", () => setup.channel.resolvedThrough === 10);
  assert.deepEqual(resolved, [4, 10]);
  assert.equal(Buffer.from(setup.channel.checkpoint("k1") ?? []).toString(), "at 10");
  assert.equal(setup.channel.checkpoint("k2"), undefined, "a checkpoint is its sink's own");
};

const movesForth: Story = async (setup) => {
  await putTexts(setup, 0, 20);
  setup.channel.moveTo(15);
  assert.equal(setup.channel.figures.depthCount, 5);
  await takeRange(setup, 15, 20);
  assert.throws(() => setup.channel.moveTo(16), "not while something is taken");
};

const survives: Story = async (setup) => {
  if (setup.reopen === undefined) return;
  await putTexts(setup, 0, 20);
  await takeRange(setup, 0, 20);
  setup.channel.commit(0, 8, { sink: "k1", bytes: Buffer.from("at 8") });
  setup.channel.commit(12, 14);
  const again = await setup.reopen();
  assert.equal(again.channel.id, setup.channel.id);
  assert.equal(again.channel.position, 8);
  assert.equal(Buffer.from(again.channel.checkpoint("k1") ?? []).toString(), "at 8");
  assert.equal(again.channel.figures.depthCount, 10);
  assert.ok(again.channel.figures.depthBytes > 0);
  await putTexts(again, 20, 25);
  await takeRange(again, 8, 12);
  await takeRange(again, 14, 25);
  again.channel.commit(8, 12);
  again.channel.commit(14, 25);
  assert.deepEqual([again.channel.figures.depthCount, again.channel.figures.depthBytes], [0, 0]);
};

/** The suite of a channel. */
export function conformChannel(fixture: ChannelFixture): ConformanceCase[] {
  const stories: [string, Story][] = [
    ["gives records in order, once, and room back when they are committed (A1)", inOrder],
    ["keeps records as they are: null and empty, repeated headers, large values, stream id", keepsRecords],
    ["a take has at least one record, however small its byte limit", bytesBound],
    ["takes commit out of order and in parts", outOfOrder],
    ["rolled back records come first, in order (A2)", rollsBack],
    ["wakes takers at a put, a rollback, a stop", wakesTakers],
    ["tells what is resolved, keeps the sink's checkpoint with it", resolves],
    ["moves to where a sink stands", movesForth],
    ["goes on after a restart: position, ranges above it, checkpoint, bytes (J5)", survives],
  ];
  return stories.map(([title, story]) => ({
    title: `channel contract: ${title}`,
    run: async () => {
      const setup = await fixture.setUp();
      try {
        await story(setup);
      } finally {
        await setup.tearDown();
      }
    },
  }));
}
