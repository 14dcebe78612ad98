/** Connectors in tests: instances of the real service in this process, a cluster's topics, and what was published. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Client } from "@millrace/client";
import { type ConnectorOptions, type ConnectorService, startConnector } from "@millrace/service-connector";
import { createTelemetry } from "@millrace/telemetry";
import type { Cluster } from "./cluster.ts";

/** Starts an instance with a directory of its own; ready on return. */
export async function startInstance(
  cluster: Cluster,
  name: string,
  options: Partial<ConnectorOptions> = {},
): Promise<ConnectorService> {
  const service = await startConnector({
    dataDirectory: join(cluster.folder, name),
    nodeId: name,
    bootstrapServers: [cluster.metadata.address],
    telemetry: createTelemetry({ service: "connector", node: name, destination: "silent" }),
    ...options,
  });
  await service.ready;
  return service;
}

/** Creates a connector of the file sink; returns its output directory. */
export async function createFileConnector(
  client: Client,
  cluster: Cluster,
  name: string,
  topics: readonly string[],
  keys: object = {},
): Promise<string> {
  const directory = join(cluster.folder, "out", name);
  const sink = { type: "file", directory, rollInterval: 0.1, ...keys };
  await client.admin.connectors.create({ name, topics, sinkConfigJson: JSON.stringify(sink) });
  return directory;
}

/** Sends values `<label> <n>` for n in [from, to), padded with spaces, each to partition n mod the topic's partitions. */
export async function produce(
  client: Client,
  topic: string,
  from: number,
  to: number,
  label = "r",
  padTo = 0,
): Promise<void> {
  const producer = client.producer();
  const { partitions } = await client.admin.describeTopic(topic);
  const sent: Promise<unknown>[] = [];
  for (let n = from; n < to; n++) {
    const partition = n % partitions.length;
    sent.push(producer.send(topic, { value: `${label} ${n}`.padEnd(padTo) }, { partition }));
  }
  await Promise.all(sent);
  await producer.close();
}

/** What `produce` sends. */
export function values(from: number, to: number, label = "r"): string[] {
  return Array.from({ length: to - from }, (_, i) => `${label} ${from + i}`);
}

/** Lines of all published files, in order of file names. */
export async function publishedLines(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  const visible = names.filter((name) => !name.startsWith(".")).sort();
  const texts = await Promise.all(visible.map((name) => readFile(join(directory, name), "utf8")));
  return texts.flatMap((text) => text.split("\n").slice(0, -1));
}

/** Sorted as numbers behind the label, for comparisons over partitions. */
export function sorted(lines: readonly string[]): string[] {
  const rank = (line: string): number => Number(line.split(" ")[1]);
  return [...lines].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}
