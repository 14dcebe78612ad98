/** What every pull source must do. */
import assert from "node:assert/strict";
import type { FlowRecord, PullSource, ReadResult } from "../contract.ts";
import { type ConformanceCase, never, textOf, until, within } from "./cases.ts";

/** One input and the way to fill it. */
export interface PullSetup {
  /** A new source onto the same input. */
  readonly create: () => PullSource;
  /** Adds `count` finished units; returns their texts in order. */
  readonly append: (count: number) => Promise<readonly string[]>;
  /** Adds a unit that is not finished (a line without newline); returns its text. Absent where there is no such thing. */
  readonly appendUnfinished?: () => Promise<string>;
  readonly tearDown: () => Promise<void>;
}

/** How a pull source is tested. */
export interface PullFixture {
  /** An input with nothing in it. Called once per case. */
  readonly setUp: () => Promise<PullSetup>;
}

/** Positions as the runner keeps them, and checks of what the source gives. */
class Reader {
  readonly source: PullSource;
  readonly positions: Map<string, string>;
  readonly #orders: Map<string, number>;
  readonly records: FlowRecord[] = [];

  constructor(source: PullSource, before?: Reader) {
    this.source = source;
    this.positions = new Map(before?.positions);
    this.#orders = new Map(before ? before.#orders : []);
  }

  async open(): Promise<this> {
    await within("open", this.source.open(new Map(this.positions), never()));
    return this;
  }

  async read(recordsMax: number): Promise<ReadResult> {
    const result = await within("read", this.source.read(recordsMax, never()));
    assert.ok(
      result.records.length <= recordsMax,
      `${result.records.length} records, ${recordsMax} asked for`,
    );
    for (const { sourcePosition } of result.records) {
      if (sourcePosition === undefined) continue;
      const { key, order } = sourcePosition;
      assert.ok(order > (this.#orders.get(key) ?? -1), `order of ${key} grows: ${order}`);
      this.#orders.set(key, order);
      const saved = result.positions.find((position) => position.key === key);
      assert.ok(saved !== undefined && saved.order >= order, `the position of ${key} is after its records`);
    }
    for (const { key, value } of result.positions) {
      if (value === null) this.positions.delete(key);
      else this.positions.set(key, value);
    }
    this.records.push(...result.records);
    return result;
  }

  /** Reads until `count` records are there. */
  async readTo(count: number, recordsMax = 100): Promise<void> {
    await until(`${count} records, there are ${this.records.length}`, async () => {
      await this.read(recordsMax);
      return this.records.length >= count;
    });
  }

  /** Reads until the source says twice that nothing is left. */
  async readAll(recordsMax = 100): Promise<void> {
    let idle = 0;
    await until("idle", async () => {
      const { isIdle, records } = await this.read(recordsMax);
      idle = isIdle && records.length === 0 ? idle + 1 : 0;
      return idle >= 2;
    });
  }

  get texts(): string[] {
    return this.records.map(textOf);
  }
}

type Story = (setup: PullSetup) => Promise<void>;

const readsAll: Story = async (setup) => {
  const expected = await setup.append(25);
  const reader = await new Reader(setup.create()).open();
  await reader.readTo(25, 10);
  await reader.readAll();
  assert.deepEqual(reader.texts, expected);
  await within("close", reader.source.close());
};

const readsLater: Story = async (setup) => {
  const expected = [...(await setup.append(3))];
  const reader = await new Reader(setup.create()).open();
  await reader.readTo(3);
  const { records, isIdle } = await reader.read(100);
  assert.deepEqual([records.length, isIdle], [0, true]);
  expected.push(...(await setup.append(4)));
  await reader.readTo(7);
  assert.deepEqual(reader.texts, expected);
  await reader.source.close();
};

/** A1: a restart after any put goes on right there. */
const resumesAnywhere: Story = async (setup) => {
  const expected = await setup.append(9);
  const texts: string[] = [];
  let reader = new Reader(setup.create());
  for (let step = 0; texts.length < expected.length; step++) {
    reader = await new Reader(setup.create(), reader).open();
    await reader.readTo(1, 1 + (step % 2));
    await reader.source.close();
    texts.push(...reader.texts);
    assert.ok(texts.length <= expected.length, `read twice: ${texts.join(" | ")}`);
  }
  assert.deepEqual(texts, expected);
  const last = await new Reader(setup.create(), reader).open();
  await last.readAll();
  assert.deepEqual(last.texts, []);
  await last.source.close();
};

/** What was read and not put is read again, with the same positions per record, however it is cut (A3). */
const readsAgain: Story = async (setup) => {
  await setup.append(10);
  const first = await new Reader(setup.create()).open();
  await first.readTo(10, 3);
  await first.source.close();
  const again = await new Reader(first.source).open();
  await again.readTo(10, 7);
  await again.source.close();
  const seen = (reader: Reader): unknown[] =>
    reader.records.map((record) => [textOf(record), record.streamId, record.sourcePosition]);
  assert.deepEqual(seen(again), seen(first));
};

const finishes: Story = async (setup) => {
  if (setup.appendUnfinished === undefined) return;
  const expected = [...(await setup.append(2))];
  const unfinished = await setup.appendUnfinished();
  const reader = await new Reader(setup.create()).open();
  await reader.readTo(2);
  await reader.readAll();
  assert.deepEqual(reader.texts, expected, "an unfinished unit waits");
  reader.source.finish?.();
  await reader.readTo(3);
  await reader.readAll();
  assert.deepEqual(reader.texts, [...expected, unfinished]);
  await reader.source.close();
  const later = await new Reader(setup.create(), reader).open();
  await later.readAll();
  assert.deepEqual(later.texts, [], "what was finished is not read again");
  await later.source.close();
};

const closes: Story = async (setup) => {
  await within("close before open", setup.create().close());
  const reader = await new Reader(setup.create()).open();
  await within("close", reader.source.close());
  await within("close twice", reader.source.close());
};

const stopsReading: Story = async (setup) => {
  const reader = await new Reader(setup.create()).open();
  const stop = new AbortController();
  const reading = reader.source.read(100, stop.signal).catch(() => undefined);
  stop.abort();
  await within("a read ends when its signal aborts", reading);
  await within("close", reader.source.close());
};

/** The suite of a pull source. */
export function conformPullSource(fixture: PullFixture): ConformanceCase[] {
  const stories: [string, Story][] = [
    ["reads everything in order, no more than asked for, then is idle", readsAll],
    ["reads what comes later", readsLater],
    ["goes on from the positions after any read (A1)", resumesAnywhere],
    ["reads again what was not put, the same whatever the batch size (A3)", readsAgain],
    ["an unfinished unit waits until finish", finishes],
    ["closes before it is opened, and twice", closes],
    ["ends a read when told to stop", stopsReading],
  ];
  return stories.map(([title, story]) => ({
    title: `pull source contract: ${title}`,
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
