/** The commands against a running cluster: what they print, in which form, and how they exit. */
import { mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CliOptions, type CliProcess, killAll, runCli, startCli, until } from "./support/cli-process.ts";

let folder = "";
let server: CliProcess;
let bootstrap = "";

beforeAll(async () => {
  folder = await mkdtemp(join(await realpath(tmpdir()), "millrace-cli-"));
  await writeFile(join(folder, "app.log"), "");
  server = startCli(["up", "--data", join(folder, "data"), "--port", "0", "--tail", join(folder, "app.log")]);
  bootstrap = (await server.printed(/--bootstrap-server (127\.0\.0\.1:\d+)/))[1] ?? "";
});

afterAll(async () => {
  await killAll();
  await rm(folder, { recursive: true, force: true });
});

/** Runs a command against the server; it has to succeed. */
async function ok(args: readonly string[], options: CliOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await cli(args, options);
  expect({ code, stderr }, args.join(" ")).toEqual({ code: 0, stderr: "" });
  return stdout;
}

function cli(args: readonly string[], options: CliOptions = {}): ReturnType<typeof runCli> {
  return runCli(args, { ...options, env: { MILLRACE_BOOTSTRAP_SERVER: bootstrap, ...options.env } });
}

const lines = (text: string): string[] => text.split("\n").slice(0, -1);

describe("topic", () => {
  test("create, list, describe, alter, delete", async () => {
    expect(await ok(["topic", "create", "shop", "-p", "2", "-c", "retention.ms=86400000"])).toMatch(
      /^TOPIC {7}shop\nID {10}[\w-]{22}\nPARTITIONS {2}2\n$/,
    );
    expect(await ok(["topic", "list"])).toMatch(
      /^NAME {2}PARTITIONS {2}ID\nlogs {11}3 {2}[\w-]{22}\nshop {11}2 {2}[\w-]{22}\n$/,
    );
    expect(await ok(["topic", "describe", "shop"])).toMatch(
      /^TOPIC {9}shop\nID .*\nCREATED .*\nRETENTION\.MS {2}86400000\n\nPARTITION {2}LEADER .* RECORDS\n {8}0 .* 0\n {8}1 .* 0\n$/,
    );
    expect(
      await ok(["topic", "alter", "shop", "-c", "retention.ms=1000", "-c", "segment.bytes=1048576"]),
    ).toContain("retention.ms   1000");
    const described = JSON.parse(await ok(["topic", "describe", "shop", "-o", "json"])) as Record<
      string,
      unknown
    >;
    expect(described).toMatchObject({
      name: "shop",
      partitionCount: 2,
      config: { "retention.ms": "1000", "segment.bytes": "1048576" },
      partitions: [
        { partition: 0, startOffset: 0, endOffset: 0 },
        { partition: 1, startOffset: 0, endOffset: 0 },
      ],
    });
    expect(await ok(["topic", "list", "-o", "yaml"])).toMatch(
      /^- name: logs\n {2}topicId: .*\n {2}partitionCount: 3\n/,
    );
    expect((await cli(["topic", "delete", "shop"])).stderr).toBe("deleted shop\n");
    expect(await ok(["topic", "list"])).not.toContain("shop");
  });

  test("errors are one line with what to do, exit 1", async () => {
    await ok(["topic", "create", "orders", "-p", "1"]);
    const errors = await Promise.all([
      cli(["topic", "create", "orders"]),
      cli(["topic", "create", "../x"]),
      cli(["topic", "describe", "order"]),
      cli(["topic", "create", "x", "-c", "retention.sm=1"]),
      cli(["produce", "oders"], { input: "x\n" }),
      cli(["consume", "oders"]),
      cli(["consume", "orders", "-p", "7"]),
      cli(["consume", "orders", "-o", "7"]),
    ]);
    for (const { code, stdout, stderr } of errors) {
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(/^millrace: .+\n$/);
    }
    const texts = errors.map(({ stderr }) => stderr);
    expect(texts[0]).toContain("orders");
    expect(texts[1]).toContain('"../x" is no topic name');
    expect(texts[2]).toBe('millrace: no topic "order": did you mean "orders"?\n');
    expect(texts[3]).toContain("retention.ms");
    expect(texts[4]).toContain('did you mean "orders"?');
    expect(texts[5]).toContain('did you mean "orders"?');
    expect(texts[6]).toBe("millrace: topic orders has no partition 7: it has 0 to 0\n");
    expect(await ok(["topic", "create", "orders", "--if-not-exists"])).toContain("orders");
  });
});

describe("produce and consume", () => {
  test("lines as they are, from stdin and a file; acks are counted", async () => {
    await ok(["topic", "create", "bytes", "-p", "1"]);
    const bytes = Buffer.from([0xff, 0x00, 0x0d, 0x0a, 0x0a, 0x41]);
    expect(await ok(["produce", "bytes"], { input: bytes })).toBe("3 records acknowledged in bytes\n");
    await writeFile(join(folder, "input.txt"), "from a file\n");
    expect(await ok(["produce", "bytes", "-f", join(folder, "input.txt"), "-o", "json"])).toBe(
      '{\n  "topic": "bytes",\n  "records": 1,\n  "bytes": 11\n}\n',
    );
    const reader = startCli(["consume", "bytes", "-e", "--bootstrap-server", bootstrap]);
    expect(await reader.ended).toBe(0);
    expect(Buffer.from(reader.stdout, "latin1")).toEqual(
      Buffer.concat([bytes, Buffer.from("\nfrom a file\n")]),
    );
  });

  test("keys, headers, partitions and JSON", async () => {
    await ok(["topic", "create", "keyed", "-p", "3"]);
    const input = "alice:1\nbob:2\nalice:3\n";
    await ok(["produce", "keyed", "--key-separator", ":", "-H", "site=shop"], { input });
    await ok(["produce", "keyed", "-p", "2"], { input: "here\n" });
    const records = lines(await ok(["consume", "keyed", "-e", "--json"])).map(
      (line) =>
        JSON.parse(line) as { key: string | null; value: string; partition: number; headers?: unknown },
    );
    expect(records.filter(({ key }) => key === "alice").map(({ value }) => value)).toEqual(["1", "3"]);
    expect(new Set(records.filter(({ key }) => key === "alice").map(({ partition }) => partition)).size).toBe(
      1,
    );
    expect(records.find(({ key }) => key === "bob")?.headers).toEqual([{ key: "site", value: "shop" }]);
    expect(records.find(({ value }) => value === "here")).toMatchObject({ partition: 2, key: null });
    expect(lines(await ok(["consume", "keyed", "-e", "-p", "2"]))).toContain("here");
  });

  test("from an offset, from a time, so many, and to the end as it was", async () => {
    await ok(["topic", "create", "numbers", "-p", "1"]);
    await ok(["produce", "numbers"], { input: "0\n1\n2\n3\n" });
    const before = new Date().toISOString();
    await ok(["produce", "numbers"], { input: "4\n5\n" });
    expect(lines(await ok(["consume", "numbers", "-o", "2", "-e"]))).toEqual(["2", "3", "4", "5"]);
    expect(lines(await ok(["consume", "numbers", "-o", `@${before}`, "-e"]))).toEqual(["4", "5"]);
    expect(lines(await ok(["consume", "numbers", "-n", "3"]))).toEqual(["0", "1", "2"]);
    expect(await ok(["consume", "numbers", "-o", "end", "-e"])).toBe("");
    expect(await ok(["consume", "numbers", "-o", "6", "-e"])).toBe("");
  });

  test("-o end shows what comes from then on; a closed reader ends it quietly", async () => {
    await ok(["topic", "create", "live", "-p", "1"]);
    await ok(["produce", "live"], { input: "old\n" });
    const reader = startCli(["consume", "live", "-o", "end", "--bootstrap-server", bootstrap]);
    let sent = 0;
    await until("a new record is printed", async () => {
      await ok(["produce", "live"], { input: `new ${sent++}\n` });
      return reader.stdout.includes("new");
    });
    expect(reader.stdout).not.toContain("old");
    reader.child.stdout?.destroy();
    await until("the reader ended", async () => {
      await ok(["produce", "live"], { input: "more\n" });
      return reader.child.exitCode !== null;
    });
    expect(await reader.ended).toBe(0);
  });
});

describe("connector", () => {
  test("create, list, status, delete; what it delivers is in files", async () => {
    await ok(["topic", "create", "sold", "-p", "1"]);
    await ok(["produce", "sold"], { input: "a wheel\na stone\n" });
    const directory = join(folder, "archive");
    await ok([
      "connector",
      "create",
      "archive",
      "-t",
      "sold",
      "--sink",
      "file",
      "-s",
      `directory=${directory}`,
      "-s",
      "rollInterval=0.1",
    ]);
    await until("the file is published", async () => (await publishedNames(directory)).length > 0);
    const [name = ""] = await publishedNames(directory);
    expect(await readFile(join(directory, name), "utf8")).toBe("a wheel\na stone\n");
    expect(await ok(["connector", "list"])).toMatch(
      /^NAME {5}SINK {2}TOPICS\narchive {2}file {2}sold\nlogs {5}file {2}logs\n$/,
    );
    await until("the controller has heard of it", async () => {
      const status = JSON.parse(await ok(["connector", "status", "archive", "-o", "json"])) as {
        tasks: unknown[];
      };
      const [task] = status.tasks;
      return (task as { publishedCount: number }).publishedCount === 2;
    });
    expect(await ok(["connector", "status", "archive"])).toMatch(
      /^TOPIC ID .*\n[\w-]{22} +0 +connector-\S+ +\d+ +running +2 +2 +-\n$/,
    );
    expect((await cli(["connector", "status", "archiv"])).stderr).toBe(
      'millrace: no connector "archiv": did you mean "archive"?\n',
    );
    expect((await cli(["connector", "delete", "archive"])).stderr).toBe("deleted archive\n");
    expect(await ok(["connector", "list"])).not.toContain("archive");
  });

  test("a wrong sink is refused", async () => {
    const noTopic = await cli(["connector", "create", "x", "--sink", "file"]);
    expect(noTopic).toMatchObject({
      code: 1,
      stderr: "millrace: a connector delivers topics: name one with -t TOPIC\n",
    });
    const noSink = await cli(["connector", "create", "x", "-t", "logs"]);
    expect(noSink.stderr).toContain("name the sink with --sink TYPE");
  });
});

async function publishedNames(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(() => [])).filter((name) => !name.startsWith("."));
}

describe("the rest", () => {
  test("cluster info shows every node", async () => {
    const text = await ok(["cluster", "info"]);
    expect(text).toMatch(/^CLUSTER {5}[\w-]{22}\nCONTROLLER {2}metadata-1\n/);
    for (const role of ["metadata", "storage", "agent", "connector"])
      expect(text).toMatch(new RegExp(`\\s${role}\\s+alive\\s`));
  });

  test("bench produce and consume print the columns of the perf tests", async () => {
    await ok(["topic", "create", "load", "-p", "1"]);
    expect(await ok(["bench", "produce", "load", "--records", "2000", "--size", "100"])).toMatch(
      /^2000 records sent, [\d.]+ records\/sec \([\d.]+ MB\/sec\), [\d.]+ ms avg latency, [\d.]+ ms max latency, \d+ ms 50th, \d+ ms 95th, \d+ ms 99th, \d+ ms 99\.9th\.\n$/,
    );
    expect(await ok(["bench", "consume", "load", "--records", "2000"])).toMatch(
      /^START\.TIME +END\.TIME +DATA\.CONSUMED\.IN\.MB +MB\.SEC +DATA\.CONSUMED\.IN\.NMSG +NMSG\.SEC\n.* 2000 +[\d.]+\n$/,
    );
  });

  test("serve and agent validate, graph and run answer for their files", async () => {
    const pipeline = join(folder, "pipeline.yaml");
    const source = `{ type: taildir, paths: ["${join(folder, "input.log")}"], channels: [c] }`;
    await writeFile(join(folder, "input.log"), "one\ntwo\n");
    const sink = `{ type: file_roll, directory: "${join(folder, "rolled")}", channel: c }`;
    await writeFile(
      pipeline,
      `sources: { r: ${source} }\nchannels: { c: { type: file } }\nsinks: { k: ${sink} }\n`,
    );
    expect(await ok(["agent", "validate", pipeline])).toBe(
      `${pipeline}: agent agent is valid: 1 source, 1 channel, 1 sink\n`,
    );
    expect(await ok(["agent", "graph", pipeline])).toMatch(/^flowchart LR\n/);
    const run = [
      "agent",
      "run",
      pipeline,
      "--once",
      "--log-level",
      "error",
      "--data-directory",
      join(folder, "agent"),
    ];
    const { code, stderr } = await cli([...run, "--port", "0", "--http-port", "0"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "2 records delivered\n" });
    await writeFile(
      pipeline,
      `sources: { r: ${source.replace("paths", "pats")} }\nchannels: { c: { type: fil } }\n`,
    );
    const refused = await cli(["agent", "validate", pipeline]);
    expect(refused).toMatchObject({ code: 1, stderr: "" });
    expect(lines(refused.stdout).join("\n")).toMatch(/:1: r\.pats: unknown key; did you mean "paths"\?/);
    expect(lines(refused.stdout).join("\n")).toMatch(/:2: .*fil.*file/);
    expect(await ok(["serve", "storage", "--print-config", "--port", "1234"])).toContain(
      "port: 1234  # flag --port",
    );
    expect((await cli(["serve", "storage", "--prt", "1"])).stderr).toMatch(
      /^millrace: .*--prt.*did you mean --port\?\n$/,
    );
  });

  test("usage errors exit 2 with one line; help and version exit 0", async () => {
    const wrong = await runCli(["tpic", "list"]);
    expect(wrong).toEqual({
      code: 2,
      stdout: "",
      stderr: "millrace: unknown command 'tpic' (Did you mean topic?); --help shows how\n",
    });
    expect((await runCli(["topic"])).code).toBe(2);
    expect((await runCli(["--help"])).code).toBe(0);
    expect(await ok(["--version"])).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(JSON.parse(await ok(["version", "-o", "json"]))).toMatchObject({ node: process.versions.node });
  });

  test("the server drains at the end", async () => {
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    expect(server.stderr).toBe("");
  });
});
