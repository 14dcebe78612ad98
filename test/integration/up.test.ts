/**
 * `millrace up` as its users meet it: a process of its own, real files, killed and started again. What it promises is
 * read from the published files and compared byte for byte with what was written.
 */
import {
  appendFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Prng } from "@millrace/base";
import { Client } from "@millrace/client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CliProcess, isAlive, killAll, runCli, startCli, until } from "./support/cli-process.ts";

let folder = "";
const data = (): string => join(folder, "data");
const log = (): string => join(folder, "app.log");

beforeEach(async () => {
  folder = await mkdtemp(join(await realpath(tmpdir()), "millrace-up-"));
});

afterEach(async () => {
  await killAll();
  await rm(folder, { recursive: true, force: true });
});

const up = (...args: readonly string[]): readonly string[] => [
  "up",
  "--data",
  data(),
  "--port",
  "0",
  ...args,
];

/** Bytes of all published files of a partition's stream, in order of their first offsets. */
async function published(topic = "logs"): Promise<Buffer> {
  const out = join(data(), "out", topic);
  const names = (await readdir(out).catch(() => [])).filter((name) => !name.startsWith(".")).sort();
  return Buffer.concat(await Promise.all(names.map((name) => readFile(join(out, name)))));
}

/** Lines no tool likes: invalid UTF-8, NUL, CR, empty, long. Each is unique by its number. */
function uglyLines(count: number, seed: number, from = 0): Buffer {
  const random = new Prng(seed);
  const lines: Buffer[] = [];
  for (let i = from; i < from + count; i++) {
    const length = random.chance(0.001) ? 100_000 : random.nextInt(0, 120);
    const noise = Buffer.alloc(length);
    for (let at = 0; at < length; at++) noise[at] = random.nextInt(0, 255);
    lines.push(
      Buffer.from(`${i} `),
      Buffer.from(noise.map((byte) => (byte === 10 ? 13 : byte))),
      Buffer.from("\n"),
    );
  }
  return Buffer.concat(lines);
}

const equation =
  /([\d,]+) in = ([\d,]+) published \+ ([\d,]+) in flight · lost (\d+) · doubled (\d+) · channel \d+ % · [\d,]+ files? · p99 (?:-|\d+ m?s)/g;

/** The last line: figures of the last equation printed. */
function lastEquation(stdout: string): {
  in: number;
  published: number;
  inFlight: number;
  lost: number;
  doubled: number;
} {
  const found = [...stdout.matchAll(equation)].at(-1);
  if (found === undefined) throw new Error(`no equation in:\n${stdout}`);
  const [all, done, inFlight, lost, doubled] = found.slice(1).map((text) => Number(text.replaceAll(",", "")));
  return { in: all!, published: done!, inFlight: inFlight!, lost: lost!, doubled: doubled! };
}

const ready = /ready in [\d.]+ s/;
/** Port of the metadata service, from the line that tells how to consume. */
async function portOf(process: CliProcess): Promise<number> {
  return Number((await process.printed(/--bootstrap-server 127\.0\.0\.1:(\d+)/))[1]);
}

/** Records in the topic, as a client sees it. */
async function topicEnd(client: Client): Promise<number> {
  const { partitions } = await client.metadata.byName("logs");
  const ends = await Promise.all(
    partitions.map(({ partition }) => client.admin.listOffsets("logs", partition, "end")),
  );
  return ends.reduce((sum, { offset }) => sum + offset, 0);
}

describe("up --once", () => {
  test("delivers a file byte for byte, the last line without newline too, and tells the totals", async () => {
    const bytes = uglyLines(5_000, 1);
    await writeFile(log(), Buffer.concat([bytes, Buffer.from("without newline")]));
    const { code, stdout, stderr } = await runCli(up("--tail", log(), "--once"));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect((await published()).equals(Buffer.concat([bytes, Buffer.from("without newline\n")]))).toBe(true);
    expect(lastEquation(stdout)).toEqual({ in: 5_001, published: 5_001, inFlight: 0, lost: 0, doubled: 0 });
    expect(stdout).toMatch(
      /^millrace \d+\.\d+\.\d+ · node 24\.\d+\.\d+ · data .* · ready in [\d.]+ s · fsync before ack: on\n/,
    );
    expect(stdout).toContain("  1 file ─▶ agent ─▶ channel ─▶ topic logs (3 partitions) ─▶ connector ─▶ ");
    expect(stdout).toMatch(/\ndone: 5,001 records in .*\/out\/logs\n$/);
  });

  test("goes on where it was: nothing twice, and only what is new", async () => {
    const bytes = uglyLines(3_000, 2);
    await writeFile(log(), bytes.subarray(0, 40_000));
    const runs: { code: unknown; stdout: string }[] = [];
    for (const end of [80_000, 80_000, bytes.length]) {
      runs.push(await runCli(up("--tail", log(), "--once")));
      await writeFile(log(), bytes.subarray((await stat(log())).size, end), { flag: "a" });
    }
    runs.push(await runCli(up("--tail", log(), "--once")));
    expect(runs.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    const lines = (await published()).toString("latin1").split("\n");
    // A cut in the middle of a line makes two records of it: the bytes are the same, without their newlines.
    expect(lines.join("")).toBe(bytes.toString("latin1").replaceAll("\n", ""));
    const { lost, doubled, inFlight } = lastEquation(runs.at(-1)!.stdout);
    expect({ lost, doubled, inFlight }).toEqual({ lost: 0, doubled: 0, inFlight: 0 });
  });

  test("several files and a glob; each file keeps its order", async () => {
    for (const name of ["a.log", "b.log", "c.txt"])
      await writeFile(join(folder, name), `${name} 1\n${name} 2\n${name} 3\n`);
    const { code } = await runCli(
      up("--tail", join(folder, "*.log"), "--tail", join(folder, "c.txt"), "--once"),
    );
    expect(code).toBe(0);
    const lines = (await published()).toString().split("\n").slice(0, -1);
    for (const name of ["a.log", "b.log", "c.txt"])
      expect(lines.filter((line) => line.startsWith(name))).toEqual([1, 2, 3].map((i) => `${name} ${i}`));
    expect(lines).toHaveLength(9);
  });

  test("only complete files are visible, the directory is private, and it is never read whatever the glob", async () => {
    await writeFile(log(), "one\n");
    expect((await runCli(up("--tail", log(), "--once"))).code).toBe(0);
    expect((await stat(data())).mode & 0o777).toBe(0o700);
    const names = await readdir(join(data(), "out", "logs"));
    expect(names.filter((name) => !/^(\.millrace|logs-\d-\d{20}\.log)$/.test(name))).toEqual([]);
    const again = await runCli(up("--tail", join(folder, "**", "*"), "--once"));
    expect(again.code).toBe(0);
    expect(lastEquation(again.stdout)).toMatchObject({ in: 1, published: 1 });
    expect(again.stdout).toMatch(/skipped: \d+ Millrace's own data/);
  });

  test("Millrace's own log is a source when no file is named, named as such", async () => {
    const { code, stdout } = await runCli(up("--once"));
    expect(code).toBe(0);
    expect(stdout).toMatch(/ files? and Millrace's own log ─▶ agent/);
    expect((await published()).toString("latin1")).toContain('"event":"storage_started"');
  });

  test("a file that is not there is an error, not an empty delivery", async () => {
    const { code, stderr } = await runCli(up("--tail", log(), "--once"));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^millrace: --tail .*app\.log: there is no such file.*\n$/);
  });
});

describe("up, killed and started again", () => {
  test("kill -9 with records in flight, several times: each line once, byte for byte, in order", async () => {
    const rounds = 4;
    const perRound = 15_000;
    const all: Buffer[] = [];
    const inFlightAtKill: number[] = [];
    await writeFile(log(), "");
    for (let round = 0; round < rounds; round++) {
      const bytes = uglyLines(perRound, 10 + round, round * perRound);
      all.push(bytes);
      const process = startCli(up("--tail", log()));
      const client = await Client.open({ bootstrapServers: [`127.0.0.1:${await portOf(process)}`] });
      const before = await topicEnd(client);
      await appendFile(log(), bytes);
      await until("records reach the topic", async () => (await topicEnd(client)) > before);
      process.kill("SIGKILL");
      await process.ended;
      client.close();
      const lines = (await published()).filter((byte) => byte === 10).length;
      inFlightAtKill.push((round + 1) * perRound - lines);
    }
    // Otherwise nothing was proven.
    expect(Math.min(...inFlightAtKill)).toBeGreaterThan(0);
    const { code, stdout } = await runCli(up("--tail", log(), "--once"));
    expect(code).toBe(0);
    const total = rounds * perRound;
    expect(lastEquation(stdout)).toEqual({ in: total, published: total, inFlight: 0, lost: 0, doubled: 0 });
    expect((await published()).equals(Buffer.concat(all))).toBe(true);
  });

  test.each([
    "SIGINT",
    "SIGTERM",
    "SIGHUP",
  ] as const)("%s drains, says what it did and exits 0", async (signal) => {
    const bytes = uglyLines(2_000, 3);
    await writeFile(log(), bytes);
    const process = startCli(up("--tail", log()));
    const client = await Client.open({ bootstrapServers: [`127.0.0.1:${await portOf(process)}`] });
    await until("records reach the topic", async () => (await topicEnd(client)) > 0);
    client.close();
    process.kill(signal);
    expect(await process.ended).toBe(0);
    const {
      in: read,
      published: done,
      inFlight,
      lost,
      doubled,
    } = lastEquation(Buffer.from(process.stdout, "latin1").toString());
    expect({ lost, doubled, sum: done + inFlight }).toEqual({ lost: 0, doubled: 0, sum: read });
    expect(process.stdout).toMatch(/\nstopp(ed|ing)/);
    expect((await runCli(up("--tail", log(), "--once"))).code).toBe(0);
    expect((await published()).equals(bytes)).toBe(true);
  });

  test("records that others produce into the topic count as in, and are published", async () => {
    await writeFile(log(), "one\ntwo\n");
    const process = startCli(up("--tail", log()));
    const port = await portOf(process);
    const produced = await runCli(["produce", "logs", "--bootstrap-server", `127.0.0.1:${port}`], {
      input: "three\nfour\nfive",
    });
    expect(produced).toEqual({ code: 0, stdout: "3 records acknowledged in logs\n", stderr: "" });
    process.kill("SIGTERM");
    expect(await process.ended).toBe(0);
    const { code, stdout } = await runCli(up("--tail", log(), "--once"));
    expect(code).toBe(0);
    expect(lastEquation(stdout)).toEqual({ in: 5, published: 5, inFlight: 0, lost: 0, doubled: 0 });
    expect((await published()).toString().split("\n").sort()).toEqual([
      "",
      "five",
      "four",
      "one",
      "three",
      "two",
    ]);
  });

  test("L3: its topic deleted and made anew: no new record is skipped, and the account begins again", async () => {
    await writeFile(log(), "one\ntwo\nthree\n");
    expect((await runCli(up("--tail", log(), "--once"))).code).toBe(0);
    const process = startCli(up("--tail", log()));
    const bootstrap = ["--bootstrap-server", `127.0.0.1:${await portOf(process)}`];
    expect((await runCli(["topic", "delete", "logs", ...bootstrap])).code).toBe(0);
    expect((await runCli(["topic", "create", "logs", "-p", "2", ...bootstrap])).code).toBe(0);
    await appendFile(log(), "four\nfive\n");
    await until("the new records are in the new topic", async () => {
      const { stdout } = await runCli(["consume", "logs", "-e", ...bootstrap]);
      return stdout === "four\nfive\n";
    });
    process.kill("SIGTERM");
    expect(await process.ended).toBe(0);
    const { code, stdout } = await runCli(up("--tail", log(), "--once"));
    expect(code).toBe(0);
    expect(lastEquation(stdout)).toEqual({ in: 2, published: 2, inFlight: 0, lost: 0, doubled: 0 });
    const lines = (await published()).toString().split("\n").slice(0, -1);
    expect(lines.sort()).toEqual(["five", "four", "one", "three", "two"]);
  });

  test("L1: an older copy of its agent's directory is refused, and nothing is delivered twice", async () => {
    await writeFile(log(), "one\n");
    expect((await runCli(up("--tail", log(), "--once"))).code).toBe(0);
    await cp(join(data(), "agent"), join(folder, "copy"), { recursive: true });
    await appendFile(log(), "two\n");
    expect((await runCli(up("--tail", log(), "--once"))).code).toBe(0);
    await rm(join(data(), "agent"), { recursive: true });
    await cp(join(folder, "copy"), join(data(), "agent"), { recursive: true });
    const { code, stderr } = await runCli(up("--tail", log(), "--once"));
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^millrace: .* is a copy or an older state: .*millrace agent identity --new DIR.*\n$/,
    );
    expect((await published()).toString()).toBe("one\ntwo\n");
    // The way out that the message names: another agent, which reads again what its old positions lack.
    expect((await runCli(["agent", "identity", "--new", join(data(), "agent")])).code).toBe(0);
    await appendFile(log(), "three\n");
    const again = await runCli(up("--tail", log(), "--once"));
    expect(again.code).toBe(0);
    expect(lastEquation(again.stdout)).toMatchObject({ inFlight: 0, lost: 0, doubled: 0 });
    expect((await published()).toString()).toBe("one\ntwo\ntwo\nthree\n");
  });

  test("a reader of its output that goes away does not stop it", async () => {
    await writeFile(log(), "one\n");
    const process = startCli(up("--tail", log()));
    const port = await portOf(process);
    process.child.stdout?.destroy();
    const client = await Client.open({ bootstrapServers: [`127.0.0.1:${port}`] });
    await appendFile(log(), "two\nthree\n");
    await until("the records are in the topic", async () => (await topicEnd(client)) === 3);
    client.close();
    process.kill("SIGTERM");
    expect(await process.ended).toBe(0);
  });

  test.each([
    ["npm start", "SIGTERM", "npm", ["start", "--"]],
    ["npm start", "SIGKILL", "npm", ["start", "--"]],
    ["npx millrace up", "SIGTERM", "npx", ["millrace", "up"]],
  ] as const)("%s ended by %s leaves no orphan", async (_name, signal, command, args) => {
    await writeFile(log(), "one\n");
    const npm = new CliProcess(command, [...args, "--data", data(), "--port", "0", "--tail", log()], {
      isGroup: true,
    });
    const pid = Number((await npm.printed(/kill -9 (\d+), then np/))[1]);
    expect(isAlive(pid)).toBe(true);
    npm.kill(signal);
    await npm.ended;
    await until("the process is gone", () => !isAlive(pid));
  });
});

/** Bytes of all files below the folders. */
async function bytesBelow(...folders: readonly string[]): Promise<number> {
  let bytes = 0;
  for (const each of folders) {
    for (const entry of await readdir(each, { recursive: true, withFileTypes: true })) {
      if (entry.isFile())
        bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))).size;
    }
  }
  return bytes;
}

test("S2: with its connector stopped the sources wait, topic data and channel stay below the size, nothing is lost", async () => {
  const limit = 128 * 1024 * 1024;
  const size = ["--size", "128MiB"];
  await writeFile(log(), "");
  expect((await runCli(up("--tail", log(), "--once", ...size))).code).toBe(0);
  // A file where the output folder was: the connector cannot open its sink.
  const out = join(data(), "out", "logs");
  await rename(out, join(folder, "kept"));
  await writeFile(out, "");
  const total = 180_000;
  const line = (i: number): string => `${String(i).padStart(8, "0")} ${"x".repeat(990)}\n`;
  for (let from = 0; from < total; from += 10_000)
    await appendFile(log(), Array.from({ length: 10_000 }, (_, i) => line(from + i)).join(""));
  const process = startCli(up("--tail", log(), ...size));
  await process.printed(/sources wait: 128 MiB of topic data and channel in use/, 150_000);
  const held = lastEquation(Buffer.from(process.stdout, "latin1").toString());
  expect(held.in).toBeLessThan(total);
  expect(held).toMatchObject({ published: 0, lost: 0, doubled: 0 });
  expect(process.stderr).toContain("waiting: ");
  const bytes = await bytesBelow(join(data(), "storage", "topics"), join(data(), "agent", "channels"));
  expect(bytes).toBeLessThan(limit);
  // More than would be kept of it if it were published.
  expect(bytes).toBeGreaterThan(limit / 2);
  process.kill("SIGKILL");
  await process.ended;
  await rm(out);
  await rename(join(folder, "kept"), out);
  const { code, stdout } = await runCli(up("--tail", log(), "--once", ...size));
  expect(code).toBe(0);
  expect(lastEquation(stdout)).toEqual({ in: total, published: total, inFlight: 0, lost: 0, doubled: 0 });
  expect((await published()).equals(await readFile(log()))).toBe(true);
}, 300_000);

describe("up refuses", () => {
  test("a directory that another one runs on; the first goes on", async () => {
    await writeFile(log(), "one\n");
    const first = startCli(up("--tail", log()));
    await first.printed(ready);
    const { code, stdout, stderr } = await runCli(up("--tail", log()));
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(
      /^millrace: .*data is in use by process \d+ .*: stop that process, or choose another directory with --data\n$/,
    );
    first.kill("SIGTERM");
    expect(await first.ended).toBe(0);
  });

  test.each([
    ["--port", ["--http-port", "0"]],
    ["--http-port", ["--port", "0"]],
  ] as const)("a port in use, naming owner and %s", async (flag, others) => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    try {
      const { code, stderr } = await runCli([
        "up",
        "--data",
        data(),
        "--tail",
        log(),
        flag,
        String(port),
        ...others,
      ]);
      expect(code).toBe(1);
      expect(stderr).toMatch(
        new RegExp(
          `^millrace: port ${port} on 127\\.0\\.0\\.1 is in use by process ${process.pid} .*${flag} .*\\n$`,
        ),
      );
    } finally {
      server.close();
    }
  });

  test("a directory that holds something else", async () => {
    await mkdir(data());
    await writeFile(join(data(), "precious.txt"), "mine");
    const { code, stderr } = await runCli(up("--tail", log()));
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^millrace: --data .*holds other files and is no Millrace directory; choose another directory\n$/,
    );
    expect(await readdir(data())).toEqual(["precious.txt"]);
  });
});

describe("without a server", () => {
  test.each([
    ["topic list", ["topic", "list"]],
    ["produce", ["produce", "logs"]],
    ["consume", ["consume", "logs"]],
    ["cluster info", ["cluster", "info"]],
  ])("%s is one line, exit 1, within two seconds", async (_name, args) => {
    const startMs = performance.now();
    const { code, stdout, stderr } = await runCli(args, {
      env: { MILLRACE_BOOTSTRAP_SERVER: "127.0.0.1:1" },
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^millrace: no Millrace cluster answers at 127\.0\.0\.1:1: start one .*\n$/);
    // Two seconds are the promise on an idle machine; this one may be busy with other tests.
    expect(performance.now() - startMs).toBeLessThan(6_000);
  });
});
