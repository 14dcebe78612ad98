/** The suites themselves: honest components pass, and each planted fault is found. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type {
  Assignment,
  FlowRecord,
  Intake,
  PullSource,
  PushSource,
  ReadResult,
  Sink,
  SinkBatch,
  SinkFeedback,
  Standing,
} from "../contract.ts";
import { recordOf, textOf } from "./cases.ts";
import { conformPullSource } from "./pull-source.ts";
import { conformPushSource } from "./push-source.ts";
import { conformSink, type SinkFixture } from "./sink.ts";

/** A destination with epochs and an own position, in memory. */
interface Destination {
  epoch: number;
  next: number;
  count: number;
  readonly texts: string[];
}

type Fault = "forgets" | "noFence" | "early" | "doubles" | "swallowsGap";

class ListSink implements Sink {
  readonly #to: Destination;
  readonly #fault: Fault | undefined;
  #epoch = 0;
  #feedback: SinkFeedback | undefined;
  #held: SinkBatch[] = [];

  constructor(to: Destination, fault?: Fault) {
    this.#to = to;
    this.#fault = fault;
  }

  async open(assignment: Assignment, feedback: SinkFeedback): Promise<Standing> {
    this.#to.epoch = Math.max(this.#to.epoch, assignment.epoch);
    this.#epoch = assignment.epoch;
    this.#feedback = feedback;
    const next = this.#fault === "doubles" ? Math.max(0, this.#to.next - 1) : this.#to.next;
    return { resumeFrom: this.#fault === "forgets" ? undefined : next };
  }

  async write(batch: SinkBatch): Promise<void> {
    this.#held.push(batch);
    if (this.#fault === "early") this.#feedback?.delivered(batch.to + 1);
  }

  async flush(): Promise<void> {
    for (const batch of this.#held.splice(0)) {
      if (this.#epoch < this.#to.epoch && this.#fault !== "noFence") throw new Error("fenced");
      for (const record of batch.records) {
        if (textOf(record) === "bad") await this.#feedback?.refuse(record, "it is bad");
        else {
          this.#to.texts.push(textOf(record));
          this.#to.count++;
        }
      }
      if (this.#fault === "swallowsGap" && batch.records.length === 0) continue;
      this.#to.next = Math.max(this.#to.next, batch.to);
      this.#feedback?.delivered(batch.to);
    }
  }

  publishedCount(): number {
    return this.#to.count;
  }

  async close(): Promise<void> {
    this.#held = [];
  }
}

function sinkFixture(fault?: Fault): SinkFixture {
  return {
    hasStanding: true,
    guarantee: "exactly-once",
    refusable: () => Buffer.from("bad"),
    setUp: async () => {
      const to: Destination = { epoch: 0, next: 0, count: 0, texts: [] };
      return {
        create: () => new ListSink(to, fault),
        published: async () => to.texts,
        tearDown: async () => {},
      };
    },
  };
}

describe("sink suite", () => {
  for (const { title, run } of conformSink(sinkFixture())) it(title, run);

  const faults: Fault[] = ["forgets", "noFence", "early", "doubles"];
  it.each(faults)("finds a sink that %s", async (fault) => {
    const outcomes = await Promise.allSettled(conformSink(sinkFixture(fault)).map(({ run }) => run()));
    expect(outcomes.some(({ status }) => status === "rejected")).toBe(true);
  });
});

/** A list as a pull source: position = index. */
class ListSource implements PullSource {
  readonly mode = "pull";
  readonly #from: { readonly texts: string[]; unfinished: string | undefined };
  readonly #fault: "greedy" | "noPosition" | undefined;
  #next = 0;

  constructor(
    from: { readonly texts: string[]; unfinished: string | undefined },
    fault?: "greedy" | "noPosition",
  ) {
    this.#from = from;
    this.#fault = fault;
  }

  async open(positions: ReadonlyMap<string, string>): Promise<void> {
    this.#next = Number(positions.get("list") ?? 0);
  }

  async read(recordsMax: number): Promise<ReadResult> {
    const to = this.#fault === "greedy" ? this.#from.texts.length : this.#next + recordsMax;
    const texts = this.#from.texts.slice(this.#next, to);
    const records = texts.map(
      (text, i): FlowRecord => ({
        ...recordOf(text),
        streamId: "list",
        sourcePosition: { key: "list", order: this.#next + i + 1 },
      }),
    );
    this.#next += records.length;
    const positions = [{ key: "list", order: this.#next, value: String(this.#next) }];
    return {
      records,
      positions: records.length > 0 && this.#fault !== "noPosition" ? positions : [],
      isIdle: this.#next === this.#from.texts.length,
    };
  }

  finish(): void {
    if (this.#from.unfinished !== undefined) this.#from.texts.push(this.#from.unfinished);
    this.#from.unfinished = undefined;
  }

  async close(): Promise<void> {}
}

function pullFixture(fault?: "greedy" | "noPosition") {
  return {
    setUp: async () => {
      const from: { texts: string[]; unfinished: string | undefined } = { texts: [], unfinished: undefined };
      return {
        create: () => new ListSource(from, fault),
        append: async (count: number) => {
          const added = Array.from({ length: count }, (_, i) => `unit ${from.texts.length + i}`);
          from.texts.push(...added);
          return added;
        },
        appendUnfinished: async () => {
          from.unfinished = "unfinished";
          return "unfinished";
        },
        tearDown: async () => {},
      };
    },
  };
}

describe("pull source suite", () => {
  for (const { title, run } of conformPullSource(pullFixture())) it(title, run);

  it.each(["greedy", "noPosition"] as const)("finds a source that is %s", async (fault) => {
    const outcomes = await Promise.allSettled(conformPullSource(pullFixture(fault)).map(({ run }) => run()));
    expect(outcomes.some(({ status }) => status === "rejected")).toBe(true);
  });
});

/** Lines over a Unix socket, answered "yes" or "no" per line. */
class LineSource implements PushSource {
  readonly mode = "push";
  readonly path: string;
  readonly #isHasty: boolean;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(path: string, isHasty: boolean) {
    this.path = path;
    this.#isHasty = isHasty;
  }

  async start(intake: Intake): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("data", (data) => {
        const records = data
          .toString("latin1")
          .split("\n")
          .slice(0, -1)
          .map((text) => recordOf(text));
        const answer = (text: string): void => void socket.end(text);
        if (this.#isHasty) answer("yes");
        intake.offer({ records }).then(
          (outcome) => answer(outcome === "committed" ? "yes" : "no"),
          () => answer("no"),
        );
      });
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function pushFixture(isHasty: boolean) {
  return {
    setUp: async () => {
      const folder = await mkdtemp(join(tmpdir(), "millrace-push-"));
      const path = join(folder, "s");
      const { connect } = await import("node:net");
      return {
        create: () => new LineSource(path, isHasty),
        send: (_: PushSource, texts: readonly string[]) =>
          new Promise<"accepted" | "refused">((resolve) => {
            const socket = connect(path);
            let answer = "";
            socket.on("data", (data) => {
              answer += data.toString();
            });
            socket.on("error", () => {});
            socket.on("close", () => resolve(answer === "yes" ? "accepted" : "refused"));
            socket.write(`${texts.join("\n")}\n`);
          }),
        tearDown: () => rm(folder, { recursive: true, force: true }),
      };
    },
  };
}

describe("push source suite", () => {
  for (const { title, run } of conformPushSource(pushFixture(false))) it(title, run);

  it("finds a source that answers before the commit", async () => {
    const cases = conformPushSource(pushFixture(true));
    const outcomes = await Promise.allSettled(cases.map(({ run }) => run()));
    expect(outcomes.some(({ status }) => status === "rejected")).toBe(true);
  });
});
