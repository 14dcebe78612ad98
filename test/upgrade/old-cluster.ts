/**
 * A cluster on the directories of one folder, each service its own process: what `make.ts` leaves behind, and what the
 * upgrade test starts again. Paths are relative to the folder, so that a copy of it works anywhere.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePorts, MillraceProcess, millrace } from "../support/processes.ts";

/** Services, in the order they start. */
export const serviceNames = ["metadata", "storage", "connector", "agent"] as const;

/** One of them. */
export type ServiceName = (typeof serviceNames)[number];

/** Name of the topic and of its connector. */
export const topic = "logs";

/** Folder of the published files, in the cluster's folder. */
export const publishedFolder = "published";

/** Numbers that the agent's source gives before and after the storage node is gone, and after the upgrade. */
export const numbers = { delivered: 300, inChannel: 500, afterUpgrade: 700 } as const;

/** See the file's comment. */
export class OldCluster {
  readonly folder: string;
  readonly bootstrap: string;
  readonly processes: Readonly<Record<ServiceName, MillraceProcess>>;
  readonly #http: Readonly<Record<ServiceName, number>>;

  private constructor(folder: string, ports: readonly number[]) {
    const [port = 0, metadata = 0, storage = 0, connector = 0, agent = 0] = ports;
    this.folder = folder;
    this.bootstrap = `127.0.0.1:${port}`;
    this.#http = { metadata, storage, connector, agent };
    const member = ["--bootstrap-servers", this.bootstrap];
    this.processes = {
      metadata: this.#process("metadata", ["--port", String(port)]),
      storage: this.#process("storage", ["--port", "0", ...member]),
      connector: this.#process("connector", member),
      agent: this.#process("agent", ["--port", "0", "--file", "pipeline.yaml", ...member]),
    };
  }

  static async in(folder: string): Promise<OldCluster> {
    return new OldCluster(folder, await freePorts(5));
  }

  /** The agent's pipeline: numbers through a file channel into the topic. */
  async writePipeline(numberCount: number): Promise<void> {
    await writeFile(
      join(this.folder, "pipeline.yaml"),
      `agent: {name: edge}
sources:
  numbers: {type: seq, totalEvents: ${numberCount}, batchSize: 50, channels: buffer}
channels:
  buffer: {type: file}
sinks:
  topic: {type: millrace, topic: ${topic}, channel: buffer}
`,
    );
  }

  /** Runs a command against the cluster; throws with its output when it fails. */
  async command(...args: readonly string[]): Promise<void> {
    const { code, stdout, stderr } = await millrace([...args, "--bootstrap-server", this.bootstrap]);
    if (code !== 0) throw new Error(`millrace ${args.join(" ")} ended with ${code}: ${stdout}${stderr}`);
  }

  /** Sum of a metric over its labels; 0 when it is absent. */
  async metric(service: ServiceName, name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.#http[service]}/metrics`)).text();
    const values = [...text.matchAll(/^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? (\S+)$/gm)];
    return values.filter(([, found]) => found === name).reduce((sum, [, , value]) => sum + Number(value), 0);
  }

  async kill9(...services: readonly ServiceName[]): Promise<void> {
    await Promise.all(services.map((name) => this.processes[name].kill9()));
  }

  #process(name: ServiceName, flags: readonly string[]): MillraceProcess {
    const http = this.#http[name];
    return new MillraceProcess({
      name,
      cwd: this.folder,
      readyUrl: `http://127.0.0.1:${http}/readyz`,
      args: ["serve", name, "--data-directory", name, "--http-port", String(http), ...flags],
    });
  }
}
