/** What commands that talk to a cluster share: options, the connection, and hints for names that are not there. */
import { AppError, nearestName } from "@millrace/base";
import type { Client } from "@millrace/client";
import { type Command, Option } from "commander";
import { type OutputFormat, outputFormats } from "./output.ts";

/** Where a cluster is looked for by default. */
export const bootstrapDefault = "127.0.0.1:9750";

/** How long a cluster is looked for: with starting and ending, a command without one is over within two seconds. */
const openMsMax = 1_400;

/** Options of every command that talks to a cluster. */
export interface ClusterOptions {
  readonly bootstrapServer: string;
}

/** Options of commands that print data. */
export interface FormatOptions {
  readonly output: OutputFormat;
}

/** Adds `--bootstrap-server`. */
export function withCluster(command: Command): Command {
  return command.addOption(
    new Option(
      "--bootstrap-server <host:port,...>",
      "metadata servers of the cluster; one that answers is enough",
    )
      .env("MILLRACE_BOOTSTRAP_SERVER")
      .default(bootstrapDefault),
  );
}

/** Adds `-o json|yaml`. */
export function withFormat(command: Command): Command {
  return command.addOption(
    new Option("-o, --output <format>", "form of the output").choices(outputFormats).default("table"),
  );
}

/** Opens a client, runs `work`, closes it. A cluster that does not answer is one line within two seconds. */
export async function withClient<T>(
  options: ClusterOptions,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const bootstrapServers = options.bootstrapServer.split(",").map((address) => address.trim());
  const { Client } = await import("@millrace/client");
  const client = await Client.open({
    bootstrapServers,
    clientId: `millrace-cli-${process.pid}`,
    timeoutMs: openMsMax,
  });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** Runs `work` on a topic; when there is none of that name, the error names the nearest one. */
export async function onTopic<T>(client: Client, topic: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (AppError.from(thrown).reason !== "TOPIC_NOT_FOUND") throw thrown;
    const topics = await client.admin.listTopics({ includeInternal: true });
    throw notFound(
      "topic",
      topic,
      topics.map(({ name }) => name),
      "TOPIC_NOT_FOUND",
      thrown,
    );
  }
}

/** Runs `work` on a connector; when there is none of that name, the error names the nearest one. */
export async function onConnector<T>(client: Client, name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (AppError.from(thrown).reason !== "CONNECTOR_NOT_FOUND") throw thrown;
    const connectors = await client.admin.connectors.list();
    throw notFound(
      "connector",
      name,
      connectors.map((each) => each.name),
      "CONNECTOR_NOT_FOUND",
      thrown,
    );
  }
}

function notFound(
  kind: "topic" | "connector",
  name: string,
  known: readonly string[],
  reason: "TOPIC_NOT_FOUND" | "CONNECTOR_NOT_FOUND",
  cause: unknown,
): AppError {
  const nearest = nearestName(name, known);
  const advice =
    nearest === undefined
      ? `millrace ${kind} list shows what is there, millrace ${kind} create makes one`
      : `did you mean "${nearest}"?`;
  return new AppError(reason, `no ${kind} "${name}": ${advice}`, { cause });
}

/** `key=value` options into an object; throws INVALID_REQUEST for anything else. */
export function keyValues(pairs: readonly string[], flag: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at < 1) throw new AppError("INVALID_REQUEST", `${flag} ${pair}: use ${flag} KEY=VALUE`);
    found[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return found;
}

/** Collects a repeated option. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
