/** What a person waits for: `millrace up` until it is ready, a short command's answer; and what an idle process holds. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts, millrace, until } from "../../support/processes.ts";
import type { BenchCase, Figure } from "../bench.ts";
import { BenchCluster, serve } from "../cluster.ts";
import { memoryMb, pause } from "../measure.ts";

const launcher = fileURLToPath(new URL("../../../cli/bin/millrace.js", import.meta.url));
/** Lines of the file that `up` has delivered before it counts as idle. */
const lineCount = 1000;
/** How long it has been idle when its memory is read, milliseconds. */
const idleMs = 3_000;
const listRounds = 5;

/** `millrace up` from spawn to the first screen, then idle. */
export const upCase: BenchCase = {
  name: "up",
  summary: "millrace up: from process start to ready; RSS when idle",
  run: async ({ folder }) => {
    const log = join(folder, "app.log");
    await writeFile(log, "");
    await run(log, folder, "first"); // compiled code into the cache, files into memory
    const { readyMs, rssMb } = await run(log, folder, "second");
    const ready: Figure = { name: "millrace up, start to ready", value: readyMs, unit: "ms", goal: 1500 };
    if (rssMb === undefined) return [ready];
    return [ready, { name: "millrace up, RSS idle", value: rssMb, unit: "MB", goal: 200 }];
  },
};

async function run(
  log: string,
  folder: string,
  name: string,
): Promise<{ readyMs: number; rssMb: number | undefined }> {
  const start = performance.now();
  const args = [
    launcher,
    "up",
    "--data",
    join(folder, name),
    "--tail",
    log,
    "--port",
    "0",
    "--http-port",
    "0",
  ];
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    let text = "";
    let readyMs: number | undefined;
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (readyMs === undefined && text.includes("ready in")) readyMs = performance.now() - start;
    });
    await until("up is ready", 20_000, () => readyMs !== undefined);
    await appendFile(log, "a line\n".repeat(lineCount));
    await until("the lines are published", 20_000, () => /lost 0/.test(lastLine(text)) && isPublished(text));
    await pause(idleMs);
    return { readyMs: readyMs ?? Number.NaN, rssMb: memoryMb(child.pid, "VmRSS") };
  } finally {
    child.kill("SIGTERM");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}

/** The last line says that what was read is published. */
function isPublished(text: string): boolean {
  const match = /([\d,]+) in = ([\d,]+) published \+ 0 in flight/.exec(lastLine(text));
  return match !== null && Number(match[1]?.replaceAll(",", "")) >= lineCount;
}

/** Every service alone and idle; and `topic list` against them. */
export const servicesCase: BenchCase = {
  name: "services",
  summary: "RSS of each service when idle; time of topic list",
  run: async ({ folder }) => {
    const cluster = await BenchCluster.start(folder);
    const [agentPort = 0, agentHttp = 0, connectorHttp = 0] = await freePorts(3);
    const pipeline = join(folder, "pipeline.yaml");
    await writeFile(
      pipeline,
      "agent: {name: edge}\nsources: {s: {type: seq, totalEvents: 0, channels: [c]}}\nchannels: {c: {type: file}}\nsinks: {k: {type: logger, channel: c}}\n",
    );
    const toCluster = ["--bootstrap-servers", cluster.bootstrap];
    const agent = serve("agent", folder, agentPort, agentHttp, ["--file", pipeline, ...toCluster]);
    const connector = serve("connector", folder, 0, connectorHttp, toCluster);
    try {
      await agent.start();
      await connector.start();
      await pause(idleMs);
      const figures: Figure[] = [];
      for (const service of [cluster.metadata, cluster.storage, agent, connector]) {
        const rssMb = memoryMb(service.pid, "VmRSS");
        if (rssMb !== undefined)
          figures.push({ name: `${service.name}, RSS idle`, value: rssMb, unit: "MB" });
      }
      return [...figures, { name: "topic list", value: await topicListMs(cluster), unit: "ms", goal: 300 }];
    } finally {
      for (const service of [agent, connector]) await service.stop();
      await cluster.stop();
    }
  },
};

/** Median of several, after a first. */
async function topicListMs(cluster: BenchCluster): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i <= listRounds; i++) {
    const start = performance.now();
    const { code, stderr } = await millrace(["topic", "list", "--bootstrap-server", cluster.bootstrap]);
    if (code !== 0) throw new Error(`topic list: ${stderr}`);
    times.push(performance.now() - start);
  }
  return times.slice(1).sort((a, b) => a - b)[listRounds >> 1] ?? 0;
}
