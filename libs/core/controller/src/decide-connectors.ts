/** Decisions about connectors (C9). */
import { AppError, checkName, checkTopicName, nearestName, printable } from "@millrace/base";
import type { CreateConnector, Decision, DecisionInputs, DeleteConnector } from "./commands.ts";
import type { ClusterImage, ConnectorImage } from "./image.ts";
import { endTasks } from "./tasks.ts";

/** A connector; one that had the name before goes on under its id unless it is reset (C9). */
export function createConnector(
  image: ClusterImage,
  command: CreateConnector,
  inputs: DecisionInputs,
): Decision {
  checkName("connector", command.name);
  if (image.connectors.has(command.name)) {
    throw new AppError("CONNECTOR_ALREADY_EXISTS", `connector ${command.name} exists`, {
      metadata: { connector: command.name },
    });
  }
  const topics = checkTopics(command.topics, inputs);
  checkSinkConfig(image, command.sinkConfigJson, inputs);
  checkCounts(image, command.name, topics, inputs);
  const memory = image.connectorMemory.get(command.name);
  const connectorId = memory === undefined || command.reset ? inputs.newId : memory.connectorId;
  return {
    records: [
      {
        kind: "connectorCreated",
        name: command.name,
        connectorId,
        topics,
        sinkConfigJson: command.sinkConfigJson,
        generation: (memory?.generation ?? 0) + 1,
        createdMs: inputs.nowMs,
      },
    ],
    answer: { kind: "connectorCreated", subject: command.name, connectorId },
  };
}

/** The end of a connector and its tasks; its id, generation and task epochs stay known (C9). */
export function deleteConnector(image: ClusterImage, command: DeleteConnector): Decision {
  const connector = connectorNamed(image, command.name);
  return {
    records: [
      ...endTasks(image, (task) => task.connector === connector.name),
      { kind: "connectorDeleted", name: connector.name },
    ],
    answer: { kind: "connectorDeleted", subject: connector.name },
  };
}

/** The connector of a name, or CONNECTOR_NOT_FOUND with the nearest name. */
export function connectorNamed(image: ClusterImage, name: string): ConnectorImage {
  const connector = image.connectors.get(name);
  if (connector !== undefined) return connector;
  const near = nearestName(name, image.connectors.keys());
  throw new AppError(
    "CONNECTOR_NOT_FOUND",
    `no connector is named "${printable(name)}"${near === undefined ? "" : `; did you mean ${near}?`}`,
    { metadata: { connector: printable(name) } },
  );
}

function checkTopics(names: readonly string[], { limits }: DecisionInputs): string[] {
  const topics = [...new Set(names)];
  if (topics.length === 0) {
    throw new AppError("INVALID_REQUEST", "a connector delivers at least one topic: name it");
  }
  if (topics.length > limits.topicsPerConnectorMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `a connector delivers at most ${limits.topicsPerConnectorMax} topics, not ${topics.length}`,
    );
  }
  for (const topic of topics) checkTopicName(topic);
  return topics;
}

function checkSinkConfig(image: ClusterImage, json: string, { limits }: DecisionInputs): void {
  if (json.length > limits.sinkConfigCharsMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `the sink configuration has ${json.length} characters, the limit is ${limits.sinkConfigCharsMax}`,
    );
  }
  let total = json.length;
  for (const connector of image.connectors.values()) total += connector.sinkConfigJson.length;
  if (total > limits.sinkConfigTotalCharsMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `all sink configurations together would have ${total} characters, the limit is ${limits.sinkConfigTotalCharsMax}`,
    );
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (error) {
    throw new AppError("INVALID_CONFIG", `the sink configuration is no JSON: ${(error as Error).message}`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new AppError("INVALID_CONFIG", "the sink configuration is no JSON object");
  }
  if (!("type" in parsed) || typeof parsed.type !== "string" || parsed.type === "") {
    throw new AppError("INVALID_CONFIG", 'the sink configuration has no "type" that names its sink');
  }
}

function checkCounts(
  image: ClusterImage,
  name: string,
  topics: readonly string[],
  { limits }: DecisionInputs,
): void {
  if (image.connectors.size >= limits.connectorsMax) {
    throw new AppError("LIMIT_EXCEEDED", `the cluster has its limit of ${limits.connectorsMax} connectors`);
  }
  if (!image.connectorMemory.has(name) && image.connectorMemory.size >= limits.rememberedNamesMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `the cluster remembers ${limits.rememberedNamesMax} connector names: use one of them again`,
    );
  }
  let tasks = image.tasks.size;
  for (const topic of topics) {
    const topicId = image.topicIds.get(topic);
    tasks += topicId === undefined ? 0 : (image.topics.get(topicId)?.partitions.length ?? 0);
  }
  if (tasks > limits.tasksMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `connector ${name} would bring the cluster to ${tasks} tasks, its limit is ${limits.tasksMax}`,
    );
  }
}
