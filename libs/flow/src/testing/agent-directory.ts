/** A data directory and a pipeline on it, for tests: started, stopped, killed and started again. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { parsePipeline } from "../config/load.ts";
import { Pipeline } from "../pipeline/pipeline.ts";
import type { PipelineRuntime } from "../pipeline/runtime.ts";
import type { TestWorld } from "./components.ts";

/** One agent on the real disk. */
export class TestAgent {
  readonly path: string;
  readonly telemetry: Telemetry;
  directory: DataDirectory;
  pipeline!: Pipeline;
  readonly #world: TestWorld;

  private constructor(path: string, directory: DataDirectory, world: TestWorld) {
    this.path = path;
    this.directory = directory;
    this.#world = world;
    this.telemetry = createTelemetry({ service: "test", node: "a1", destination: "silent" });
  }

  static async open(world: TestWorld): Promise<TestAgent> {
    const path = await mkdtemp(join(tmpdir(), "millrace-agent-"));
    return new TestAgent(path, await openDirectory(path), world);
  }

  async start(yaml: string, overrides: Partial<PipelineRuntime> = {}): Promise<Pipeline> {
    const config = await parsePipeline(yaml, "test.yaml", { registry: this.#world.registry });
    this.pipeline = await Pipeline.start(config, {
      agent: config.agent,
      directory: this.directory,
      disk: realDisk,
      clock: systemClock,
      telemetry: this.telemetry,
      bootstrapServers: [],
      ...overrides,
    });
    return this.pipeline;
  }

  /** Stops the pipeline, closes the directory and opens it again; `between` runs while it is closed. */
  async restart(between: () => Promise<void> = async () => {}): Promise<void> {
    await this.pipeline.stop(1_000);
    await this.directory.close();
    await between();
    this.directory = await openDirectory(this.path);
  }

  async remove(): Promise<void> {
    await this.pipeline.stop(100);
    await this.directory.close();
    await rm(this.path, { recursive: true, force: true });
  }
}

function openDirectory(path: string): Promise<DataDirectory> {
  return openDataDirectory({ path, disk: realDisk, clock: systemClock, identity: { role: "agent" } });
}
