/**
 * Bad input to real processes: what users mistype, and what strangers send to every port. A mistake is a sentence that
 * says what to do; an attack is refused while the process stays ready, its memory bounded, and nothing that was
 * acknowledged meanwhile is lost or doubled.
 */
import { readFileSync } from "node:fs";
import { chmod, chown, cp, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Prng } from "@millrace/base";
import { Client } from "@millrace/client";
import { CreateTopicRequest } from "@millrace/proto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeDataFolder } from "../support/environment.ts";
import { freePorts, MillraceProcess, millrace, until } from "../support/processes.ts";
import { countPublished, judge } from "../support/published.ts";
import { RotatingLog } from "../support/rotating-log.ts";
import { Deployment } from "./deployment.ts";
import { callRaw, frameOf, garbage, Held, hugeFrame, postHuge, sendBytes, tlsHello } from "./hostile.ts";

let folder = "";

beforeEach(async () => {
  folder = await makeDataFolder("bad-input");
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const anyPorts = ["--port", "0", "--http-port", "0"];

/** Runs a command that must fail with exit code 1; its one complaint, without a stack. */
async function complaint(args: readonly string[], through: readonly string[] = []): Promise<string> {
  const { code, stdout, stderr } = await millrace(args, { cwd: folder, through });
  expect(stderr, args.join(" ")).not.toMatch(/unexpected failure|^\s+at /m);
  expect(code, `${args.join(" ")}\n${stdout}${stderr}`).toBe(1);
  return stderr;
}

const badPipeline = `agent: {name: a}
sources:
  s: {type: tialdir, channels: c}
  t: {type: netcat, prot: 1, channels: c}
channels: {c: {type: file}}
sinks: {k: {type: "null", channel: c}}
`;

describe("a mistake is named, with its place and what to do", () => {
  it("unknown component, unknown and missing key: file, line, the likely meant one", async () => {
    await writeFile(join(folder, "bad.yaml"), badPipeline);
    const wanted = [
      'bad.yaml:3: s.type: there is no source type "tialdir"; did you mean "taildir"?',
      "bad.yaml:4: t.port: is required",
      'bad.yaml:4: t.prot: unknown key; did you mean "port"?',
    ];
    const validated = millrace(["agent", "validate", "bad.yaml"], { cwd: folder });
    const run = await complaint(["agent", "run", "bad.yaml", "--data-directory", "d"]);
    const { code, stdout, stderr } = await validated;
    expect(code).toBe(1);
    for (const line of wanted) {
      expect(stdout + stderr).toContain(line);
      expect(run).toContain(line);
    }
    expect(await readdir(folder), "nothing was started").toEqual(["bad.yaml"]);
  });

  it("a bad port, an unknown setting", async () => {
    const [port, setting] = await Promise.all([
      complaint(["serve", "storage", "--port", "70000"]),
      complaint(["serve", "storage", "--prot", "1"]),
    ]);
    expect(port).toContain("flag --port: port is not a port: use 0 to 65535");
    expect(setting).toContain("flag --prot: storage has no such setting; did you mean --port?");
  });

  it("a port in use, with its owner", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const args = ["serve", "metadata", "--data-directory", "m", "--http-port", "0", "--port", String(port)];
    expect(await complaint(args)).toMatch(new RegExp(`port ${port} .*in use by process ${process.pid}`));
    await new Promise((resolve) => server.close(resolve));
  });

  it("a directory that this user may not use, and a file in its place", async () => {
    const locked = join(folder, "locked");
    await mkdir(locked);
    // Root reads everything unless the kernel takes that right away.
    const isRoot = process.getuid?.() === 0;
    if (isRoot) await chown(locked, 65_534, 65_534);
    await chmod(locked, isRoot ? 0o700 : 0o000);
    const caps = "-dac_override,-dac_read_search";
    const through = isRoot ? ["setpriv", `--bounding-set=${caps}`, `--inh-caps=${caps}`] : [];
    await writeFile(join(folder, "file"), "");
    const serve = (name: string, directory: string): string[] => [
      "serve",
      name,
      "--data-directory",
      directory,
      ...anyPorts,
    ];
    const [metadata, storage, file] = await Promise.all([
      complaint(serve("metadata", locked), through),
      complaint(serve("storage", locked), through),
      complaint(serve("storage", "file")),
    ]);
    for (const text of [metadata, storage]) {
      expect(text).toContain(`data directory ${locked} cannot be used: user `);
      expect(text).toContain("change its owner or mode; otherwise choose another directory");
    }
    expect(file).toContain("data directory file cannot be used: it, or a part of its path, is no directory");
  });

  it("a data directory of another role, another node, another process", async () => {
    await cp(join(import.meta.dirname, "..", "upgrade", "0.1.0", "data"), folder, { recursive: true });
    const [http = 0] = await freePorts(1);
    const holder = new MillraceProcess({
      name: "holder",
      cwd: folder,
      readyUrl: `http://127.0.0.1:${http}/healthz`,
      args: ["serve", "metadata", "--data-directory", "metadata", "--port", "0", "--http-port", String(http)],
    });
    await holder.start();
    try {
      const [role, node, inUse] = await Promise.all([
        complaint(["serve", "storage", "--data-directory", "agent", ...anyPorts]),
        complaint(["serve", "storage", "--data-directory", "storage", "--node-id", "x", ...anyPorts]),
        complaint(["serve", "metadata", "--data-directory", "metadata", ...anyPorts]),
      ]);
      expect(role).toContain("data directory of role agent, not of storage: choose another directory");
      expect(node).toMatch(
        /belongs to node storage-\S+, not to x: start it under that id, or choose another/,
      );
      expect(inUse).toMatch(new RegExp(`in use by process ${holder.pid} .*: stop that process, or choose`));
      expect((await fetch(`http://127.0.0.1:${http}/healthz`)).ok, "the holder goes on").toBe(true);
    } finally {
      await holder.kill9();
    }
  });
});

const halfOpenPerPort = 30;
const rssGrowthMiBMax = 120;
const invalidArgument = 3;
const resourceExhausted = 8;

/** Resident memory of a process in MiB (Linux). */
function rssMiB(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid ?? 0}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

/** Writes lines `app:N:...` into partition 0 until told to stop; what it returns was acknowledged. */
async function produceUntil(client: Client, isOver: () => boolean): Promise<Buffer[]> {
  const producer = client.producer();
  const lines: Buffer[] = [];
  while (!isOver()) {
    const batch = Array.from({ length: 20 }, (_, i) => Buffer.from(`app:${lines.length + i}: fill fill`));
    await Promise.all(batch.map((value) => producer.send("logs", { value }, { partition: 0 })));
    lines.push(...batch);
  }
  await producer.close();
  return lines;
}

/** Every attack on every port, all at once; throws when one was not answered as it should be. */
async function attack(
  deployment: Deployment,
  sources: { readonly ingest: number; readonly http: number; readonly netcat: number },
  held: Held,
): Promise<void> {
  const prng = new Prng(11);
  const { metadata, storage, agent } = deployment.grpcPorts;
  const grpc: readonly (readonly [number, string])[] = [
    [metadata, "/millrace.metadata.v1.MetadataService/DescribeCluster"],
    [storage, "/millrace.storage.v1.StorageService/ProduceOnce"],
    [agent, "/millrace.agent.v1.AgentService/DescribeAgent"],
    [sources.ingest, "/millrace.ingest.v1.IngestService/Append"],
  ];
  const http = [...Object.values(deployment.httpPorts), sources.http];
  const all = [...grpc.map(([port]) => port), ...http, sources.netcat];
  for (const port of all) held.halfOpen(port, halfOpenPerPort);
  for (const [port] of grpc) held.slow(port, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 100);
  for (const port of http) held.slow(port, "GET /readyz HTTP/1.1\r\nx-long: ", 100);
  held.slow(sources.netcat, "a line that never ends ", 100);
  const outcomes = await Promise.all([
    ...all.map(async (port) => [port, await sendBytes(port, garbage(prng, 200_000))]),
    ...[...grpc.map(([port]) => port), ...http].map(async (port) => [port, await sendBytes(port, tlsHello)]),
  ]);
  expect(outcomes.filter(([, outcome]) => outcome !== "closed")).toEqual([]);
  for (const [port, path] of grpc)
    expect(await callRaw(port, path, hugeFrame, false), `${path}: 2 GiB`).toBe(resourceExhausted);
  expect(await postHuge(sources.http)).toBe(413);
  for (const port of Object.values(deployment.httpPorts)) expect(await postHuge(port)).toBeGreaterThan(399);
  const named = frameOf(CreateTopicRequest.encode(CreateTopicRequest.fromPartial({ name: "../x" })).finish());
  const create = "/millrace.metadata.v1.MetadataService/CreateTopic";
  expect(await callRaw(metadata, create, named, true), "topic ../x").toBe(invalidArgument);
}

it("strangers on every port: processes stay ready and small, what was acknowledged is there once", {
  timeout: 120_000,
}, async () => {
  const [ingest = 0, http = 0, netcat = 0] = await freePorts(3);
  const log = new RotatingLog({ name: "file", path: join(folder, "a.log"), seed: 5, rotateEvery: 50_000 });
  const deployment = await Deployment.start(
    folder,
    [log.path],
    {},
    {
      sources: `  hop: {type: ingest, port: ${ingest}, channels: noise}
  web: {type: http, port: ${http}, channels: noise}
  cat: {type: netcat, port: ${netcat}, channels: noise}`,
      channels: "  noise: {type: memory}",
      sinks: '  nothing: {type: "null", channel: noise}',
    },
  );
  const held = new Held();
  const client = await Client.open({ bootstrapServers: [deployment.bootstrap] });
  try {
    const before = deployment.all.map((process) => rssMiB(process.pid));
    let isOver = false;
    const produced = produceUntil(client, () => isOver);
    // Where an attack fails the test first, this is not what is told.
    produced.catch(() => undefined);
    log.write(2_000);
    await attack(deployment, { ingest, http, netcat }, held);
    log.write(2_000);
    expect(held.openCount, "work in flight: strangers were connected").toBeGreaterThan(halfOpenPerPort);
    await expect(deployment.command("topic", "create", "../x")).rejects.toThrow(
      /topic name.*\.\.\/x|\.\.\/x.*name/,
    );
    isOver = true;
    const lines = await produced;
    for (const [i, process] of deployment.all.entries()) {
      await process.waitReady();
      expect(process.startCount).toBe(1);
      expect(rssMiB(process.pid) - (before[i] ?? 0), `growth of ${process.name}`).toBeLessThan(
        rssGrowthMiBMax,
      );
    }
    expect(lines.length, "records were acknowledged during the attack").toBeGreaterThan(100);
    log.close();
    const total = lines.length + log.lines.length;
    await until(
      "all is published",
      30_000,
      async () => (await countPublished(deployment.published)) >= total,
    );
    for (const process of deployment.all.toReversed()) await process.stop();
    const written = new Map([
      ["app", lines],
      ["file", log.lines],
    ]);
    expect(await judge(deployment.published, written)).toEqual({
      publishedCount: total,
      missing: [],
      doubled: [],
      changed: [],
      outOfOrder: [],
    });
    expect((await readdir(folder)).includes("x"), "no folder beside the data directory").toBe(false);
  } finally {
    held.release();
    client.close();
    await deployment.destroy();
  }
});
