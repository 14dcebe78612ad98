/**
 * The durable hop: a full file channel of one agent runs empty into the file channel of another, a process of its own
 * (`millrace agent run`). A record counts when the sender has committed its take, which is after the receiver has said
 * that it is in its write-ahead log.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { components } from "@millrace/components";
import { Pipeline, parsePipeline } from "@millrace/flow";
import { openDataDirectory } from "@millrace/log";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import { freePorts, MillraceProcess, until } from "../../support/processes.ts";
import { makeRecords, openAgentParts } from "../agent-parts.ts";
import type { BenchCase, BenchContext, Figure } from "../bench.ts";
import { rateOf } from "../measure.ts";

const settings = [
  { batch: 1, goal: 10_000 },
  { batch: 100, goal: 190_000 },
  { batch: 1000, goal: 320_000 },
] as const;

const prefillBatch = 1000;

const receiverYaml = (port: number): string => `
agent: {name: receiver}
sources: {door: {type: ingest, port: ${port}, channels: [in]}}
channels: {in: {type: file}}
sinks: {away: {type: "null", channel: in}}
`;

const senderYaml = (port: number, batch: number): string => `
agent: {name: sender}
sources: {none: {type: seq, totalEvents: 0, channels: [out]}}
channels: {out: {type: file, capacity: 10000000, byteCapacity: 8 GiB}}
sinks: {next: {type: agent, port: ${port}, channel: out, batch-size: ${batch}}}
`;

async function prefill(folder: string, count: number): Promise<void> {
  const parts = await openAgentParts(folder, "out");
  const options = { waitMs: Infinity, signal: new AbortController().signal };
  const records = makeRecords(prefillBatch);
  for (let put = 0; put < count; put += prefillBatch) await parts.putPath.offer({ records }, options);
  await parts.close();
}

async function hop(
  folder: string,
  seconds: number,
  { batch, goal }: (typeof settings)[number],
): Promise<Figure> {
  await mkdir(folder);
  const [port = 0, adminPort = 0, httpPort = 0] = await freePorts(3);
  const pipelineFile = join(folder, "receiver.yaml");
  await writeFile(pipelineFile, receiverYaml(port));
  const ports = ["--port", String(adminPort), "--http-port", String(httpPort)];
  const receiver = new MillraceProcess({
    name: "receiver",
    readyUrl: `http://127.0.0.1:${httpPort}/readyz`,
    args: ["agent", "run", pipelineFile, "--data-directory", join(folder, "receiver"), ...ports],
  });
  await receiver.start();
  // What the goal moves in the time; a faster hop ends its measurement early.
  const count = Math.ceil((goal * seconds) / prefillBatch) * prefillBatch;
  await prefill(folder, count);
  const sender = await startSender(folder, senderYaml(port, batch));
  try {
    const perSecond = await hopRate(sender.pipeline, count, seconds);
    return { name: `durable hop, batch ${batch}`, value: perSecond, unit: "records/s", goal };
  } finally {
    await sender.stop();
    await receiver.stop();
  }
}

async function startSender(
  folder: string,
  yaml: string,
): Promise<{ pipeline: Pipeline; stop: () => Promise<void> }> {
  const directory = await openDataDirectory({
    path: join(folder, "agent"),
    disk: realDisk,
    clock: systemClock,
    identity: { role: "agent" },
  });
  const config = await parsePipeline(yaml, "sender.yaml", { registry: components });
  const pipeline = await Pipeline.start(config, {
    agent: "sender",
    directory,
    disk: realDisk,
    clock: systemClock,
    telemetry: createTelemetry({ service: "agent", node: "sender", destination: "silent" }),
    bootstrapServers: [],
  });
  const stop = async (): Promise<void> => {
    await pipeline.stop(500);
    await directory.close();
  };
  return { pipeline, stop };
}

/** Records leaving the sender's channel per second, from the first delivery on. */
async function hopRate(pipeline: Pipeline, count: number, seconds: number): Promise<number> {
  const depth = (): number => pipeline.status().channels[0]?.depthCount ?? 0;
  await until("the hop works", 20_000, () => depth() < count);
  const { perSecond } = await rateOf(
    () => count - depth(),
    seconds,
    () => depth() === 0,
  );
  return perSecond;
}

/** All batch sizes. */
export const hopCase: BenchCase = {
  name: "hop",
  summary: "500 B records from agent to agent, file channels on both sides",
  run: async ({ folder, seconds }: BenchContext) => {
    const figures: Figure[] = [];
    for (const setting of settings)
      figures.push(await hop(join(folder, String(setting.batch)), seconds, setting));
    return figures;
  },
};
