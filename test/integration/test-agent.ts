/** An agent in this process: a real data directory and a real pipeline. For kill -9 see agent-process.ts. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { components as registry } from "@millrace/components";
import { z } from "@millrace/config";
import {
  type ComponentRegistry,
  defineSink,
  Pipeline,
  type PipelineStatus,
  parsePipeline,
  type Sink,
  type SinkBatch,
  type SinkFeedback,
} from "@millrace/flow";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { type Clock, realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";

/** How an agent is run. */
export interface RunOptions {
  readonly name: string;
  readonly folder: string;
  /** The pipeline without its `agent` part. */
  readonly yaml: string;
  readonly bootstrapServers?: readonly string[];
  readonly journalFileBytes?: number;
  readonly clock?: Clock;
  /** Components beside the build's own. */
  readonly registry?: ComponentRegistry;
  /** A sink that holds records is flushed after this idle time, ms. */
  readonly flushIdleMs?: number;
}

/** A running agent. */
export interface RunningAgent {
  readonly directory: DataDirectory;
  readonly pipeline: Pipeline;
  readonly telemetry: Telemetry;
}

/** Opens the data directory and starts the pipeline on it. */
export async function runAgent(options: RunOptions): Promise<RunningAgent> {
  const { name, folder, yaml, clock = systemClock, journalFileBytes } = options;
  await mkdir(folder, { recursive: true });
  const directory = await openDataDirectory({
    path: folder,
    disk: realDisk,
    clock,
    identity: { role: "agent" },
    ...(journalFileBytes === undefined ? {} : { journalFileBytes }),
  });
  const config = await parsePipeline(`agent: {name: ${name}}\n${yaml}`, `${name}.yaml`, {
    registry: options.registry ?? registry,
  });
  const telemetry = createTelemetry({
    service: "agent",
    node: name,
    destination: process.env["MILLRACE_TEST_LOG"] === undefined ? "silent" : "stdout",
  });
  const pipeline = await Pipeline.start(config, {
    agent: name,
    directory,
    disk: realDisk,
    clock,
    telemetry,
    bootstrapServers: options.bootstrapServers ?? [],
    ...(options.flushIdleMs === undefined ? {} : { sinkLimits: { flushIdleMs: options.flushIdleMs } }),
  });
  return { directory, pipeline, telemetry };
}

/** Sum of a metric's values over its labels. */
export function metricOf(text: string, name: string): number {
  const lines = text.matchAll(new RegExp(`^millrace_${name}(?:\\{.*\\})? (\\S+)$`, "gm"));
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** What the `collect` sinks of the tests were given, by sink name. */
export class Collected {
  readonly values: string[] = [];
  isBlocked = false;
  #unblock: (() => void)[] = [];

  unblock(): void {
    this.isBlocked = false;
    for (const run of this.#unblock.splice(0)) run();
  }

  async whenOpen(signal: AbortSignal): Promise<void> {
    if (!this.isBlocked) return;
    await new Promise<void>((resolve, reject) => {
      this.#unblock.push(resolve);
      signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true });
    });
  }
}

class CollectSink implements Sink {
  readonly #into: Collected;
  #feedback: SinkFeedback | undefined;

  constructor(into: Collected) {
    this.#into = into;
  }

  open(_assignment: unknown, feedback: SinkFeedback): Promise<{ resumeFrom: undefined }> {
    this.#feedback = feedback;
    return Promise.resolve({ resumeFrom: undefined });
  }

  async write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    await this.#into.whenOpen(signal);
    for (const record of batch.records) this.#into.values.push(Buffer.from(record.value ?? []).toString());
    this.#feedback?.delivered(batch.to);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** An agent that can be stopped and started again on its folder. */
export class TestAgent {
  readonly name: string;
  readonly folder: string;
  readonly collected = new Collected();
  #running: RunningAgent | undefined;

  constructor(name: string, root: string) {
    this.name = name;
    this.folder = join(root, name);
  }

  /** Starts the pipeline that the YAML describes. */
  async start(
    yaml: string,
    bootstrapServers: readonly string[] = [],
    options: Partial<RunOptions> = {},
  ): Promise<void> {
    const { name, folder } = this;
    this.#running = await runAgent({
      name,
      folder,
      yaml,
      bootstrapServers,
      registry: this.#registry(),
      ...options,
    });
  }

  get status(): PipelineStatus {
    if (this.#running === undefined) throw new Error(`${this.name} does not run`);
    return this.#running.pipeline.status();
  }

  /** Port of the agent's only listening source. */
  get port(): number {
    return this.#running?.pipeline.addresses[0]?.port ?? 0;
  }

  get depth(): number {
    return this.status.channels.reduce((sum, channel) => sum + channel.depthCount, 0);
  }

  /** Id of the data directory. */
  get id(): string {
    return this.#running?.directory.meta.directoryId ?? "";
  }

  async metric(name: string): Promise<number> {
    return metricOf((await this.#running?.telemetry.metrics.text()) ?? "", name);
  }

  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.pipeline.stop(500);
    await running?.directory.close();
  }

  #registry(): ComponentRegistry {
    const collect = defineSink({
      type: "collect",
      summary: "Keeps records for a test.",
      guarantee: "at-least-once",
      hasStanding: false,
      canShare: true,
      config: z.strictObject({}),
      create: () => new CollectSink(this.collected),
    });
    return {
      types: (kind) => (kind === "sink" ? [...registry.types(kind), "collect"] : registry.types(kind)),
      source: (type) => registry.source(type),
      sink: (type) => (type === "collect" ? Promise.resolve(collect) : registry.sink(type)),
      interceptor: (type) => registry.interceptor(type),
    };
  }
}
