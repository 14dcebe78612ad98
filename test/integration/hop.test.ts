/** The hand-off from agent to agent (rules H1-H4) with real channels, journals and connections. */
import { cp, rm } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeDataFolder } from "../support/environment.ts";
import { freePorts, until } from "../support/processes.ts";
import { TestAgent } from "./test-agent.ts";

let folder: string;
const agents: TestAgent[] = [];

beforeEach(async () => {
  folder = await makeDataFolder("hop");
});

afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.stop().catch(() => undefined);
  await rm(folder, { recursive: true, force: true });
});

function agent(name: string): TestAgent {
  const made = new TestAgent(name, folder);
  agents.push(made);
  return made;
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));

const sending = (port: number, total: number, capacity = 100_000): string => `
sources: {s: {type: seq, totalEvents: ${total}, batchSize: 100, channels: [c]}}
channels: {c: {type: file, capacity: ${capacity}, transactionCapacity: ${Math.min(1000, capacity)}}}
sinks: {k: {type: agent, port: ${port}, channel: c, batch-size: 100}}
`;

const receiving = (port: number, capacity = 100_000): string => `
sources: {s: {type: ingest, port: ${port}, channels: [c]}}
channels: {c: {type: file, capacity: ${capacity}, transactionCapacity: ${Math.min(1000, capacity)}}}
sinks: {k: {type: collect, channel: c}}
`;

describe("the hop", () => {
  it("H1: every record arrives once, in order, and the sender's channel runs empty", async () => {
    const receiver = agent("b");
    await receiver.start(receiving(0));
    const sender = agent("a");
    await sender.start(sending(receiver.port, 5000));
    await until("all arrived", 20_000, () => receiver.collected.values.length >= 5000 && sender.depth === 0);
    expect(receiver.collected.values).toEqual(numbers(5000));
  });

  it("H2: a sender that restarts from an old take position sends again, and nothing is taken twice", async () => {
    const [port = 0] = await freePorts(1);
    const receiver = agent("b");
    await receiver.start(receiving(port));
    const sender = agent("a");
    await sender.start(sending(port, 3000));
    await until("some arrived", 20_000, () => receiver.collected.values.length > 500);
    await sender.stop();
    await sender.start(sending(port, 3000));
    await until("all arrived", 20_000, () => receiver.collected.values.length >= 3000 && sender.depth === 0);
    expect(receiver.collected.values).toEqual(numbers(3000));
  });

  it("backs up when the receiver is gone, and everything flows on when it is back, once", async () => {
    const total = 60_000;
    const [port = 0] = await freePorts(1);
    const receiver = agent("b");
    receiver.collected.isBlocked = true;
    await receiver.start(receiving(port, 3000));
    const sender = agent("a");
    await sender.start(sending(port, total, 2000));
    await until("the receiver's channel is full", 20_000, () => receiver.depth >= 2900);
    await receiver.stop();
    await until("the sender's channel is full", 20_000, () => sender.depth >= 1900);
    expect(sender.status.sources[0]?.state).toBe("blocked");
    receiver.collected.unblock();
    await receiver.start(receiving(port, 3000));
    await until("all arrived", 40_000, () => receiver.collected.values.length >= total && sender.depth === 0);
    expect(receiver.collected.values).toEqual(numbers(total));
  });

  it("L1: a copied directory of a sender is refused with what to do", async () => {
    const receiver = agent("b");
    await receiver.start(receiving(0));
    const sender = agent("a");
    await sender.start(sending(receiver.port, 100));
    await until("all arrived", 20_000, () => receiver.collected.values.length >= 100 && sender.depth === 0);
    await sender.stop();
    await cp(sender.folder, `${folder}/copy`, { recursive: true });
    await sender.start(sending(receiver.port, 200));
    await until("the original goes on", 20_000, () => receiver.collected.values.length >= 200);
    const copy = agent("copy");
    await copy.start(sending(receiver.port, 300));
    await until("the copy is refused", 20_000, () => copy.status.sinks[0]?.error?.includes("copy") ?? false);
    expect(copy.status.sinks[0]?.error).toContain("identity");
    expect(receiver.collected.values).toEqual(numbers(200));
  });
});
