import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MemoryChannel } from "../channel/memory-channel.ts";
import { recordsSizeBytes } from "../channel/record-codec.ts";
import { recordOf, textOf, until } from "../conformance/cases.ts";
import type { Assignment, Sink, SinkBatch, SinkFeedback } from "../contract.ts";
import { DeadLetters } from "./dead-letters.ts";
import { SinkBooks } from "./sink-books.ts";
import { SinkRunner, type SinkRunnerOptions } from "./sink-runner.ts";

const limits = {
  records: 10_000,
  bytes: 10_000_000,
  transactionRecords: 1_000,
  recordBytes: 100_000,
  keepAliveMs: 10,
};

let folder: string;
let directory: DataDirectory;
let channel: MemoryChannel;
let runner: SinkRunner | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-sink-runner-"));
  directory = await openDataDirectory({
    path: folder,
    disk: realDisk,
    clock: systemClock,
    identity: { role: "agent" },
  });
  channel = new MemoryChannel("c1", limits);
});

afterEach(async () => {
  await runner?.stop(100);
  await directory.close();
  await rm(folder, { recursive: true, force: true });
});

/** One opening of the sink under test. */
class Opening implements Sink {
  assignment!: Assignment;
  feedback!: SinkFeedback;
  readonly batches: SinkBatch[] = [];
  isClosed = false;
  readonly #onWrite: (opening: Opening, batch: SinkBatch) => void | Promise<void>;

  constructor(onWrite: (opening: Opening, batch: SinkBatch) => void | Promise<void>) {
    this.#onWrite = onWrite;
  }

  async open(assignment: Assignment, feedback: SinkFeedback) {
    this.assignment = assignment;
    this.feedback = feedback;
    return { resumeFrom: undefined };
  }

  async write(batch: SinkBatch): Promise<void> {
    this.batches.push(batch);
    await this.#onWrite(this, batch);
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {
    this.isClosed = true;
  }

  get texts(): string[] {
    return this.batches.flatMap(({ records }) => records.map(textOf));
  }
}

function run(
  onWrite: (opening: Opening, batch: SinkBatch) => void | Promise<void>,
  overrides: Partial<SinkRunnerOptions> = {},
): Opening[] {
  const openings: Opening[] = [];
  const telemetry = createTelemetry({ service: "test", node: "test", destination: "silent" });
  runner = new SinkRunner({
    name: "k1",
    type: "test",
    create: () => {
      const opening = new Opening(onWrite);
      openings.push(opening);
      return opening;
    },
    channel,
    origin: { kind: "channel", agentId: "a", agentName: "a", channelId: channel.id, channelName: "c1" },
    epoch: 1,
    starts: [],
    generation: 1,
    isShared: false,
    books: new SinkBooks(directory, "k1", channel.id),
    deadLetters: new DeadLetters({ component: "k1", directory, disk: realDisk, clock: systemClock }),
    limits: {
      batchRecords: 10,
      batchBytes: 1_000_000,
      windowRecords: 1_000,
      windowBytes: 1_000_000,
      flushIdleMs: 10_000,
    },
    whenAllowed: undefined,
    clock: systemClock,
    telemetry,
    ...overrides,
  });
  runner.start();
  return openings;
}

function put(...values: string[]): void {
  const records = values.map((value) => recordOf(value));
  channel.room.add(records.length, recordsSizeBytes(records));
  channel.append(records);
}

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => String(from + i));

describe("sink runner", () => {
  it("several batches are under way; parts of them settle; the rest is given again to a new opening", async () => {
    put(...numbers(0, 35));
    const openings = run(() => {});
    await until("all written", () => openings[0]?.texts.length === 35);
    const [first] = openings;
    first!.feedback.delivered(15);
    expect(channel.position).toBe(15);
    first!.feedback.fail(new Error("broken outside a call"));
    await until("opened again, and all given again", () => openings[1]?.texts.length === 20);
    expect(first!.isClosed).toBe(true);
    expect(openings[1]!.texts).toEqual(numbers(15, 35));
    expect(openings[1]!.assignment.deliveredThrough).toBe(15);
    first!.feedback.delivered(35);
    expect(channel.position).toBe(15);
    await expect(first!.feedback.setNotes([{ key: "n", value: null }])).rejects.toThrow("closed");
    await expect(first!.feedback.refuse({ ...recordOf("x"), offset: 20 }, "no")).rejects.toThrow("closed");
    openings[1]!.feedback.delivered(35);
    expect(runner!.status).toMatchObject({ state: "running", deliveredCount: 35 });
  });

  it("a sink that says it delivered what it was not given is closed and asked again", async () => {
    put(...numbers(0, 5));
    let isHonest = false;
    const openings = run((opening, batch) => opening.feedback.delivered(isHonest ? batch.to : batch.to + 1));
    await until("failed", () => runner!.status.state === "failed");
    expect(runner!.status.error).toContain("delivered through 6");
    expect(channel.position).toBe(0);
    isHonest = true;
    await until("delivered", () => channel.position === 5);
    expect(openings.at(-1)!.texts).toEqual(numbers(0, 5));
  });

  it("progress goes up only", async () => {
    put(...numbers(0, 10));
    const openings = run(() => {});
    await until("written", () => openings[0]?.texts.length === 10);
    openings[0]!.feedback.delivered(8);
    openings[0]!.feedback.delivered(3);
    await until("failed", () => openings.length === 2);
    expect(channel.position).toBe(8);
  });

  it("no more is given than the window; progress opens it", async () => {
    put(...numbers(0, 100));
    const openings = run(() => {}, {
      limits: {
        batchRecords: 10,
        batchBytes: 1_000_000,
        windowRecords: 30,
        windowBytes: 1_000_000,
        flushIdleMs: 10_000,
      },
    });
    await until("blocked", () => runner!.status.state === "blocked");
    expect(openings[0]!.texts).toHaveLength(30);
    openings[0]!.feedback.delivered(25);
    await until("more", () => openings[0]!.texts.length === 60);
  });

  it("a stop does not wait for ever for a sink that does not settle", async () => {
    put(...numbers(0, 5));
    const openings = run(() => {});
    await until("written", () => openings[0]?.texts.length === 5);
    await runner!.stop(50);
    expect(openings[0]!.isClosed).toBe(true);
    expect(channel.figures).toMatchObject({ depthCount: 5, takenCount: 0 });
  });

  it("a stop does not wait for a write that hangs", async () => {
    put("a");
    const openings = run(() => new Promise(() => {}));
    await until("written", () => openings[0]?.texts.length === 1);
    await runner!.stop(50);
    expect(channel.figures).toMatchObject({ depthCount: 1, takenCount: 0 });
  });

  it("opens only when allowed", async () => {
    put("a");
    let allow = (): void => {};
    const allowed = new Promise<void>((resolve) => {
      allow = resolve;
    });
    const openings = run((opening, batch) => opening.feedback.delivered(batch.to), {
      whenAllowed: () => allowed,
    });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(openings).toHaveLength(0);
    allow();
    await until("delivered", () => channel.position === 1);
  });

  it("shared: what another sink gave back is taken by a new opening, offsets going up in each (A6)", async () => {
    put(...numbers(0, 30));
    const other = await channel.take(10, 1_000_000);
    const openings = run((opening, batch) => opening.feedback.delivered(batch.to), { isShared: true });
    await until("the rest", () => openings[0]?.texts.length === 20);
    channel.rollback(other!.from, other!.to);
    await until("all", () => channel.position === 30);
    expect(openings).toHaveLength(2);
    expect(openings[1]!.texts).toEqual(numbers(0, 10));
    expect(openings[1]!.assignment.checkpoint).toBeUndefined();
  });
});
