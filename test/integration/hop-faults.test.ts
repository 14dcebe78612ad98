/** The hop when the wire and the receivers fail (rules H1-H4, A3), with real channels, journals and connections. */
import { rm } from "node:fs/promises";
import { encodeRecords } from "@millrace/flow";
import {
  IngestServiceService,
  type TransferOpened,
  type TransferRequest,
  type TransferResponse,
  type TransferResult,
} from "@millrace/proto/ingest";
import { type ClientDuplex, connect, makeHandshake, type RpcConnection } from "@millrace/rpc";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeDataFolder } from "../support/environment.ts";
import { freePorts, until } from "../support/processes.ts";
import { CuttingProxy } from "./cutting-proxy.ts";
import { TestAgent } from "./test-agent.ts";

let folder: string;
let proxy: CuttingProxy;
const agents: TestAgent[] = [];
const connections: RpcConnection[] = [];

beforeEach(async () => {
  folder = await makeDataFolder("hop");
  proxy = await CuttingProxy.start();
});

afterEach(async () => {
  for (const connection of connections.splice(0)) connection.close();
  await proxy.close();
  for (const agent of agents.splice(0)) await agent.stop().catch(() => undefined);
  await rm(folder, { recursive: true, force: true });
});

function agent(name: string): TestAgent {
  const made = new TestAgent(name, folder);
  agents.push(made);
  return made;
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));
const sorted = (values: readonly string[]): string[] => [...values].sort((a, b) => Number(a) - Number(b));

interface Sending {
  readonly port: number;
  readonly total: number;
  readonly batch?: number;
  readonly sink?: string;
}

const sending = ({ port, total, batch = 100, sink = "" }: Sending): string => `
sources: {s: {type: seq, totalEvents: ${total}, batchSize: ${batch}, channels: [c]}}
channels: {c: {type: file}}
sinks: {k: {type: agent, port: ${port}, channel: c, batch-size: ${batch}, connect-timeout: 1s${sink}}}
`;

const receiving = (port = 0, channel = "type: file"): string => `
sources: {s: {type: ingest, port: ${port}, channels: [c]}}
channels: {c: {${channel}}}
sinks: {k: {type: collect, channel: c}}
`;

/** A sender that speaks the protocol by hand. */
class RawSender {
  readonly #stream: ClientDuplex<TransferRequest, TransferResponse>;
  readonly #opened = Promise.withResolvers<TransferOpened>();
  readonly #results = new Map<number, PromiseWithResolvers<TransferResult>>();
  readonly ended: Promise<unknown>;

  constructor(port: number) {
    const connection = connect(`127.0.0.1:${port}`);
    connections.push(connection);
    this.#stream = connection.duplex<TransferRequest, TransferResponse>(IngestServiceService.transfer);
    this.ended = this.#stream
      .receive(({ message }) => {
        if (message?.$case === "opened") this.#opened.resolve(message.value);
        else if (message?.$case === "result")
          this.#results.get(message.value.correlationId)?.resolve(message.value);
      })
      .catch((error: unknown) => {
        this.#opened.reject(error);
        return error;
      });
  }

  open(
    session: number,
    overrides: { startNumber?: number; starts?: string[] } = {},
  ): Promise<TransferOpened> {
    const handshake = makeHandshake({ clusterId: "", nodeId: "raw", incarnation: "s1" });
    this.#stream.write({
      message: {
        $case: "open",
        value: {
          handshake,
          agentId: "RAW",
          channelId: "C",
          starts: ["s1"],
          startNumber: 1,
          session,
          resolvedThrough: 0,
          receiverDirectoryId: "",
          allowVolatile: false,
          volatileChannel: false,
          ...overrides,
        },
      },
    });
    return this.#opened.promise;
  }

  send(firstSequence: number, values: readonly string[]): Promise<TransferResult> {
    const records = values.map((value) => ({
      key: null,
      value: Buffer.from(value),
      headers: [],
      timestampMs: 0,
    }));
    const [batch = new Uint8Array()] = encodeRecords(records);
    const answer = Promise.withResolvers<TransferResult>();
    this.#results.set(firstSequence + 1, answer);
    this.#stream.write({
      message: {
        $case: "batch",
        value: {
          correlationId: firstSequence + 1,
          firstSequence,
          recordCount: values.length,
          batch,
          possibleDuplicate: false,
        },
      },
    });
    return answer.promise;
  }
}

describe("the hop over a bad wire", () => {
  it("H1: answers that never arrive, the connection cut, again and again: each record once, in order", async () => {
    const total = 20_000;
    const receiver = agent("b");
    await receiver.start(receiving());
    proxy.target(receiver.port);
    const sender = agent("a");
    await sender.start(sending({ port: proxy.port, total }));
    let unanswered = 0;
    for (let round = 1; round <= 4; round++) {
      const goal = Math.min(round * 4000, total - 1000);
      await until(`${goal} arrived`, 20_000, () => receiver.collected.values.length >= goal);
      proxy.swallowAnswers = true;
      const before = proxy.swallowedBytes;
      await until("an answer is lost", 20_000, () => proxy.swallowedBytes > before);
      const delivered = (): number => sender.status.sinks[0]?.deliveredCount ?? 0;
      unanswered += Math.max(0, (receiver.status.channels[0]?.putCount ?? 0) - delivered());
      proxy.cut();
      proxy.swallowAnswers = false;
    }
    expect(unanswered, "records in the receiver's log whose sender had no answer").toBeGreaterThan(100);
    await until("all arrived", 30_000, () => receiver.collected.values.length >= total && sender.depth === 0);
    expect(receiver.collected.values).toEqual(numbers(total));
  });

  it("H3: a late request of a dead connection is refused, and what its successor sends is there once", async () => {
    const receiver = agent("b");
    await receiver.start(receiving());
    const dead = new RawSender(receiver.port);
    await dead.open(1);
    expect((await dead.send(0, ["0", "1"])).error).toBeUndefined();
    const heir = new RawSender(receiver.port);
    const { held } = await heir.open(2);
    expect(held).toEqual([{ from: 0, to: 2 }]);
    void dead.send(2, ["late", "late"]);
    expect(await dead.ended).toMatchObject({ reason: "STALE_SESSION" });
    expect((await heir.send(0, ["0", "1", "2"])).duplicateCount).toBe(2);
    await until("all arrived", 10_000, () => receiver.collected.values.length >= 3);
    expect(receiver.collected.values).toEqual(["0", "1", "2"]);
    expect(await receiver.metric("ingest_duplicates_total")).toBe(2);
  });

  it("H3, L1: a lower start, and a start from another history, are refused at the handshake", async () => {
    const receiver = agent("b");
    await receiver.start(receiving());
    await new RawSender(receiver.port).open(1, { startNumber: 2, starts: ["s1", "s2"] });
    const older = new RawSender(receiver.port).open(9, { startNumber: 1, starts: ["s1", "s2"] });
    await expect(older).rejects.toMatchObject({ reason: "STALE_SESSION" });
    const copy = new RawSender(receiver.port).open(9, { startNumber: 3, starts: ["s1", "t2", "t3"] });
    await expect(copy).rejects.toMatchObject({ reason: "LINEAGE_REFUSED" });
  });

  it("H1: a receiver that keeps records in memory only is refused, unless that is allowed", async () => {
    const receiver = agent("b");
    await receiver.start(receiving(0, "type: memory, capacity: 10000"));
    const sender = agent("a");
    await sender.start(sending({ port: receiver.port, total: 500 }));
    await until("it is refused", 10_000, () => sender.status.sinks[0]?.error !== undefined);
    expect(sender.status.sinks[0]?.error).toContain("allowVolatile");
    expect(receiver.collected.values).toEqual([]);
    await sender.stop();
    await sender.start(sending({ port: receiver.port, total: 500, sink: ", allowVolatile: true" }));
    await until("all arrived", 10_000, () => receiver.collected.values.length >= 500);
    expect(receiver.collected.values).toEqual(numbers(500));
  });

  it("a receiver that takes fewer records at once than are sent gets smaller batches; nothing is set aside", async () => {
    const receiver = agent("b");
    await receiver.start(receiving(0, "type: file, transactionCapacity: 30"));
    const sender = agent("a");
    await sender.start(sending({ port: receiver.port, total: 3000, batch: 500 }));
    await until("all arrived", 20_000, () => receiver.collected.values.length >= 3000 && sender.depth === 0);
    expect(sorted(receiver.collected.values)).toEqual(numbers(3000));
    expect(sender.status.sinks[0]?.refusedCount).toBe(0);
  });
});

describe("several receivers behind one name", () => {
  it("H3: whoever restarts, and wherever the name leads, each record is taken once", async () => {
    const total = 40_000;
    const ports = await freePorts(2);
    const receivers = [agent("b1"), agent("b2")] as const;
    for (const [i, receiver] of receivers.entries()) await receiver.start(receiving(ports[i]));
    proxy.target(...ports);
    const sender = agent("a");
    await sender.start(sending({ port: proxy.port, total }));
    const arrived = (): number => receivers.reduce((sum, { collected }) => sum + collected.values.length, 0);
    for (let round = 0; round < 4; round++) {
      const goal = Math.min(arrived() + 5000, total - 2000);
      await until(`${goal} arrived`, 30_000, () => arrived() >= goal);
      if (round === 2) {
        await sender.stop();
        await sender.start(sending({ port: proxy.port, total }));
        continue;
      }
      proxy.swallowAnswers = true;
      const before = proxy.swallowedBytes;
      await until("an answer is lost", 20_000, () => proxy.swallowedBytes > before);
      const restarted = receivers[round % 2] as TestAgent;
      await restarted.stop();
      proxy.cut();
      proxy.swallowAnswers = false;
      await restarted.start(receiving(ports[round % 2]));
    }
    await until("all arrived", 60_000, () => arrived() >= total && sender.depth === 0);
    for (const { collected } of receivers) expect(collected.values.length).toBeGreaterThan(0);
    expect(sorted(receivers.flatMap(({ collected }) => collected.values))).toEqual(numbers(total));
    expect(await sender.metric("hop_receivers_given_up_total")).toBe(0);
  });

  it("H4: a lost receiver's rest goes to another after the pin timeout, marked and counted; what it never got, at once", async () => {
    const total = 30_000;
    const ports = await freePorts(2);
    const lost = agent("b1");
    const other = agent("b2");
    await lost.start(receiving(ports[0]));
    await other.start(receiving(ports[1]));
    proxy.target(ports[0] ?? 0);
    const sender = agent("a");
    const yaml = sending({ port: proxy.port, total, sink: ", dispatch.pin.timeout: 10s" });
    await sender.start(yaml);
    await until("some arrived", 20_000, () => lost.collected.values.length >= 500);
    proxy.swallowAnswers = true;
    const before = proxy.swallowedBytes;
    await until("an answer is lost", 20_000, () => proxy.swallowedBytes > before);
    await lost.stop();
    proxy.target(ports[1] ?? 0);
    proxy.cut();
    proxy.swallowAnswers = false;
    const free = total - lost.collected.values.length - 64 * 100;
    await until(
      "what it never got is there",
      5_000,
      () => other.collected.values.length >= Math.max(free, 1),
    );
    expect(await other.metric("ingest_possible_duplicates_total")).toBe(0);
    expect(await sender.metric("hop_receivers_given_up_total")).toBe(0);
    await until("the rest is there", 30_000, () => sender.depth === 0);
    const found = [...lost.collected.values, ...other.collected.values];
    expect(sorted([...new Set(found)])).toEqual(numbers(total));
    const marked = await other.metric("ingest_possible_duplicates_total");
    expect(marked).toBeGreaterThan(0);
    expect(await sender.metric("hop_possible_duplicates_sent_total")).toBe(marked);
    expect(await sender.metric("hop_receivers_given_up_total")).toBe(1);
    expect(found.length - total, "only what was marked can be there twice").toBeLessThanOrEqual(marked);
  });

  it("H4: a receiver that comes back in time is asked, and nothing is doubled or marked", async () => {
    const total = 30_000;
    const ports = await freePorts(2);
    const receivers = [agent("b1"), agent("b2")] as const;
    for (const [i, receiver] of receivers.entries()) await receiver.start(receiving(ports[i]));
    proxy.target(ports[0] ?? 0);
    const sender = agent("a");
    await sender.start(sending({ port: proxy.port, total }));
    await until("some arrived", 20_000, () => receivers[0].collected.values.length >= 500);
    proxy.swallowAnswers = true;
    const before = proxy.swallowedBytes;
    await until("an answer is lost", 20_000, () => proxy.swallowedBytes > before);
    await receivers[0].stop();
    proxy.target(ports[1] ?? 0);
    proxy.cut();
    proxy.swallowAnswers = false;
    await until("the other gets the rest", 20_000, () => receivers[1].collected.values.length > 0);
    await receivers[0].start(receiving(ports[0]));
    proxy.target(...ports);
    await until("all arrived", 30_000, () => sender.depth === 0);
    await until("all are through", 10_000, () => receivers.every((receiver) => receiver.depth === 0));
    expect(sorted(receivers.flatMap(({ collected }) => collected.values))).toEqual(numbers(total));
    expect(await receivers[1].metric("ingest_possible_duplicates_total")).toBe(0);
  });
});

describe("one source into two channels", () => {
  it("A3: a sink that is down disturbs the other channel only when its own is full", async () => {
    const total = 20_000;
    const [port = 0] = await freePorts(1);
    const both = agent("a");
    await both.start(`
sources: {s: {type: seq, totalEvents: ${total}, batchSize: 100, channels: [good, stalled]}}
channels: {good: {type: file}, stalled: {type: file, capacity: 5000, transactionCapacity: 1000}}
sinks: {k1: {type: collect, channel: good}, k2: {type: agent, port: ${port}, channel: stalled, batch-size: 100}}
`);
    const channel = (name: string): number =>
      both.status.channels.find((one) => one.name === name)?.depthCount ?? 0;
    await until("the stalled channel is full", 20_000, () => channel("stalled") >= 5000);
    await until("the other got everything up to there", 20_000, () => both.collected.values.length >= 5000);
    await until("the source waits", 10_000, () => both.status.sources[0]?.state === "blocked");
    expect(both.collected.values).toEqual(numbers(5000));
    const receiver = agent("b");
    await receiver.start(receiving(port));
    await until("all arrived", 40_000, () => receiver.collected.values.length >= total);
    await until("at both", 20_000, () => both.collected.values.length >= total);
    expect(receiver.collected.values).toEqual(numbers(total));
    expect(both.collected.values).toEqual(numbers(total));
  });
});
