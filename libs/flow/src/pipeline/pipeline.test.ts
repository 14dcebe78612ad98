import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { discardedTotal } from "@millrace/telemetry";
import { afterEach, describe, expect, it } from "vitest";
import { recordOf, until } from "../conformance/cases.ts";
import { TestAgent } from "../testing/agent-directory.ts";
import { TestWorld } from "../testing/components.ts";

const never = new AbortController().signal;
const agents: TestAgent[] = [];

async function agentOf(world: TestWorld): Promise<TestAgent> {
  const agent = await TestAgent.open(world);
  agents.push(agent);
  return agent;
}

afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.remove();
});

function texts(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, i) => `line ${from + i}`);
}

const oneChannel = `
agent: { name: a1 }
sources: { r1: { type: list, channels: c1 } }
channels: { c1: { type: file } }
sinks: { k1: { type: list, channel: c1 } }
`;

describe("pipeline", () => {
  it("finishes: everything there is delivered, once, in order", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 1_234));
    const agent = await agentOf(world);
    const pipeline = await agent.start(oneChannel);
    await pipeline.finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(texts(0, 1_234));
    const { sources, channels, sinks } = pipeline.status();
    expect(sources[0]).toMatchObject({ state: "ended", recordCount: 1_234, isIdle: true });
    expect(channels[0]).toMatchObject({ putCount: 1_234, depthCount: 0, depthBytes: 0 });
    expect(sinks[0]).toMatchObject({ deliveredCount: 1_234, refusedCount: 0, publishedCount: 1_234 });
  });

  it("goes on after a restart where source and sink were (A1, J5)", async () => {
    const world = new TestWorld();
    const agent = await agentOf(world);
    for (let round = 0; round < 3; round++) {
      world.list.push(...texts(round * 50, round * 50 + 50));
      const pipeline = await agent.start(oneChannel);
      await until("delivered", () => world.destination("k1").texts.length === round * 50 + 50);
      expect(world.destination("k1").lastOpening?.assignment).toMatchObject({
        epoch: round + 1,
        deliveredThrough: round * 50,
        generation: 1,
        origin: { kind: "channel", agentId: pipeline.status().agentId, channelName: "c1" },
      });
      await agent.restart();
    }
    expect(world.destination("k1").texts).toEqual(texts(0, 150));
  });

  it("a changed sink configuration is a new generation, durable before the sources put (A5)", async () => {
    const world = new TestWorld();
    const agent = await agentOf(world);
    await agent.start(oneChannel);
    await until("opened", () => world.destination("k1").lastOpening !== undefined);
    await agent.restart();
    await agent.start(oneChannel.replace("type: list, channel: c1", "type: list, batchSize: 7, channel: c1"));
    await until("opened again", () => world.destination("k1").openings === 2);
    expect(world.destination("k1").lastOpening?.assignment.generation).toBe(2);
  });

  it("a failing destination is tried again; nothing is lost, doubled or reordered", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 100));
    const to = world.destination("k1");
    to.isDown = true;
    const agent = await agentOf(world);
    const pipeline = await agent.start(oneChannel);
    await until("the sink failed", () => pipeline.status().sinks[0]?.state === "failed");
    expect(pipeline.status().sinks[0]?.error).toContain("down");
    to.isDown = false;
    await pipeline.finishAndDrain(never);
    expect(to.texts).toEqual(texts(0, 100));
  });

  it("refused records are dead letters before progress passes them, and are not given again (A5)", async () => {
    const world = new TestWorld();
    world.list.push("a", "refuse 1", "b", "refuse 2", "c");
    const agent = await agentOf(world);
    const pipeline = await agent.start(oneChannel);
    await pipeline.finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(["a", "b", "c"]);
    expect(pipeline.status().sinks[0]).toMatchObject({ deliveredCount: 3, refusedCount: 2 });
    const letters = (await readFile(join(agent.path, "dead-letters", "k1.jsonl"), "utf8")).trim().split("\n");
    const parsed = letters.map(
      (line) => JSON.parse(line) as { sequence: number; value: string; reason: string },
    );
    expect(parsed.map(({ sequence }) => sequence)).toEqual([1, 3]);
    expect(Buffer.from(parsed[0]!.value, "base64").toString()).toBe("refuse 1");
    expect(parsed[0]!.reason).toBe("refused by the test");
    expect(await agent.telemetry.metrics.value(discardedTotal, { component: "k1" })).toBe(2);
    // the destination forgets: all is given again, but for what was refused
    world.destination("k1").next = 0;
    world.destination("k1").texts.length = 0;
    await agent.restart();
    await (await agent.start(oneChannel)).finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(["a", "b", "c"]);
    const again = (await readFile(join(agent.path, "dead-letters", "k1.jsonl"), "utf8")).trim().split("\n");
    expect(again).toEqual(letters);
  });

  it("a full channel holds its source; it goes on when there is room (back-pressure)", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 500));
    const to = world.destination("k1");
    to.isDown = true;
    const agent = await agentOf(world);
    const small = oneChannel.replace("type: file", "type: file, capacity: 50, transactionCapacity: 20");
    const pipeline = await agent.start(small);
    await until("blocked", () => pipeline.status().sources[0]?.state === "blocked");
    const { reads } = world;
    expect(pipeline.status().channels[0]).toMatchObject({ depthCount: 50 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(world.reads).toBe(reads);
    to.isDown = false;
    await pipeline.finishAndDrain(never);
    expect(to.texts).toEqual(texts(0, 500));
  });

  it("interceptors drop with a counted reason; a record one fails at is set aside", async () => {
    const world = new TestWorld();
    world.list.push("a", "drop it", "poison", "b");
    const agent = await agentOf(world);
    const yaml = oneChannel.replace(
      "channels: c1 }",
      "channels: c1, interceptors: [{ type: drop, name: i1 }] }",
    );
    await (await agent.start(yaml)).finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(["a", "b"]);
    const { metrics } = agent.telemetry;
    expect(await metrics.value(discardedTotal, { component: "i1", reason: "word" })).toBe(1);
    expect(await metrics.value(discardedTotal, { component: "r1", reason: "refused" })).toBe(1);
    const letter = await readFile(join(agent.path, "dead-letters", "r1.jsonl"), "utf8");
    expect(JSON.parse(letter)).toMatchObject({
      source: "r1",
      stream: "list",
      order: 3,
      reason: "interceptor: poisoned",
    });
  });

  it("a put into two file channels is in both; a stalled one disturbs the other only when it is full (A3)", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 300));
    world.destination("k2").isDown = true;
    const agent = await agentOf(world);
    const pipeline = await agent.start(`
agent: { name: a1 }
sources: { r1: { type: list, channels: [c1, c2] } }
channels: { c1: { type: file }, c2: { type: file, capacity: 100, transactionCapacity: 50 } }
sinks: { k1: { type: list, channel: c1 }, k2: { type: list, channel: c2 } }
`);
    await until("the other goes on to where c2 is full", () => world.destination("k1").texts.length === 100);
    expect(pipeline.status().sources[0]?.state).toBe("blocked");
    world.destination("k2").isDown = false;
    await pipeline.finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(texts(0, 300));
    expect(world.destination("k2").texts).toEqual(texts(0, 300));
  });

  it("an optional channel drops what it has no room for, counted; the required one goes on", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 100));
    world.destination("k2").isDown = true;
    const agent = await agentOf(world);
    const pipeline = await agent.start(`
agent: { name: a1 }
sources: { r1: { type: list, channels: [c1, c2], selector: { optional: [c2] } } }
channels: { c1: { type: file }, c2: { type: file, capacity: 40, transactionCapacity: 20 } }
sinks: { k1: { type: list, channel: c1 }, k2: { type: list, channel: c2 } }
`);
    await until("all in c1", () => world.destination("k1").texts.length === 100);
    const dropped = await agent.telemetry.metrics.value(discardedTotal, {
      component: "c2",
      reason: "optional_channel_full",
    });
    expect(dropped).toBe(60);
    expect(pipeline.status().channels[1]).toMatchObject({ putCount: 40, depthCount: 40 });
    world.destination("k2").isDown = false;
    await pipeline.finishAndDrain(never);
    expect(world.destination("k2").texts).toEqual(texts(0, 40));
  });

  it("sinks that share a channel deliver everything between them (A6)", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 400));
    const agent = await agentOf(world);
    const pipeline = await agent.start(`
agent: { name: a1 }
sources: { r1: { type: list, channels: c1 } }
channels: { c1: { type: file } }
sinks: { k1: { type: shared, to: both, channel: c1 }, k2: { type: shared, to: both, channel: c1 } }
`);
    await until("some", () => world.destination("both").texts.length > 20);
    world.destination("both").isDown = true;
    await until("failed", () => pipeline.status().sinks.every(({ state }) => state === "failed"));
    world.destination("both").isDown = false;
    await pipeline.finishAndDrain(never);
    expect([...new Set(world.destination("both").texts)].sort()).toEqual(texts(0, 400).sort());
    expect(pipeline.status().channels[0]).toMatchObject({ depthCount: 0 });
  });

  it("a sink that holds many records is flushed when its window is full, and when stopped", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 95));
    world.destination("k1").holds = true;
    const agent = await agentOf(world);
    await agent.start(oneChannel, { sinkLimits: { windowRecords: 30 } });
    await until("the window was flushed", () => world.destination("k1").texts.length === 90);
    await agent.restart();
    expect(world.destination("k1").texts).toEqual(texts(0, 95));
  });

  it("a sink that holds records is flushed when nothing more comes", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 5));
    world.destination("k1").holds = true;
    const agent = await agentOf(world);
    await agent.start(oneChannel, { sinkLimits: { flushIdleMs: 20 } });
    await until("flushed", () => world.destination("k1").texts.length === 5);
  });

  it("a sink behind what is kept gets what is kept; the rest is counted as lost", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 20));
    const agent = await agentOf(world);
    await (await agent.start(oneChannel)).finishAndDrain(never);
    await agent.restart();
    agent.directory.logs[0]!.advanceStart(15);
    world.destination("k1").next = 5;
    world.destination("k1").texts.length = 5;
    await (await agent.start(oneChannel)).finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual([...texts(0, 5), ...texts(15, 20)]);
    const labels = { component: "k1", reason: "not_kept_any_more" };
    expect(await agent.telemetry.metrics.value(discardedTotal, labels)).toBe(10);
  });

  it("a sink ahead of the channel stops with an error: the directory is older than the destination (L1)", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 20));
    world.destination("k1").next = 1_000;
    const agent = await agentOf(world);
    const pipeline = await agent.start(oneChannel);
    await until("failed", () => pipeline.status().sinks[0]?.state === "failed");
    expect(pipeline.status().sinks[0]?.error).toContain("older than its destination");
    expect(world.destination("k1").texts).toEqual([]);
  });

  it("a push source's records are answered after the commit; a pause refuses them", async () => {
    const world = new TestWorld();
    const agent = await agentOf(world);
    const pipeline = await agent.start(`
agent: { name: a1 }
sources: { p1: { type: push, port: 0, channels: c1 } }
channels: { c1: { type: file, keep-alive: 0.05 } }
sinks: { k1: { type: list, channel: c1 } }
`);
    const intake = world.intakes.get("p1")!;
    expect(intake.durability).toBe("fsync");
    const notes = [{ key: "n", value: Buffer.from("1") }];
    expect(await intake.offer(() => ({ records: [recordOf("one")], notes }))).toBe("committed");
    pipeline.pause();
    expect(intake.hasRoom).toBe(false);
    expect(await intake.offer({ records: [recordOf("two")] })).toBe("full");
    pipeline.resume();
    expect(await intake.offer({ records: [recordOf("three")] })).toBe("committed");
    await until("delivered", () => world.destination("k1").texts.length === 2);
    expect(world.destination("k1").texts).toEqual(["one", "three"]);
    expect(pipeline.addresses).toEqual([{ source: "p1", name: "test", host: "127.0.0.1", port: 1 }]);
    await agent.restart();
    await agent.start(`
agent: { name: a1 }
sources: { p1: { type: push, port: 0, channels: c1 } }
channels: { c1: { type: file } }
`);
    expect(Buffer.from(world.intakes.get("p1")!.note("n")!).toString()).toBe("1");
  });

  it("a failing source is opened again at its last put", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 30));
    world.readFailure = new Error("unreadable");
    const agent = await agentOf(world);
    const pipeline = await agent.start(oneChannel);
    await until("failed", () => pipeline.status().sources[0]?.state === "failed");
    expect(pipeline.status().sources[0]?.error).toBe("unreadable");
    const { readiness } = agent.telemetry;
    expect(readiness.snapshot().parts).toEqual([{ name: "source r1", ready: false, reason: "unreadable" }]);
    world.readFailure = undefined;
    await pipeline.finishAndDrain(never);
    expect(readiness.snapshot().parts).toEqual([]);
    expect(world.destination("k1").texts).toEqual(texts(0, 30));
  });
});

describe("memory channels", () => {
  const memory = `
agent: { name: a1 }
sources: { r1: { type: list, channels: c1 } }
channels: { c1: { type: memory, capacity: 1000 } }
sinks: { k1: { type: shared, channel: c1 } }
`;

  it("positions are saved only when the sinks have committed: a crash reads again (A1)", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 50));
    world.destination("k1").isDown = true;
    const agent = await agentOf(world);
    const pipeline = await agent.start(memory);
    await until("in memory", () => pipeline.status().channels[0]?.putCount === 50);
    const first = pipeline.status().channels[0]?.channelId;
    expect(agent.directory.stateKeys("source/r1/position/")).toEqual([]);
    await agent.restart();
    const labels = { component: "c1", reason: "memory_channel_stopped" };
    expect(await agent.telemetry.metrics.value(discardedTotal, labels)).toBe(50);
    world.destination("k1").isDown = false;
    const again = await agent.start(memory);
    await again.finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(texts(0, 50));
    expect(again.status().channels[0]?.channelId).not.toBe(first);
    expect(agent.directory.stateKeys("source/r1/position/")).toEqual(["source/r1/position/list"]);
  });

  it("are run dry at a stop", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 50));
    world.destination("k1").holds = true;
    const agent = await agentOf(world);
    const pipeline = await agent.start(memory);
    await until("in memory", () => pipeline.status().channels[0]?.putCount === 50);
    await agent.restart();
    expect(world.destination("k1").texts).toEqual(texts(0, 50));
  });

  it("beside a file channel: after a crash the file channel skips what it has (A3)", async () => {
    const mixed = `
agent: { name: a1 }
sources: { r1: { type: list, channels: [c1, c2] } }
channels: { c1: { type: file }, c2: { type: memory, capacity: 1000 } }
sinks: { k1: { type: list, channel: c1 }, k2: { type: shared, channel: c2 } }
`;
    const world = new TestWorld();
    world.list.push(...texts(0, 50));
    world.destination("k2").isDown = true;
    const agent = await agentOf(world);
    await agent.start(mixed);
    await until("the file channel's sink has all", () => world.destination("k1").texts.length === 50);
    await agent.restart();
    world.destination("k2").isDown = false;
    world.list.push(...texts(50, 60));
    await (await agent.start(mixed)).finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(texts(0, 60));
    expect(world.destination("k2").texts).toEqual(texts(0, 60));
  });
});

describe("what cannot be put or read", () => {
  it("a record too large for its channel is set aside with its bytes; its neighbours go on", async () => {
    const world = new TestWorld();
    const large = "x".repeat(3_000);
    world.list.push("a", large, "b");
    const agent = await agentOf(world);
    await (
      await agent.start(oneChannel.replace("type: file", "type: file, byteCapacity: 2000"))
    ).finishAndDrain(never);
    expect(world.destination("k1").texts).toEqual(["a", "b"]);
    const letter = JSON.parse(await readFile(join(agent.path, "dead-letters", "r1.jsonl"), "utf8")) as {
      value: string;
      reason: string;
    };
    expect(Buffer.from(letter.value, "base64").toString()).toBe(large);
    expect(letter.reason).toContain("larger than");
    expect(await agent.telemetry.metrics.value(discardedTotal, { component: "r1" })).toBe(1);
  });

  it("records damaged on disk are counted as lost and stepped over; the rest is delivered (J4)", async () => {
    const world = new TestWorld();
    world.list.push(...texts(0, 60));
    world.destination("k1").isDown = true;
    const agent = await agentOf(world);
    const pipeline = await agent.start(oneChannel);
    await until("put", () => pipeline.status().channels[0]?.putCount === 60);
    await agent.restart(async () => {
      const folder = join(agent.path, "channels", pipeline.status().channels[0]!.channelId);
      const segment = (await readdir(folder)).find((name) => name.endsWith(".log"))!;
      const file = await open(join(folder, segment), "r+");
      const { size } = await file.stat();
      await file.write(Buffer.alloc(8, 255), 0, 8, Math.floor(size / 2));
      await file.close();
    });
    world.destination("k1").isDown = false;
    const again = await agent.start(oneChannel);
    await again.finishAndDrain(never);
    const labels = { component: "c1", reason: "lost_on_disk" };
    const lost = await agent.telemetry.metrics.value(discardedTotal, labels);
    expect(lost).toBe(10);
    const { texts: found } = world.destination("k1");
    expect(found).toHaveLength(50);
    expect(found).toEqual(texts(0, 60).filter((text) => found.includes(text)));
    expect(again.status().channels[0]).toMatchObject({ depthCount: 0, depthBytes: 0 });
  });
});
