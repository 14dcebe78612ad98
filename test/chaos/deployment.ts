/** A whole deployment for chaos tests: metadata, storage, connector and agent, each its own process. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePorts, MillraceProcess, millrace } from "../support/processes.ts";

/** Names of the processes. */
export type ProcessName = "metadata" | "storage" | "connector" | "agent";

/** What a run goes without: a negative control. */
export interface Without {
  readonly recordIdentity?: boolean;
  readonly storedPosition?: boolean;
}

/** Further lines of the agent's pipeline, indented by two. */
export interface PipelineLines {
  readonly sources: string;
  readonly channels: string;
  readonly sinks: string;
}

/** Reads one counter or gauge from a process's /metrics; the sum over its labels, 0 when absent. */
async function readMetric(httpPort: number, name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/metrics`).catch(() => undefined);
  const text = (await response?.text()) ?? "";
  let sum = 0;
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? (\S+)/.exec(line);
    if (match?.[1] === name) sum += Number(match[2]);
  }
  return sum;
}

/** See the file's comment. */
export class Deployment {
  readonly folder: string;
  readonly bootstrap: string;
  readonly processes: Readonly<Record<ProcessName, MillraceProcess>>;
  /** gRPC ports; a connector has none. */
  readonly grpcPorts: Readonly<Record<Exclude<ProcessName, "connector">, number>>;
  readonly httpPorts: Readonly<Record<ProcessName, number>>;

  private constructor(folder: string, ports: readonly number[]) {
    const [metadata = 0, storage = 0, agent = 0, ...http] = ports;
    this.folder = folder;
    this.grpcPorts = { metadata, storage, agent };
    this.bootstrap = `127.0.0.1:${metadata}`;
    const [m = 0, s = 0, c = 0, a = 0] = http;
    this.httpPorts = { metadata: m, storage: s, connector: c, agent: a };
    const make = (name: ProcessName, flags: readonly string[]): MillraceProcess =>
      new MillraceProcess({
        name,
        readyUrl: `http://127.0.0.1:${this.httpPorts[name]}/readyz`,
        args: [
          "serve",
          name,
          "--data-directory",
          join(folder, name),
          "--http-port",
          String(this.httpPorts[name]),
          ...flags,
        ],
      });
    const toCluster = ["--bootstrap-servers", this.bootstrap];
    this.processes = {
      metadata: make("metadata", ["--port", String(metadata)]),
      storage: make("storage", ["--port", String(storage), ...toCluster]),
      connector: make("connector", toCluster),
      agent: make("agent", ["--port", String(agent), "--file", this.pipelineFile, ...toCluster]),
    };
  }

  /** Starts everything: a topic `logs` with three partitions, delivered into `published`. */
  static async start(
    folder: string,
    sources: readonly string[],
    without: Without = {},
    more?: PipelineLines,
  ): Promise<Deployment> {
    const deployment = new Deployment(folder, await freePorts(7));
    await mkdir(deployment.published, { recursive: true });
    await writeFile(deployment.pipelineFile, pipeline(sources, without, more));
    const { metadata, storage, connector, agent } = deployment.processes;
    await metadata.start();
    await storage.start();
    await deployment.command(
      "topic",
      "create",
      "logs",
      "--partitions",
      "3",
      "--config",
      "max.message.bytes=4194304",
    );
    await connector.start();
    const sink = ["--sink", "file", "-s", `directory=${deployment.published}`, "-s", "rollInterval=1"];
    await deployment.command("connector", "create", "logs", "-t", "logs", ...sink);
    await agent.start();
    return deployment;
  }

  get pipelineFile(): string {
    return join(this.folder, "pipeline.yaml");
  }

  /** Where published files appear. */
  get published(): string {
    return join(this.folder, "published");
  }

  get all(): readonly MillraceProcess[] {
    return Object.values(this.processes);
  }

  metric(process: ProcessName, name: string): Promise<number> {
    return readMetric(this.httpPorts[process], name);
  }

  /** Runs a millrace command against the cluster; throws with its output when it fails. */
  async command(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await millrace([...args, "--bootstrap-server", this.bootstrap]);
    if (code !== 0) throw new Error(`millrace ${args.join(" ")} ended with ${code}: ${stdout}${stderr}`);
    return stdout;
  }

  /** Ends every process, whatever state it is in. */
  async destroy(): Promise<void> {
    for (const process of this.all) {
      process.signal("SIGCONT");
      await process.kill9();
    }
  }
}

function pipeline(sources: readonly string[], without: Without, more: PipelineLines | undefined): string {
  return `
agent: {name: edge}
sources:
  files:
    type: taildir
    paths: ${JSON.stringify(sources)}
    pollInterval: 50
    batchSize: 500
    unsafeForgetPositions: ${without.storedPosition ?? false}
    channels: [buffer]
${more?.sources ?? ""}
channels:
  buffer: {type: file}
${more?.channels ?? ""}
sinks:
  topic: {type: millrace, topic: logs, channel: buffer, unsafeNoIdentity: ${without.recordIdentity ?? false}}
${more?.sinks ?? ""}
`;
}
