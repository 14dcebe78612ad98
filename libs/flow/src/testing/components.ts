/** Small real components for the tests of this library: a list that is read, a destination that keeps where it stands. */
import { z } from "@millrace/config";
import type {
  Assignment,
  ComponentRegistry,
  FlowRecord,
  Intake,
  PullSource,
  PushSource,
  ReadResult,
  Sink,
  SinkBatch,
  SinkFeedback,
  SinkRecord,
  Standing,
} from "../contract.ts";
import { defineInterceptor, defineSink, defineSource } from "../contract.ts";

/** What the components of one test share. */
export class TestWorld {
  /** Texts the list source reads. */
  readonly list: string[] = [];
  /** Destinations by name. */
  readonly destinations = new Map<string, TestDestination>();
  /** Push sources started, by name. */
  readonly intakes = new Map<string, Intake>();
  /** Reads fail while set. */
  readFailure: Error | undefined;
  reads = 0;

  destination(name: string): TestDestination {
    const present = this.destinations.get(name);
    if (present !== undefined) return present;
    const made: TestDestination = { texts: [], next: 0, epoch: 0, isDown: false, openings: 0, holds: false };
    this.destinations.set(name, made);
    return made;
  }

  get registry(): ComponentRegistry {
    const sources = [this.#listSource(), this.#pushSource()];
    const sinks = [this.#listSink("list", true), this.#listSink("shared", false)];
    const interceptors = [dropInterceptor];
    const find = <T extends { readonly type: string }>(among: readonly T[], type: string) =>
      Promise.resolve(among.find((one) => one.type === type.toLowerCase()));
    return {
      types: (kind) =>
        (kind === "source" ? sources : kind === "sink" ? sinks : interceptors).map(({ type }) => type),
      source: (type) => find(sources, type),
      sink: (type) => find(sinks, type),
      interceptor: (type) => find(interceptors, type),
    };
  }

  #listSource() {
    return defineSource({
      type: "list",
      summary: "Reads a list.",
      guarantee: "exactly-once",
      config: z.strictObject({
        batchSize: z.number().int().min(1).default(10),
        from: z.string().optional(),
        filegroups: z.record(z.string(), z.string()).default({}),
      }),
      create: () => new ListSource(this),
    });
  }

  #pushSource() {
    return defineSource({
      type: "push",
      summary: "Gives its intake to the test.",
      guarantee: "at-least-once",
      config: z.strictObject({ port: z.number().int().min(0).max(65_535) }),
      create: (_, context): PushSource => ({
        mode: "push",
        start: async (intake) => void this.intakes.set(context.name, intake),
        addresses: () => [{ name: "test", host: "127.0.0.1", port: 1 }],
        stop: async () => void this.intakes.delete(context.name),
      }),
    });
  }

  #listSink(type: string, hasStanding: boolean) {
    return defineSink({
      type,
      summary: "Keeps records in a list.",
      guarantee: "exactly-once",
      hasStanding,
      canShare: !hasStanding,
      config: z.strictObject({
        to: z.string().optional(),
        batchSize: z.number().int().min(1).default(10),
      }),
      create: (config, context) =>
        new ListSink(this.destination(config.to ?? context.name), hasStanding, context.name),
    });
  }
}

/** Drops records that hold "drop", throws at those that hold "poison". */
const dropInterceptor = defineInterceptor({
  type: "drop",
  summary: "Drops.",
  guarantee: "exactly-once",
  config: z.strictObject({ word: z.string().default("drop") }),
  create: (config) => ({
    intercept: (record) => {
      if (textOf(record).includes("poison")) throw new Error("poisoned");
      return textOf(record).includes(config.word) ? { dropped: "word" } : record;
    },
  }),
});

/** Where a list sink delivers. */
export interface TestDestination {
  readonly texts: string[];
  next: number;
  epoch: number;
  /** Writes fail while set. */
  isDown: boolean;
  openings: number;
  /** Delivers only when flushed. */
  holds: boolean;
  lastOpening?: { readonly assignment: Assignment; readonly sink: string };
}

/** Text of a record's value. */
export function textOf(record: FlowRecord): string {
  return record.value === null ? "" : Buffer.from(record.value).toString("latin1");
}

class ListSource implements PullSource {
  readonly mode = "pull";
  readonly #world: TestWorld;
  #next = 0;

  constructor(world: TestWorld) {
    this.#world = world;
  }

  async open(positions: ReadonlyMap<string, string>): Promise<void> {
    this.#next = Number(positions.get("list") ?? 0);
  }

  async read(recordsMax: number): Promise<ReadResult> {
    this.#world.reads++;
    if (this.#world.readFailure !== undefined) throw this.#world.readFailure;
    const texts = this.#world.list.slice(this.#next, this.#next + recordsMax);
    const records = texts.map((text, i): FlowRecord => {
      const order = this.#next + i + 1;
      const value = Buffer.from(text, "latin1");
      return {
        ...{ key: null, value, headers: [], timestampMs: 1 },
        ...{ streamId: "list", sourcePosition: { key: "list", order } },
      };
    });
    this.#next += records.length;
    const positions =
      records.length > 0 ? [{ key: "list", order: this.#next, value: String(this.#next) }] : [];
    return { records, positions, isIdle: this.#next >= this.#world.list.length };
  }

  async close(): Promise<void> {}
}

class ListSink implements Sink {
  readonly #to: TestDestination;
  readonly #hasStanding: boolean;
  readonly #name: string;
  #feedback!: SinkFeedback;
  #epoch = 0;
  #held: SinkBatch[] = [];

  constructor(to: TestDestination, hasStanding: boolean, name: string) {
    this.#to = to;
    this.#hasStanding = hasStanding;
    this.#name = name;
  }

  async open(assignment: Assignment, feedback: SinkFeedback): Promise<Standing> {
    this.#to.openings++;
    this.#to.lastOpening = { assignment, sink: this.#name };
    this.#to.epoch = Math.max(this.#to.epoch, assignment.epoch);
    this.#epoch = assignment.epoch;
    this.#feedback = feedback;
    return { resumeFrom: this.#hasStanding ? this.#to.next : undefined };
  }

  async write(batch: SinkBatch): Promise<void> {
    if (this.#to.isDown) throw new Error("the destination is down");
    this.#held.push(batch);
    if (!this.#to.holds) await this.#deliver();
  }

  async flush(): Promise<void> {
    await this.#deliver();
  }

  publishedCount(): number {
    return this.#to.texts.length;
  }

  async close(): Promise<void> {
    this.#held = [];
  }

  async #deliver(): Promise<void> {
    if (this.#epoch < this.#to.epoch) throw new Error("fenced");
    for (const batch of this.#held.splice(0)) {
      for (const record of batch.records) await this.#deliverOne(record);
      if (this.#hasStanding) this.#to.next = batch.to;
      this.#feedback.delivered(batch.to, Buffer.from(`at ${batch.to}`));
    }
  }

  async #deliverOne(record: SinkRecord): Promise<void> {
    const text = textOf(record);
    if (text.startsWith("refuse")) await this.#feedback.refuse(record, "refused by the test");
    else this.#to.texts.push(text);
  }
}
