/** The hop through kill -9 of real processes, and back-pressure through a chain of three (rules H1-H3, A1, J5). */
import { readdir, readFile, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { Prng } from "@millrace/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeDataFolder } from "../support/environment.ts";
import { freePorts, until } from "../support/processes.ts";
import { AgentProcess } from "./agent-process.ts";
import { CuttingProxy } from "./cutting-proxy.ts";

let folder: string;
let proxy: CuttingProxy;
const agents: AgentProcess[] = [];

beforeEach(async () => {
  folder = await makeDataFolder("hop-crash");
  proxy = await CuttingProxy.start();
});

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.kill9()));
  await proxy.close();
  await rm(folder, { recursive: true, force: true });
});

function agent(name: string): AgentProcess {
  const made = new AgentProcess(name, folder);
  agents.push(made);
  return made;
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));
const sorted = (values: readonly string[]): string[] => [...values].sort((a, b) => Number(a) - Number(b));
const outputOf = (name: string): string => join(folder, `${name}-out`);

/** Lines of the published files of a file sink, in order of their offsets. */
async function published(name: string): Promise<string[]> {
  const directory = outputOf(name);
  const files = (await readdir(directory).catch(() => [])).filter((file) => !file.startsWith(".")).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(directory, file), "latin1")));
  return texts.flatMap((text) => text.split("\n").slice(0, -1));
}

const fileSink = (name: string): string =>
  `{type: file, directory: ${outputOf(name)}, rollInterval: 0.3, channel: c}`;

describe("a receiver killed between its write-ahead log and the answer", () => {
  it("H2: its records drained and its journal recycled, then the retry: each record once", async () => {
    const total = 40_000;
    const [port = 0] = await freePorts(1);
    const marker = "sent-by-a-over-the-hop";
    const receiver = agent("b");
    // the second pipeline turns the small journal files over
    const receiving = `
sources:
  s: {type: ingest, port: ${port}, channels: [c]}
  other: {type: seq, totalEvents: 200000, batchSize: 100, channels: [d]}
channels: {c: {type: file}, d: {type: file}}
sinks:
  k: ${fileSink("b")}
  n: {type: "null", channel: d}
`;
    const quiet = receiving.replace("totalEvents: 200000", "totalEvents: 0");
    await receiver.start(quiet, { journalFileBytes: 256 * 1024 });
    proxy.target(port);
    const sender = agent("a");
    await sender.start(`
sources:
  s:
    {type: seq, totalEvents: ${total}, batchSize: 10, channels: [c], interceptors: [{type: static, key: from, value: ${marker}}]}
channels: {c: {type: file}}
sinks: {k: {type: agent, port: ${proxy.port}, channel: c, batch-size: 10, connect-timeout: 1s}}
`);
    // while most is still to be sent: the published files come too late to tell
    await until(
      "some are answered",
      20_000,
      async () => ((await sender.report()).status.sinks[0]?.deliveredCount ?? 0) > 100,
    );
    proxy.swallowAnswers = true;
    const before = proxy.swallowedBytes;
    await until("answers are lost", 20_000, () => proxy.swallowedBytes > before + 500);
    const putCount = (await receiver.report()).status.channels[0]?.putCount ?? 0;
    await receiver.kill9();
    proxy.refuses = true;
    proxy.cut();
    proxy.swallowAnswers = false;
    const unanswered = putCount - ((await sender.report()).status.sinks[0]?.deliveredCount ?? 0);
    expect(unanswered, "records in the receiver's log without an answer").toBeGreaterThan(0);
    expect(await journalHolds(receiver.folder, marker), "the journal holds them").toBe(true);

    await receiver.start(receiving, { journalFileBytes: 256 * 1024 });
    await until("its records are drained and its journal is another", 60_000, async () => {
      return (await receiver.depth()) === 0 && !(await journalHolds(receiver.folder, marker));
    });
    expect((await published("b")).length).toBeLessThan(total);
    proxy.refuses = false;
    await until("all arrived", 60_000, async () => (await published("b")).length >= total);
    await until("nothing more is sent", 20_000, async () => (await sender.depth()) === 0);
    expect(await published("b")).toEqual(numbers(total));
  });
});

/** True when a journal file of the data directory has `text` in a record. */
async function journalHolds(directory: string, text: string): Promise<boolean> {
  const journal = join(directory, "journal");
  for (const name of await readdir(journal)) {
    const bytes = await readFile(join(journal, name)).catch(() => Buffer.alloc(0));
    if (bytes.includes(text)) return true;
  }
  return false;
}

describe("one sender, two receivers behind one name", () => {
  it("H1-H3, A1: each process killed with -9 in turn, several rounds: each record once", async () => {
    const total = 150_000;
    const prng = new Prng(3);
    const ports = await freePorts(2);
    const yamls = new Map<AgentProcess, string>();
    const receivers = ports.map((port, i) => {
      const receiver = agent(`b${i}`);
      yamls.set(
        receiver,
        `sources: {s: {type: ingest, port: ${port}, channels: [c]}}\nchannels: {c: {type: file}}\nsinks: {k: ${fileSink(receiver.name)}}`,
      );
      return receiver;
    });
    const sender = agent("a");
    yamls.set(
      sender,
      `
sources: {s: {type: seq, totalEvents: ${total}, batchSize: 50, channels: [c]}}
channels: {c: {type: file, capacity: 20000}}
sinks: {k: {type: agent, port: ${proxy.port}, channel: c, batch-size: 50, connect-timeout: 1s}}
`,
    );
    proxy.target(...ports);
    for (const [one, yaml] of yamls) await one.start(yaml);
    const count = async (): Promise<number> =>
      (await Promise.all(receivers.map(({ name }) => published(name)))).flat().length;
    let inFlight = 0;
    for (let round = 0; round < 6; round++) {
      const victim = [...receivers, sender][round % 3] as AgentProcess;
      const goal = (await count()) + prng.nextInt(1000, 6000);
      await until(
        `${goal} are published`,
        60_000,
        async () => (await count()) >= Math.min(goal, total - 20_000),
      );
      const { status } = await sender.report();
      inFlight += status.channels[0]?.takenCount ?? 0;
      await victim.kill9();
      if (victim === sender) proxy.cut();
      await victim.start(yamls.get(victim) ?? "");
    }
    expect(inFlight, "records under way at the kills").toBeGreaterThan(100);
    await until("all are published", 120_000, async () => (await count()) >= total);
    await until("nothing more is sent", 20_000, async () => (await sender.depth()) === 0);
    const found = await Promise.all(receivers.map(({ name }) => published(name)));
    for (const lines of found) expect(lines.length).toBeGreaterThan(0);
    expect(sorted(found.flat())).toEqual(numbers(total));
    expect(await sender.metric("hop_receivers_given_up_total")).toBe(0);
  });
});

/** Bytes of the records in the chain's channels, each. */
const channelBytes = 4 * 1024 * 1024;
const bodyBytes = 1000;

describe("a chain of three agents", () => {
  it("back-pressure: the last stopped, channels fill hop by hop, the first sources are refused, memory is bounded; all arrive once", async () => {
    const [httpPort = 0, netcatPort = 0, portB = 0, portC = 0] = await freePorts(4);
    const channels = `channels: {c: {type: file, byteCapacity: ${channelBytes}, keep-alive: 1}}`;
    const hop = (port: number): string =>
      `sinks: {k: {type: agent, port: ${port}, channel: c, batch-size: 100}}`;
    const ingest = (port: number): string => `sources: {s: {type: ingest, port: ${port}, channels: [c]}}`;
    const [first, second, third] = [agent("a"), agent("b"), agent("c")];
    await second.start(`${ingest(portB)}\n${channels}\n${hop(portC)}`);
    await first.start(`
sources:
  web: {type: http, port: ${httpPort}, channels: [c]}
  lines: {type: netcat, port: ${netcatPort}, channels: [c]}
${channels}
${hop(portB)}
`);
    const before = (await first.report()).memoryBytes;
    const web = new Poster(httpPort);
    await until("the first source answers 503", 60_000, async () => (await web.post()) === 503);
    expect(web.retryAfter).toBeGreaterThan(0);
    const depths = await Promise.all(
      [first, second].map(async (one) => (await one.report()).status.channels[0]?.depthBytes ?? 0),
    );
    for (const depth of depths) expect(depth).toBeGreaterThan(channelBytes / 2);

    const socket = connect(netcatPort, "127.0.0.1");
    const lines = new Lines(socket);
    await lines.writeUntilStuck();
    // single lines fit where a hundred records do not; then the connection is not read any more
    expect(lines.okCount).toBeLessThan(200);
    expect(lines.writtenCount).toBeGreaterThan(lines.okCount + 100);
    for (let i = 0; i < 5; i++) expect(await web.post()).toBe(503);
    for (const one of [first, second]) {
      const { memoryBytes, status } = await one.report();
      expect(status.channels[0]?.depthBytes).toBeLessThan(channelBytes + 1024 * 1024);
      expect(memoryBytes - before, `memory of ${one.name}`).toBeLessThan(16 * channelBytes);
    }

    await third.start(`${ingest(portC)}\n${channels}\nsinks: {k: ${fileSink("c")}}`);
    await until("the first takes again", 60_000, async () => (await web.post()) === 200);
    await until("every line is answered", 60_000, () => lines.okCount === lines.writtenCount);
    socket.destroy();
    const expected = [...web.accepted, ...lines.written].sort();
    await until("all is published", 60_000, async () => (await published("c")).length >= expected.length);
    for (const one of [first, second, third]) expect(await one.depth()).toBe(0);
    expect((await published("c")).sort()).toEqual(expected);
  });
});

/** Posts batches of records; what is answered with 200 is accepted, anything else was not taken. */
class Poster {
  readonly #port: number;
  readonly accepted: string[] = [];
  retryAfter = 0;
  #count = 0;

  constructor(port: number) {
    this.#port = port;
  }

  async post(): Promise<number> {
    const bodies = Array.from({ length: 100 }, () => `web-${this.#count++}-`.padEnd(bodyBytes, "w"));
    const response = await fetch(`http://127.0.0.1:${this.#port}`, {
      method: "POST",
      body: JSON.stringify(bodies.map((body) => ({ body }))),
    });
    await response.text();
    if (response.status === 200) this.accepted.push(...bodies);
    this.retryAfter = Number(response.headers.get("retry-after") ?? 0);
    return response.status;
  }
}

/** Writes lines into a netcat source until it reads no more. */
class Lines {
  readonly #socket: Socket;
  readonly written: string[] = [];
  okCount = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      this.okCount += chunk.toString().split("OK\n").length - 1;
    });
  }

  get writtenCount(): number {
    return this.written.length;
  }

  /** Writes until the socket has taken nothing for a second although something waits. */
  async writeUntilStuck(): Promise<void> {
    let isStuck = false;
    while (!isStuck) {
      const line = `line-${this.written.length}-`.padEnd(bodyBytes, "l");
      this.written.push(line);
      if (this.#socket.write(`${line}\n`)) continue;
      isStuck = await Promise.race([
        new Promise<boolean>((resolve) => this.#socket.once("drain", () => resolve(false))),
        new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 1000)),
      ]);
    }
  }
}
