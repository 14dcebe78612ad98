/** What every sink must do. */
import assert from "node:assert/strict";
import type { Assignment, Guarantee, Sink, SinkFeedback, SinkRecord, Standing } from "../contract.ts";
import { type ConformanceCase, never, recordOf, textOf, until, within } from "./cases.ts";

/** One destination and the way to look into it. */
export interface SinkSetup {
  /** A new sink onto the same destination. */
  readonly create: () => Sink;
  /** Texts of the records in the destination, in order; absent for sinks whose destination cannot be read. */
  readonly published?: () => Promise<readonly string[]>;
  readonly tearDown: () => Promise<void>;
}

/** How a sink is tested. */
export interface SinkFixture {
  /** A destination with nothing in it. Called once per case. */
  readonly setUp: () => Promise<SinkSetup>;
  readonly hasStanding: boolean;
  readonly guarantee: Guarantee;
  /** A record that this sink must refuse; absent: it refuses none. */
  readonly refusable?: () => SinkRecord["value"];
  /** False: the destination keeps no order. */
  readonly isOrdered?: boolean;
  /** Origin and the like, where the default (an agent's channel) does not do. */
  readonly assignment?: Partial<Assignment>;
}

/** Feedback that checks what it is told. */
export class RecordingFeedback implements SinkFeedback {
  readonly refused: { readonly offset: number; readonly reason: string }[] = [];
  readonly #notes = new Map<string, Uint8Array>();
  readonly #runs = new Set<(through: number) => void>();
  through: number;
  checkpoint: Uint8Array | undefined;
  error: unknown;
  /** Written so far: `delivered` may not pass it. */
  writtenThrough: number;
  nextOffset = 1_000_000;
  #broken: string | undefined;

  constructor(through = 0, checkpoint?: Uint8Array) {
    this.through = through;
    this.writtenThrough = through;
    this.checkpoint = checkpoint;
  }

  get resolvedThrough(): number {
    return this.through;
  }

  delivered(through: number, checkpoint?: Uint8Array): void {
    if (through < this.through) this.#broken ??= `delivered went back from ${this.through} to ${through}`;
    if (through > this.writtenThrough) {
      this.#broken ??= `delivered through ${through}, but only ${this.writtenThrough} was written`;
    }
    this.through = Math.max(this.through, through);
    if (checkpoint !== undefined) this.checkpoint = Uint8Array.from(checkpoint);
    for (const run of [...this.#runs]) run(this.through);
  }

  refuse(record: SinkRecord, reason: string): Promise<void> {
    if (this.refused.some(({ offset }) => offset === record.offset)) {
      this.#broken ??= `${record.offset} was refused twice`;
    }
    this.refused.push({ offset: record.offset, reason });
    return Promise.resolve();
  }

  fail(error: unknown): void {
    this.error ??= error;
  }

  onResolved(run: (through: number) => void): () => void {
    this.#runs.add(run);
    return () => this.#runs.delete(run);
  }

  note(key: string): Uint8Array | undefined {
    return this.#notes.get(key);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    return new Map([...this.#notes].filter(([key]) => key.startsWith(prefix)));
  }

  setNotes(notes: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void> {
    for (const { key, value } of notes) {
      if (value === null) this.#notes.delete(key);
      else this.#notes.set(key, value);
    }
    return Promise.resolve();
  }

  /** Throws when a rule of the feedback was broken. */
  check(): void {
    assert.equal(this.#broken, undefined);
  }
}

/** Drives one opened sink as a runner does. */
class Drive {
  readonly sink: Sink;
  readonly feedback: RecordingFeedback;
  readonly standing: Standing;
  #next: number;

  constructor(sink: Sink, feedback: RecordingFeedback, standing: Standing) {
    this.sink = sink;
    this.feedback = feedback;
    this.standing = standing;
    this.#next = standing.resumeFrom ?? feedback.through;
    feedback.writtenThrough = this.#next;
    feedback.through = this.#next;
  }

  static async open(
    sink: Sink,
    fixture: SinkFixture,
    feedback: RecordingFeedback,
    epoch = 1,
  ): Promise<Drive> {
    const assignment: Assignment = {
      origin: {
        kind: "channel",
        agentId: "AAAAAAAAAAAAAAAAAAAAAA",
        agentName: "a1",
        channelId: "CCCCCCCCCCCCCCCCCCCCCC",
        channelName: "c1",
      },
      epoch,
      starts: ["SSSSSSSSSSSSSSSSSSSSS1"],
      deliveredThrough: feedback.through,
      checkpoint: feedback.checkpoint,
      generation: 1,
      ...fixture.assignment,
    };
    const standing = await within("open", sink.open(assignment, feedback, never()));
    return new Drive(sink, feedback, standing);
  }

  get next(): number {
    return this.#next;
  }

  async write(texts: readonly string[], gap = 0): Promise<void> {
    const from = this.#next;
    const records = texts.map((text, i): SinkRecord => ({ ...recordOf(text), offset: from + i }));
    await this.writeRecords(records, from + texts.length + gap);
  }

  async writeRecords(records: readonly SinkRecord[], to: number): Promise<void> {
    const from = this.#next;
    this.#next = to;
    this.feedback.writtenThrough = to;
    await within("write", this.sink.write({ from, to, records, leaderEpoch: -1 }, never()));
  }

  /** Flushes until everything written is delivered. */
  async settle(): Promise<void> {
    await within("flush", this.sink.flush(never()));
    await until(`delivered through ${this.#next}, it says ${this.feedback.through}`, () => {
      if (this.feedback.error !== undefined) throw this.feedback.error as Error;
      this.feedback.check();
      return this.feedback.through === this.#next;
    });
    this.feedback.check();
  }

  async close(): Promise<void> {
    await within("close", this.sink.close());
    this.feedback.check();
  }
}

const texts = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `record ${from + i}`);

type Story = (setup: SinkSetup, fixture: SinkFixture) => Promise<void>;

/** The destination holds exactly (or, at-least-once, at least) these. */
async function expectPublished(
  setup: SinkSetup,
  fixture: SinkFixture,
  expected: readonly string[],
): Promise<void> {
  if (setup.published === undefined) return;
  const found = [...(await setup.published())];
  const comparable = fixture.guarantee === "exactly-once" ? found : [...new Set(found)];
  if (fixture.isOrdered === false) comparable.sort();
  const wanted = fixture.isOrdered === false ? [...expected].sort() : [...expected];
  assert.deepEqual(comparable, wanted);
}

const deliversAll: Story = async (setup, fixture) => {
  const drive = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  assert.ok((drive.standing.resumeFrom ?? 0) === 0, "a new origin starts at 0");
  await drive.write(texts(0, 1));
  await drive.write(texts(1, 50));
  await drive.write(texts(50, 200));
  await drive.settle();
  await drive.close();
  await expectPublished(setup, fixture, texts(0, 200));
};

const settlesGaps: Story = async (setup, fixture) => {
  const drive = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await drive.write(["a", "b"], 3);
  await drive.write([], 4);
  await drive.write(["c"]);
  await drive.write([], 2);
  await drive.settle();
  await drive.close();
  await expectPublished(setup, fixture, ["a", "b", "c"]);
};

const flushesNothing: Story = async (setup, fixture) => {
  const drive = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await within("flush with nothing", drive.sink.flush(never()));
  await drive.write(["a"]);
  await drive.settle();
  await within("flush again", drive.sink.flush(never()));
  await drive.close();
  await expectPublished(setup, fixture, ["a"]);
};

const closesAnyTime: Story = async (setup, fixture) => {
  await within("close before open", setup.create().close());
  const drive = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await drive.close();
  await within("close twice", drive.sink.close());
};

/** The runner keeps `through` and the checkpoint; a new sink goes on from there, or from its own standing. */
const goesOn: Story = async (setup, fixture) => {
  const first = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await first.write(texts(0, 30));
  await first.settle();
  await first.close();
  const kept = new RecordingFeedback(first.feedback.through, first.feedback.checkpoint);
  const second = await Drive.open(setup.create(), fixture, kept, 2);
  if (fixture.hasStanding) assert.equal(second.standing.resumeFrom, 30);
  await second.write(texts(second.next, 60));
  await second.settle();
  await second.close();
  await expectPublished(setup, fixture, texts(0, 60));
};

/** Closed with records it holds: they are given again and are there once (exactly-once) or at least once. */
const givenAgain: Story = async (setup, fixture) => {
  const first = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await first.write(texts(0, 20));
  await first.settle();
  await first.write(texts(20, 40));
  await first.close();
  const { through, checkpoint } = first.feedback;
  const second = await Drive.open(setup.create(), fixture, new RecordingFeedback(through, checkpoint), 2);
  assert.ok(second.next <= 40, "a sink stands at most at what was written");
  assert.ok(second.next >= (fixture.hasStanding ? 20 : through), "what is delivered stays delivered");
  await second.write(texts(second.next, 60));
  await second.settle();
  await second.close();
  await expectPublished(setup, fixture, texts(0, 60));
};

/** A sink with standing knows it without the runner's help: the take position may be older (A1, C1). */
const standsAlone: Story = async (setup, fixture) => {
  const first = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await first.write(texts(0, 25));
  await first.settle();
  await first.close();
  const second = await Drive.open(setup.create(), fixture, new RecordingFeedback(0), 2);
  assert.equal(second.standing.resumeFrom, 25);
  await second.write(texts(25, 30));
  await second.settle();
  await second.close();
  await expectPublished(setup, fixture, texts(0, 30));
};

/** C1: after a higher epoch opened, the lower one publishes nothing more. */
const fencesLower: Story = async (setup, fixture) => {
  const zombie = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  await zombie.write(texts(0, 10));
  await zombie.settle();
  await zombie.write(texts(10, 20));
  const heir = await Drive.open(setup.create(), fixture, new RecordingFeedback(10), 2);
  const heirFrom = heir.next;
  await zombie.sink.flush(never()).catch((error: unknown) => zombie.feedback.fail(error));
  await heir.write(texts(heirFrom, 30));
  await heir.settle();
  assert.ok(
    zombie.feedback.error !== undefined || zombie.feedback.through <= heirFrom,
    "a fenced sink says so, and delivers nothing that its successor delivers too",
  );
  await zombie.sink.close().catch(() => undefined);
  await heir.close();
  await expectPublished(setup, fixture, texts(0, 30));
};

const keepsBytes: Story = async (setup, fixture) => {
  if (setup.published === undefined) return;
  const drive = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  const ugly = ["\xff\xfe\x80", "tab\there", "", "  spaces  ", "caf\xe9"];
  await drive.write(ugly);
  await drive.settle();
  await drive.close();
  await expectPublished(setup, fixture, ugly);
};

const refusesOne: Story = async (setup, fixture) => {
  const drive = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  const bad: SinkRecord = { ...recordOf(""), value: fixture.refusable?.() ?? null, offset: 1 };
  const good = (text: string, offset: number): SinkRecord => ({ ...recordOf(text), offset });
  await drive.writeRecords([good("a", 0), bad, good("b", 2)], 3);
  await drive.settle();
  await drive.close();
  assert.deepEqual(
    drive.feedback.refused.map(({ offset }) => offset),
    [1],
  );
  assert.ok((drive.feedback.refused[0]?.reason ?? "") !== "", "a refusal has a reason");
  await expectPublished(setup, fixture, ["a", "b"]);
};

/** Published counts come from the destination's own books (S1). */
const countsPublished: Story = async (setup, fixture) => {
  const first = await Drive.open(setup.create(), fixture, new RecordingFeedback());
  if (first.sink.publishedCount === undefined) return;
  await first.write(texts(0, 7));
  await first.settle();
  assert.equal(first.sink.publishedCount(), 7);
  await first.close();
  const second = await Drive.open(setup.create(), fixture, new RecordingFeedback(7), 2);
  assert.equal(second.sink.publishedCount?.(), 7);
  await second.close();
};

/** The suite of a sink. */
export function conformSink(fixture: SinkFixture): ConformanceCase[] {
  const stories: [string, Story, boolean?][] = [
    ["delivers everything, in order, and says so at the flush", deliversAll],
    ["settles offsets without records", settlesGaps],
    ["flushes with nothing to flush", flushesNothing],
    ["closes before it is opened, and twice", closesAnyTime],
    ["goes on where the runner stands", goesOn],
    ["records it held at the close are given again: nothing lost", givenAgain],
    ["knows where it stands without the runner (C1)", standsAlone, fixture.hasStanding],
    ["fences a lower epoch (C1)", fencesLower, fixture.hasStanding],
    ["keeps bytes as they are", keepsBytes],
    ["refuses a record with a reason and goes on (A5)", refusesOne, fixture.refusable !== undefined],
    ["counts what it published, across openings (S1)", countsPublished, fixture.hasStanding],
  ];
  return stories
    .filter(([, , isMeant]) => isMeant !== false)
    .map(([title, story]) => ({
      title: `sink contract: ${title}`,
      run: async () => {
        const setup = await fixture.setUp();
        try {
          await story(setup, fixture);
        } finally {
          await setup.tearDown();
        }
      },
    }));
}

export { textOf };
