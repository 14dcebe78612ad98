/**
 * The services of `up` in one process: each with its own directory, talking gRPC over loopback like the real thing.
 *
 *   metadata -> storage -> topic and connector -> connector and agent
 *
 * They stop in the opposite order, each after what feeds it.
 */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { AppError } from "@millrace/base";
import type { Client } from "@millrace/client";
import { realDisk, type Shutdown } from "@millrace/runtime";
import type { AgentService } from "@millrace/service-agent";
import type { ConnectorService } from "@millrace/service-connector";
import type { MetadataService } from "@millrace/service-metadata";
import type { StorageService } from "@millrace/service-storage";
import { createTelemetry, startHttp, type Telemetry } from "@millrace/telemetry";
import { version } from "../version.ts";
import type { HoldLimits } from "./hold.ts";
import type { Layout } from "./layout.ts";
import { agentName, messageBytesMax, partitionCount, pipelineOf, topicName } from "./pipeline.ts";
import type { UpPlan } from "./plan.ts";

/** Seconds after which a file that holds records is published. */
const rollIntervalSeconds = 5;

/** Everything that runs. */
export interface Services {
  readonly metadata: MetadataService;
  readonly storage: StorageService;
  readonly connector: ConnectorService;
  readonly agent: AgentService;
  /** Port for clients, as bound. */
  readonly port: number;
  readonly httpPort: number;
}

const loopback = "127.0.0.1";

/** Starts everything; what was started is registered with `shutdown`, also when a later part fails. */
export async function startServices(plan: UpPlan, layout: Layout, shutdown: Shutdown): Promise<Services> {
  await realDisk.makeDirectory(dirname(layout.logFile));
  const telemetries = new Map(
    ["metadata", "storage", "connector", "agent"].map((service) => [service, telemetryOf(service, layout)]),
  );
  const telemetryFor = (service: string): Telemetry => telemetries.get(service) as Telemetry;
  shutdown.register("log", async () => {
    for (const telemetry of telemetries.values()) await telemetry.close();
  });
  // Loaded side by side while the first one starts.
  const later = Promise.all([
    import("@millrace/service-storage"),
    import("@millrace/service-connector"),
    import("@millrace/service-agent"),
    import("@millrace/client"),
  ]);
  later.catch(() => undefined);
  const http = await startHttp([...telemetries.values()], {
    host: loopback,
    port: plan.httpPort,
    flag: "--http-port",
  });
  shutdown.register("HTTP port", () => http.close());

  const { startMetadata } = await import("@millrace/service-metadata");
  const metadata = await startMetadata({
    dataDirectory: layout.metadata,
    listeners: [{ name: "client", host: loopback, port: plan.port }],
    version,
    telemetry: telemetryFor("metadata"),
  });
  shutdown.register("metadata", () => metadata.stop());
  const bootstrapServers = [metadata.address];

  const [{ startStorage }, { startConnector }, { startAgent }, { Client }] = await later;
  const storage = await startStorage({
    dataDirectory: layout.storage,
    bootstrapServers,
    listeners: [{ name: "client", host: loopback, port: 0 }],
    version,
    telemetry: telemetryFor("storage"),
  });
  shutdown.register("storage", async () => throwFirst(await storage.stop()));
  await storage.ready;
  await ensureResources(Client.open({ bootstrapServers }), layout, plan.limits);

  const connector = await startConnector({
    dataDirectory: layout.connector,
    bootstrapServers,
    version,
    telemetry: telemetryFor("connector"),
  });
  shutdown.register("connector", async () => throwFirst(await connector.stop()));
  const pipelineFile = join(layout.root, "pipeline.yaml");
  writeFileSync(pipelineFile, await yamlOf(plan, layout), { mode: 0o600 });
  const agent = await startAgent({
    dataDirectory: layout.agent,
    file: pipelineFile,
    agent: agentName,
    bootstrapServers,
    protectedPaths: [layout.root],
    version,
    telemetry: telemetryFor("agent"),
  });
  shutdown.register("agent", async () => throwFirst(await agent.stop()));
  await connector.ready;
  const port = metadata.listeners[0]?.port ?? plan.port;
  return { metadata, storage, connector, agent, port, httpPort: http.port };
}

function telemetryOf(service: string, layout: Layout): Telemetry {
  return createTelemetry({ service, node: `up-${service}`, version, destination: { file: layout.logFile } });
}

function throwFirst(failures: readonly AppError[]): void {
  const [first] = failures;
  if (first !== undefined) throw first;
}

async function yamlOf(plan: UpPlan, layout: Layout): Promise<string> {
  const { formatYaml } = await import("@millrace/config");
  return `# The pipeline of \`millrace up\`, written anew at every start.\n${formatYaml(pipelineOf(plan, layout))}`;
}

/** Topic and connector are there afterwards, whoever made them. */
async function ensureResources(opening: Promise<Client>, layout: Layout, limits: HoldLimits): Promise<void> {
  const client = await opening;
  try {
    await ensureTopic(client, limits);
    await ensureConnector(client, join(layout.out, topicName));
  } finally {
    client.close();
  }
}

async function ensureTopic(client: Client, limits: HoldLimits): Promise<void> {
  const config: Record<string, string> = {
    "max.message.bytes": String(messageBytesMax),
    "segment.bytes": String(limits.segment),
    "retention.bytes": String(Math.floor(limits.topic / partitionCount)),
    "retention.ms": "-1",
  };
  try {
    const present = await client.admin.describeTopic(topicName);
    // Its sizes are what keeps the whole within --size.
    const isSame = Object.entries(config).every(([key, value]) => present.config[key] === value);
    if (!isSame) await client.admin.alterTopic(topicName, { set: config });
  } catch (thrown) {
    if (AppError.from(thrown).reason !== "TOPIC_NOT_FOUND") throw thrown;
    await client.admin.createTopic({ name: topicName, partitions: partitionCount, config });
  }
}

/** The connector of the topic, into this directory: one that delivers elsewhere (the directory was moved) is made anew and goes on (C9). */
async function ensureConnector(client: Client, directory: string): Promise<void> {
  const sinkConfigJson = JSON.stringify({ type: "file", directory, rollInterval: rollIntervalSeconds });
  const present = (await client.admin.connectors.list()).find(({ name }) => name === topicName);
  if (present?.sinkConfigJson === sinkConfigJson) return;
  if (present !== undefined) await client.admin.connectors.delete(topicName);
  await client.admin.connectors.create({ name: topicName, topics: [topicName], sinkConfigJson });
}
