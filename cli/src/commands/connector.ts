/** `millrace connector`: create, list, status, delete. */
import { readFile } from "node:fs/promises";
import { AppError } from "@millrace/base";
import type { Client } from "@millrace/client";
import type { Command } from "commander";
import {
  type ClusterOptions,
  collect,
  type FormatOptions,
  keyValues,
  onConnector,
  withClient,
  withCluster,
  withFormat,
} from "../cluster.ts";
import { confirmed } from "../confirm.ts";
import { addExamples } from "../help.ts";
import { fields, Output, table } from "../output.ts";

/** Adds `connector` and what is below it. */
export function addConnectorCommands(program: Command): void {
  const connector = program
    .command("connector")
    .description("Deliver topics into outside systems: create, list, status, delete.");
  addCreate(connector);
  addList(connector);
  addStatus(connector);
  addDelete(connector);
}

interface CreateOptions extends ClusterOptions, FormatOptions {
  readonly topic?: readonly string[];
  readonly sink?: string;
  readonly set?: readonly string[];
  readonly file?: string;
  readonly reset?: boolean;
}

function addCreate(connector: Command): void {
  const command = connector
    .command("create")
    .description("Create a connector: topics into a sink. A name used before goes on where it stood.")
    .argument("<name>", "name: a-z A-Z 0-9 . _ -")
    .option("-t, --topic <topic>", "topic to deliver; may be repeated", collect)
    .option("--sink <type>", "sink type (see docs/reference/components)")
    .option("-s, --set <key=value>", "key of the sink's configuration; may be repeated", collect)
    .option("-f, --file <path>", "sink configuration as a JSON file; --set wins")
    .option("--reset", "start over instead of going on where the name stood")
    .action(async (name: string, options: CreateOptions) => {
      const output = new Output();
      const topics = options.topic ?? [];
      if (topics.length === 0)
        throw new AppError("INVALID_REQUEST", "a connector delivers topics: name one with -t TOPIC");
      const sinkConfigJson = JSON.stringify(await sinkConfigOf(options));
      // a mistake is told here, where it was made, and not by a task that fails later
      const { checkSinkConfig } = await import("@millrace/service-connector");
      await checkSinkConfig(name, sinkConfigJson);
      await withClient(options, async (client) => {
        await noteMissingTopics(client, topics, output);
        const created = await client.admin.connectors.create({
          name,
          topics,
          sinkConfigJson,
          reset: options.reset ?? false,
        });
        const text = fields([
          ["connector", created.name],
          ["topics", created.topics.join(" ")],
          ["id", created.connectorId],
        ]);
        await output.print({ data: dataOf(created), text }, options.output);
      });
    });
  addExamples(withFormat(withCluster(command)), [
    [
      "a topic into files",
      "millrace connector create archive -t logs --sink file -s directory=/var/archive -s rollInterval=60",
    ],
  ]);
}

/** Topics may come later; that nothing is delivered until then is said. */
async function noteMissingTopics(client: Client, topics: readonly string[], output: Output): Promise<void> {
  const known = new Set(
    (await client.admin.listTopics({ includeInternal: true })).map((topic) => topic.name),
  );
  for (const topic of topics.filter((name) => !known.has(name))) {
    output.note(`topic ${topic} does not exist yet: the connector waits for it`);
  }
}

/** The sink's configuration with its type: the file, overlaid with --set and --sink. */
async function sinkConfigOf(options: CreateOptions): Promise<Record<string, unknown>> {
  const fromFile = options.file === undefined ? {} : await readConfig(options.file);
  const set = Object.entries(keyValues(options.set ?? [], "-s")).map(
    ([key, value]) => [key, typed(value)] as const,
  );
  const type = options.sink ?? fromFile["type"];
  if (type === undefined)
    throw new AppError("INVALID_REQUEST", "name the sink with --sink TYPE, for instance --sink file");
  return { ...fromFile, ...Object.fromEntries(set), type };
}

async function readConfig(path: string): Promise<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return { ...parsed };
    throw new Error("not a JSON object");
  } catch (error) {
    throw new AppError("INVALID_CONFIG", `-f ${path}: ${AppError.from(error).message}`, { cause: error });
  }
}

/** Numbers and booleans as such: sinks' schemas are strict about types. */
function typed(value: string): string | number | boolean {
  if (value === "true" || value === "false") return value === "true";
  return /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
}

function addList(connector: Command): void {
  const command = connector
    .command("list")
    .description("List connectors.")
    .action(async (options: ClusterOptions & FormatOptions) => {
      const output = new Output();
      await withClient(options, async (client) => {
        const connectors = (await client.admin.connectors.list()).map(dataOf);
        const rows = connectors.map((each) => [each.name, String(each.sink["type"]), each.topics.join(" ")]);
        await output.print(
          { data: connectors, text: table(["name", "sink", "topics"], rows) },
          options.output,
        );
      });
    });
  addExamples(withFormat(withCluster(command)), [["all connectors", "millrace connector list"]]);
}

/** Names of the task states of controller.proto. */
const taskStates = ["-", "starting", "running", "failed"];

function addStatus(connector: Command): void {
  const command = connector
    .command("status")
    .description("Show who runs a connector's tasks and how far they are.")
    .argument("<name>", "name")
    .action(async (name: string, options: ClusterOptions & FormatOptions) => {
      const output = new Output();
      await withClient(options, async (client) => {
        const {
          connector: found,
          assignments,
          statuses,
        } = await onConnector(client, name, () => client.admin.connectors.describe(name));
        const tasks = assignments.map((assignment) => {
          const { topicId, partition, instanceId, taskEpoch } = assignment;
          const status = statuses.find((each) => each.topicId === topicId && each.partition === partition);
          return {
            topicId,
            partition,
            instanceId,
            taskEpoch,
            state: taskStates[status?.state ?? 0] ?? "-",
            resumeOffset: status?.resumeOffset ?? -1,
            publishedCount: status?.publishedCount ?? 0,
            error: status?.error ?? "",
          };
        });
        const rows = tasks.map((task) => [
          task.topicId,
          task.partition,
          task.instanceId || "none",
          task.taskEpoch,
          task.state,
          task.resumeOffset,
          task.publishedCount,
          task.error || "-",
        ]);
        const headers = [
          "topic id",
          "partition",
          "instance",
          "epoch",
          "state",
          "resume",
          "published",
          "error",
        ];
        const head = found === undefined ? {} : dataOf(found);
        await output.print({ data: { ...head, tasks }, text: table(headers, rows) }, options.output);
      });
    });
  addExamples(withFormat(withCluster(command)), [["how far it is", "millrace connector status archive"]]);
}

function addDelete(connector: Command): void {
  const command = connector
    .command("delete")
    .description("Delete connectors. What they delivered stays; the name can be created again and goes on.")
    .argument("<name...>", "names")
    .option("-y, --yes", "do not ask on a terminal")
    .action(async (names: readonly string[], options: ClusterOptions & { readonly yes?: boolean }) => {
      const output = new Output();
      if (options.yes !== true && !(await confirmed(`Delete ${names.join(", ")}?`))) return;
      await withClient(options, async (client) => {
        for (const name of names) {
          await onConnector(client, name, () => client.admin.connectors.delete(name));
          output.note(`deleted ${name}`);
        }
      });
    });
  addExamples(withCluster(command), [["without a question", "millrace connector delete archive -y"]]);
}

interface ConnectorData {
  readonly name: string;
  readonly connectorId: string;
  readonly topics: readonly string[];
  readonly sink: Readonly<Record<string, unknown>>;
  readonly generation: number;
  readonly createdMs: number;
}

function dataOf(connector: {
  readonly name: string;
  readonly connectorId: string;
  readonly topics: readonly string[];
  readonly sinkConfigJson: string;
  readonly generation: number;
  readonly createdMs: number;
}): ConnectorData {
  const { name, connectorId, topics, generation, createdMs } = connector;
  const sink = JSON.parse(connector.sinkConfigJson || "{}") as Record<string, unknown>;
  return { name, connectorId, topics, sink, generation, createdMs };
}
