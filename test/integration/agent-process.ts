/** An agent in a process of its own, killed with SIGKILL and started again on its folder. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { PipelineStatus } from "@millrace/flow";
import type { ChildOptions } from "./agent-child.ts";
import { metricOf } from "./test-agent.ts";

const child = fileURLToPath(new URL("./agent-child.ts", import.meta.url));

/** What an agent says of itself. */
export interface AgentReport {
  readonly status: PipelineStatus;
  readonly port: number;
  readonly metrics: string;
  /** Heap in use and buffers, bytes. */
  readonly memoryBytes: number;
  readonly rssBytes: number;
}

/** See the file's comment. */
export class AgentProcess {
  readonly name: string;
  readonly folder: string;
  #child: ChildProcess | undefined;

  constructor(name: string, root: string) {
    this.name = name;
    this.folder = join(root, name);
  }

  async start(yaml: string, options: Partial<ChildOptions> = {}): Promise<void> {
    const { name, folder } = this;
    const AGENT = JSON.stringify({ name, folder, yaml, bootstrapServers: [], aheadMs: 0, ...options });
    this.#child = fork(child, { env: { ...process.env, AGENT }, stdio: "inherit" });
    await Promise.race([
      once(this.#child, "message"),
      once(this.#child, "exit").then(() => {
        throw new Error(`agent ${name} ended at its start`);
      }),
    ]);
  }

  async report(): Promise<AgentReport> {
    const running = this.#running();
    running.send("report");
    const [report] = (await once(running, "message")) as [AgentReport];
    return report;
  }

  async depth(): Promise<number> {
    const { status } = await this.report();
    return status.channels.reduce((sum, channel) => sum + channel.depthCount, 0);
  }

  async metric(name: string): Promise<number> {
    return metricOf((await this.report()).metrics, name);
  }

  async kill9(): Promise<void> {
    await this.#end((running) => running.kill("SIGKILL"));
  }

  async stop(): Promise<void> {
    await this.#end((running) => running.send("stop"));
  }

  async #end(how: (running: ChildProcess) => void): Promise<void> {
    const running = this.#child;
    this.#child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, "exit");
    how(running);
    await exited;
  }

  #running(): ChildProcess {
    if (this.#child === undefined) throw new Error(`${this.name} does not run`);
    return this.#child;
  }
}
