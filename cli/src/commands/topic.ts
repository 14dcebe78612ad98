/** `millrace topic`: create, list, describe, alter, delete. */
import type { Client, TopicInfo } from "@millrace/client";
import type { Command } from "commander";
import {
  type ClusterOptions,
  collect,
  type FormatOptions,
  keyValues,
  onTopic,
  withClient,
  withCluster,
  withFormat,
} from "../cluster.ts";
import { confirmed } from "../confirm.ts";
import { addExamples } from "../help.ts";
import { wholeNumber } from "../numbers.ts";
import { fields, Output, table } from "../output.ts";

/** Adds `topic` and what is below it. */
export function addTopicCommands(program: Command): void {
  const topic = program.command("topic").description("Create, list, describe, alter and delete topics.");
  addCreate(topic);
  addList(topic);
  addDescribe(topic);
  addAlter(topic);
  addDelete(topic);
}

function addCreate(topic: Command): void {
  const command = topic
    .command("create")
    .description("Create a topic.")
    .argument("<topic>", "name: a-z A-Z 0-9 . _ -")
    .option(
      "-p, --partitions <count>",
      "number of partitions (default: the cluster's)",
      wholeNumber(1, 100_000),
    )
    .option(
      "-r, --replication-factor <count>",
      "replicas of each (default: the cluster's)",
      wholeNumber(1, 100),
    )
    .option("-c, --config <key=value>", "configuration under Kafka's names; may be repeated", collect)
    .option("--if-not-exists", "succeed when it exists")
    .option("--validate-only", "only check whether it would succeed")
    .action(create);
  addExamples(withFormat(withCluster(command)), [
    ["three partitions", "millrace topic create logs -p 3"],
    ["kept for a day", "millrace topic create clicks -p 6 -c retention.ms=86400000"],
  ]);
}

interface CreateOptions extends ClusterOptions, FormatOptions {
  readonly partitions?: number;
  readonly replicationFactor?: number;
  readonly config?: readonly string[];
  readonly ifNotExists?: boolean;
  readonly validateOnly?: boolean;
}

async function create(name: string, options: CreateOptions): Promise<void> {
  const output = new Output();
  await withClient(options, async (client) => {
    const { partitions, replicationFactor } = options;
    const creation = client.admin.createTopic({
      name,
      ...(partitions === undefined ? {} : { partitions }),
      ...(replicationFactor === undefined ? {} : { replicationFactor }),
      config: keyValues(options.config ?? [], "-c"),
      validateOnly: options.validateOnly ?? false,
    });
    const created = options.ifNotExists === true ? await orExisting(client, name, creation) : await creation;
    const text = fields([
      ["topic", created.name],
      ["id", created.topicId || "-"],
      ["partitions", created.partitions.length],
    ]);
    await output.print({ data: dataOf(created), text }, options.output);
  });
}

async function orExisting(client: Client, name: string, creation: Promise<TopicInfo>): Promise<TopicInfo> {
  const { AppError } = await import("@millrace/base");
  try {
    return await creation;
  } catch (thrown) {
    if (AppError.from(thrown).reason !== "TOPIC_ALREADY_EXISTS") throw thrown;
    return client.admin.describeTopic(name);
  }
}

function addList(topic: Command): void {
  const command = topic
    .command("list")
    .description("List topics.")
    .option("--internal", "internal topics too")
    .action(async (options: ClusterOptions & FormatOptions & { readonly internal?: boolean }) => {
      const output = new Output();
      await withClient(options, async (client) => {
        const topics = await client.admin.listTopics({ includeInternal: options.internal ?? false });
        const rows = topics.map((each) => [each.name, each.partitions.length, each.topicId]);
        await output.print(
          { data: topics.map(dataOf), text: table(["name", "partitions", "id"], rows) },
          options.output,
        );
      });
    });
  addExamples(withFormat(withCluster(command)), [
    ["all topics", "millrace topic list"],
    ["their names, for a script", "millrace topic list -o json | jq -r '.[].name'"],
  ]);
}

function addDescribe(topic: Command): void {
  const command = topic
    .command("describe")
    .description("Show a topic's configuration and where its partitions stand.")
    .argument("<topic>", "name")
    .action(async (name: string, options: ClusterOptions & FormatOptions) => {
      const output = new Output();
      await withClient(options, async (client) => {
        const found = await onTopic(client, name, () => client.admin.describeTopic(name));
        const ranges = await offsetsOf(client, found);
        await output.print(describeView(found, ranges), options.output);
      });
    });
  addExamples(withFormat(withCluster(command)), [
    ["a topic and its partitions", "millrace topic describe logs"],
  ]);
}

interface OffsetRange {
  readonly startOffset: number;
  readonly endOffset: number;
}

/** First and next offset per partition; undefined where the leader does not answer. */
function offsetsOf(client: Client, topic: TopicInfo): Promise<(OffsetRange | undefined)[]> {
  return Promise.all(
    topic.partitions.map(async ({ partition, leaderId }) => {
      if (leaderId === "") return undefined;
      try {
        const [start, end] = await Promise.all([
          client.admin.listOffsets(topic.name, partition, "start"),
          client.admin.listOffsets(topic.name, partition, "end"),
        ]);
        return { startOffset: start.offset, endOffset: end.offset };
      } catch {
        return undefined;
      }
    }),
  );
}

function describeView(
  topic: TopicInfo,
  ranges: readonly (OffsetRange | undefined)[],
): { data: unknown; text: string } {
  const config = Object.entries(topic.config).sort(([a], [b]) => (a < b ? -1 : 1));
  const partitions = topic.partitions.map((each, i) => ({ each, range: ranges[i] }));
  const text = [
    fields([
      ["topic", topic.name],
      ["id", topic.topicId],
      ["created", new Date(topic.createdMs).toISOString()],
      ...config.map(([key, value]) => [key.toLowerCase(), value] as const),
    ]),
    "\n",
    table(
      ["partition", "leader", "epoch", "start", "end", "records"],
      partitions.map(({ each, range }) => [
        each.partition,
        each.leaderId === "" ? "none" : each.leaderId,
        each.leaderEpoch,
        ...(range === undefined
          ? ["-", "-", "-"]
          : [range.startOffset, range.endOffset, range.endOffset - range.startOffset]),
      ]),
    ),
  ].join("");
  const data = {
    ...dataOf(topic),
    partitions: partitions.map(({ each, range }) => ({ ...each, ...range })),
  };
  return { data, text };
}

function dataOf(topic: TopicInfo): Record<string, unknown> {
  const { name, topicId, partitions, config, createdMs } = topic;
  return { name, topicId, partitionCount: partitions.length, config, createdMs };
}

function addAlter(topic: Command): void {
  const command = topic
    .command("alter")
    .description("Change a topic's configuration; it takes effect at once.")
    .argument("<topic>", "name")
    .option("-c, --config <key=value>", "set a key; may be repeated", collect)
    .option("-d, --delete-config <key>", "return a key to its default; may be repeated", collect)
    .action(async (name: string, options: AlterOptions) => {
      const output = new Output();
      const set = keyValues(options.config ?? [], "-c");
      await withClient(options, async (client) => {
        const change = { set, unset: options.deleteConfig ?? [] };
        const altered = await onTopic(client, name, () => client.admin.alterTopic(name, change));
        const rows = Object.entries(altered.config);
        await output.print({ data: dataOf(altered), text: table(["key", "value"], rows) }, options.output);
      });
    });
  addExamples(withFormat(withCluster(command)), [
    ["keep a week", "millrace topic alter logs -c retention.ms=604800000"],
    ["back to the default", "millrace topic alter logs -d retention.ms"],
  ]);
}

interface AlterOptions extends ClusterOptions, FormatOptions {
  readonly config?: readonly string[];
  readonly deleteConfig?: readonly string[];
}

function addDelete(topic: Command): void {
  const command = topic
    .command("delete")
    .description("Delete topics with their records.")
    .argument("<topic...>", "names")
    .option("-y, --yes", "do not ask on a terminal")
    .action(async (names: readonly string[], options: ClusterOptions & { readonly yes?: boolean }) => {
      const output = new Output();
      if (options.yes !== true && !(await confirmed(`Delete ${names.join(", ")} with all records?`))) return;
      await withClient(options, async (client) => {
        for (const name of names) {
          await onTopic(client, name, () => client.admin.deleteTopic(name));
          output.note(`deleted ${name}`);
        }
      });
    });
  addExamples(withCluster(command), [["without a question", "millrace topic delete clicks -y"]]);
}
