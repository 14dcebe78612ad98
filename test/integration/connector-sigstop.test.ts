/** A real connector process sleeps at a step of opening or publishing, another takes over, it wakes up (C1, C3, C4). */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Client } from "@millrace/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster, until } from "./cluster.ts";
import { createFileConnector, produce, publishedLines, startInstance, values } from "./connector-fixture.ts";

const script = fileURLToPath(new URL("connector-child.ts", import.meta.url));

/** The instance that falls asleep. */
class Child {
  readonly #process: ChildProcess;
  #output = "";

  constructor(cluster: Cluster, data: string, output: string, stopAt: number) {
    this.#process = spawn(process.execPath, [script], {
      env: {
        ...process.env,
        DATA: data,
        BOOTSTRAP: cluster.metadata.address,
        OUTPUT: output,
        STOP_AT: String(stopAt),
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process.stdout?.on("data", (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  /** Tasks as it last printed them. */
  get tasks(): { readonly taskEpoch: number; readonly resume: number }[] {
    const line = this.#output.trimEnd().split("\n").at(-1) ?? "";
    return line === "" ? [] : (JSON.parse(line) as { taskEpoch: number; resume: number }[]);
  }

  get hadTasks(): boolean {
    return this.#output.includes("taskEpoch");
  }

  get isStopped(): boolean {
    const stat = readFileSync(`/proc/${this.#process.pid ?? 0}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
  }

  wake(): void {
    this.#process.kill("SIGCONT");
  }

  async end(): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await exited;
  }
}

let cluster: Cluster;
let client: Client;

beforeAll(async () => {
  cluster = await Cluster.start({ sessionTimeoutMs: 1_000 });
  client = await cluster.client();
});
afterAll(() => cluster.stop());

// An opening takes about 25 operations on the output directory, a commit about 15: the steps of both, and of the next.
const steps = [4, 9, 14, 19, 23, 26, 28, 30, 32, 34, 36, 38, 40, 42, 47];

describe("a connector process that sleeps through its task's move", () => {
  it.each(steps)("at operation %i: no record twice, none lost", async (stopAt) => {
    const name = `s${stopAt}`;
    await client.admin.createTopic({ name, partitions: 1 });
    await produce(client, name, 0, 200);
    const output = await createFileConnector(client, cluster, name, [name], { rollCount: 50 });
    const child = new Child(cluster, join(cluster.folder, `child-${name}`), output, stopAt);
    try {
      await until(() => child.isStopped, "the child has stopped itself");
      const heir = await startInstance(cluster, `heir-${name}`);
      await until(
        () => heir.status().some((task) => task.connector === name && task.state === "running"),
        "the task moved",
      );
      await produce(client, name, 200, 300);
      await until(
        async () => (await publishedLines(output)).length >= 300,
        "the heir has published everything",
      );
      child.wake();
      await until(() => child.hadTasks && child.tasks.length === 0, "the child knows that its task is gone");
      await produce(client, name, 300, 400);
      await until(async () => (await publishedLines(output)).length >= 400, "the heir goes on");
      expect(await publishedLines(output)).toEqual(values(0, 400));
      expect(heir.status().find((task) => task.connector === name)).toMatchObject({
        published: 400,
        resume: 400,
      });
      expect(await heir.stop()).toEqual([]);
    } finally {
      await child.end();
      await client.admin.connectors.delete(name);
    }
  });
});
