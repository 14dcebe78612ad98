/**
 * Makes `test/upgrade/<version>/` of the present version: what a cluster leaves behind that loses power with work in
 * flight. Run it when an issue is closed, and commit what it wrote:
 *
 *   PATH="$PWD/node_modules/.bin:$PATH" node test/upgrade/make.ts
 *
 * In it: a metadata log and its topic, nodes, connector and producer names; a storage node with plain, gzip and zstd
 * batches of anonymous producers and batches of a named one; an agent whose file channel holds records that were
 * delivered without its knowing and others that were not, and the position of its source; a connector's directory and
 * its output, with records behind its commit log. `expected.txt` has what must be published in the end, sorted.
 */
import { cp, mkdir, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Client } from "@millrace/client";
import root from "../../package.json" with { type: "json" };
import { makeDataFolder } from "../support/environment.ts";
import { until } from "../support/processes.ts";
import { countPublished } from "../support/published.ts";
import { numbers, OldCluster, publishedFolder, serviceNames, topic } from "./old-cluster.ts";

const waitMs = 30_000;
/** Largest the whole may be: it is checked in. */
const bytesMax = 300_000;
const codecs = ["none", "gzip", "zstd"] as const;
const perCodec = 40;

/** Lines produced by an application: by compression, before or after the connector is gone. */
function linesOf(codec: string, time: "early" | "late"): string[] {
  return Array.from({ length: perCodec }, (_, i) => `${time} ${codec} ${i} ${"fill ".repeat(10)}`.trim());
}

async function produce(client: Client, time: "early" | "late"): Promise<string[]> {
  const all: string[] = [];
  for (const compression of codecs) {
    const producer = client.producer({ compression, lingerMs: 20 });
    const lines = linesOf(compression, time);
    await producer.sendMany(
      topic,
      lines.map((value, i) => ({
        key: `key ${i}`,
        value,
        headers: [{ key: "codec", value: Buffer.from(compression) }],
      })),
    );
    await producer.close();
    all.push(...lines);
  }
  return all;
}

async function topicRecords(client: Client): Promise<number> {
  const { partitions } = await client.metadata.byName(topic);
  const ends = await Promise.all(
    partitions.map(({ partition }) => client.admin.listOffsets(topic, partition, "end")),
  );
  return ends.reduce((sum, { offset }) => sum + offset, 0);
}

/** Runs the cluster in `folder` to the moment of the power loss; returns what must be published in the end. */
async function run(folder: string): Promise<string[]> {
  const cluster = await OldCluster.in(folder);
  const published = join(folder, publishedFolder);
  try {
    await mkdir(published);
    await cluster.writePipeline(numbers.delivered);
    await cluster.processes.metadata.start();
    await cluster.processes.storage.start();
    await cluster.command("topic", "create", topic, "--partitions", "2");
    await cluster.processes.connector.start();
    const sink = ["--sink", "file", "-s", `directory=${publishedFolder}`, "-s", "rollInterval=0.2"];
    await cluster.command("connector", "create", topic, "-t", topic, ...sink);
    const client = await Client.open({ bootstrapServers: [cluster.bootstrap] });
    const lines = await produce(client, "early");
    await until("early records are published", waitMs, async () => {
      return (await countPublished(published)) === lines.length;
    });
    await cluster.kill9("connector");
    lines.push(...(await produce(client, "late")));
    const before = lines.length;
    await cluster.processes.agent.start();
    await until("the numbers are in the topic", waitMs, async () => {
      return (await topicRecords(client)) === before + numbers.delivered;
    });
    client.close();
    await cluster.kill9("agent", "storage");
    await cluster.writePipeline(numbers.inChannel);
    await cluster.processes.agent.start({ waitReady: false });
    await until("the channel holds the rest", waitMs, async () => {
      const put = await cluster.metric("agent", "millrace_source_records_total").catch(() => 0);
      return put >= numbers.inChannel - numbers.delivered;
    });
    const all = Array.from({ length: numbers.afterUpgrade }, (_, i) => String(i));
    return [...lines, ...all].sort();
  } finally {
    await cluster.kill9(...serviceNames);
  }
}

/** Cuts the zeros that a journal file was extended with: a crash before the extension leaves the same. */
async function cutZeros(folder: string): Promise<void> {
  for (const name of await readdir(folder, { recursive: true })) {
    if (basename(dirname(name)) !== "journal") continue;
    const path = join(folder, name);
    const file = await open(path, "r+");
    const bytes = await file.readFile();
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === 0) end--;
    await file.truncate(end);
    await file.close();
  }
}

async function sizeOf(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const stats = await Promise.all(names.map((name) => stat(join(folder, name))));
  return stats.reduce((sum, entry) => sum + (entry.isFile() ? entry.size : 0), 0);
}

async function main(): Promise<void> {
  const folder = await makeDataFolder("upgrade");
  const target = join(import.meta.dirname, root.version);
  try {
    const expected = await run(folder);
    await cutZeros(folder);
    const bytes = await sizeOf(folder);
    if (bytes > bytesMax) throw new Error(`${folder} has ${bytes} bytes: more than is checked in`);
    await rm(target, { recursive: true, force: true });
    const isKept = (path: string): boolean => !basename(path).startsWith(".lock");
    await cp(folder, join(target, "data"), { recursive: true, filter: isKept });
    await writeFile(join(target, "expected.txt"), `${expected.join("\n")}\n`);
    process.stdout.write(`${target}: ${bytes} bytes, ${expected.length} lines expected\n`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
