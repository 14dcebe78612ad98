/** An agent in this process: a real data directory and a real pipeline, killed by dropping both without a word. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { components as registry } from "@millrace/components";
import {
  type ComponentRegistry,
  defineSink,
  parsePipeline,
  Pipeline,
  type PipelineStatus,
  type Sink,
  type SinkBatch,
  type SinkFeedback,
} from "@millrace/flow";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import { z } from "@millrace/config";

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

/** An agent that can be stopped, killed and started again on its folder. */
export class TestAgent {
  readonly name: string;
  readonly folder: string;
  readonly collected = new Collected();
  #directory: DataDirectory | undefined;
  #pipeline: Pipeline | undefined;

  constructor(name: string, root: string) {
    this.name = name;
    this.folder = join(root, name);
  }

  /** Starts the pipeline that the YAML describes. */
  async start(yaml: string, bootstrapServers: readonly string[] = []): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    this.#directory = await openDataDirectory({
      path: this.folder,
      disk: realDisk,
      clock: systemClock,
      identity: { role: "agent" },
    });
    const config = await parsePipeline(`agent: {name: ${this.name}}\n${yaml}`, `${this.name}.yaml`, {
      registry: this.#registry(),
    });
    this.#pipeline = await Pipeline.start(config, {
      agent: this.name,
      directory: this.#directory,
      disk: realDisk,
      clock: systemClock,
      telemetry: createTelemetry({
        service: "agent",
        node: this.name,
        destination: process.env["MILLRACE_TEST_LOG"] === undefined ? "silent" : "stdout",
      }),
      bootstrapServers,
    });
  }

  get status(): PipelineStatus {
    if (this.#pipeline === undefined) throw new Error(`${this.name} does not run`);
    return this.#pipeline.status();
  }

  /** Port of the agent's only listening source. */
  get port(): number {
    return this.#pipeline?.addresses[0]?.port ?? 0;
  }

  get depth(): number {
    return this.status.channels.reduce((sum, channel) => sum + channel.depthCount, 0);
  }

  async stop(): Promise<void> {
    await this.#pipeline?.stop(500);
    await this.#directory?.close();
    this.#pipeline = undefined;
    this.#directory = undefined;
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
