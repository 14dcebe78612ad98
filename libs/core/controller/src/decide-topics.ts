/** Decisions about topics. */
import { AppError, checkTopicName, internalTopicPrefix, nearestName, printable } from "@millrace/base";
import type { AlterTopic, CreateTopic, Decision, DecisionInputs, DeleteTopic } from "./commands.ts";
import { type ClusterImage, type TopicImage, topicByName } from "./image.ts";
import { placePartitions } from "./placement.ts";
import { endTasks } from "./tasks.ts";
import { changeTopicConfig, topicConfigValue } from "./topic-config.ts";

/** A new topic on alive storage nodes; its id has never been used (L3). */
export function createTopic(image: ClusterImage, command: CreateTopic, inputs: DecisionInputs): Decision {
  checkUserTopic(command.name);
  const present = topicByName(image, command.name);
  if (present !== undefined) {
    throw new AppError("TOPIC_ALREADY_EXISTS", `topic ${command.name} exists (id ${present.topicId})`, {
      metadata: { topic: command.name, topicId: present.topicId },
    });
  }
  const partitionCount = command.partitionCount === 0 ? inputs.defaultPartitionCount : command.partitionCount;
  const replicationFactor =
    command.replicationFactor === 0 ? inputs.defaultReplicationFactor : command.replicationFactor;
  checkCounts(image, command.name, partitionCount, replicationFactor, inputs);
  const config = changeTopicConfig({}, command.config, []);
  checkInSync(config, replicationFactor);
  return {
    records: [
      {
        kind: "topicCreated",
        topicId: inputs.newId,
        name: command.name,
        config,
        createdMs: inputs.nowMs,
        partitions: placePartitions(image, partitionCount, replicationFactor),
      },
    ],
    answer: { kind: "topicCreated", subject: command.name, topicId: inputs.newId },
  };
}

/** The end of a topic and its tasks. The name is free at once, for another topic. */
export function deleteTopic(image: ClusterImage, command: DeleteTopic): Decision {
  const topic =
    command.topicId === ""
      ? topicNamed(image, command.name)
      : topicWithId(image, command.topicId, "no topic has");
  checkUserTopic(topic.name);
  const subject = command.topicId === "" ? command.name : command.topicId;
  return {
    records: [
      ...endTasks(image, (task) => task.topicId === topic.topicId),
      { kind: "topicDeleted", topicId: topic.topicId },
    ],
    answer: { kind: "topicDeleted", subject, topicId: topic.topicId },
  };
}

/** New values of a topic's keys. A change that changes nothing writes nothing but its answer. */
export function alterTopic(image: ClusterImage, command: AlterTopic): Decision {
  const topic = topicNamed(image, command.name);
  checkUserTopic(topic.name);
  const config = changeTopicConfig(topic.config, command.set, command.unset);
  checkInSync(config, topic.partitions[0]?.replicaIds.length ?? 1);
  const isSame = JSON.stringify(config) === JSON.stringify(topic.config);
  return {
    records: isSame ? [] : [{ kind: "topicConfigChanged", topicId: topic.topicId, config }],
    answer: { kind: "topicAltered", subject: command.name, topicId: topic.topicId },
  };
}

/** The topic of a name, or TOPIC_NOT_FOUND with the nearest name. */
export function topicNamed(image: ClusterImage, name: string): TopicImage {
  const topic = topicByName(image, name);
  if (topic !== undefined) return topic;
  const near = nearestName(name, image.topicIds.keys());
  throw new AppError(
    "TOPIC_NOT_FOUND",
    `no topic is named "${printable(name)}"${near === undefined ? "" : `; did you mean ${near}?`}`,
    { metadata: { topic: printable(name) } },
  );
}

/** The topic of an id, or TOPIC_NOT_FOUND. */
export function topicWithId(image: ClusterImage, topicId: string, what: string): TopicImage {
  const topic = image.topics.get(topicId);
  if (topic !== undefined) return topic;
  throw new AppError("TOPIC_NOT_FOUND", `${what} the id ${printable(topicId)}: it was deleted or never was`, {
    metadata: { topicId: printable(topicId) },
  });
}

function checkUserTopic(name: string): void {
  checkTopicName(name);
  if (name.startsWith(internalTopicPrefix)) {
    throw new AppError("INVALID_TOPIC", `topics named ${internalTopicPrefix}* belong to the system`);
  }
}

function checkCounts(
  image: ClusterImage,
  name: string,
  partitionCount: number,
  replicationFactor: number,
  { limits }: DecisionInputs,
): void {
  if (!Number.isSafeInteger(partitionCount) || partitionCount < 1) {
    throw new AppError("INVALID_REQUEST", `a topic has at least 1 partition, not ${partitionCount}`);
  }
  if (partitionCount > limits.partitionsPerTopicMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `${partitionCount} partitions are more than a topic may have (${limits.partitionsPerTopicMax})`,
    );
  }
  if (!Number.isSafeInteger(replicationFactor) || replicationFactor < 1) {
    throw new AppError("INVALID_REQUEST", `a replication factor is at least 1, not ${replicationFactor}`);
  }
  if (replicationFactor > limits.replicationFactorMax) {
    throw new AppError(
      "INVALID_REQUEST",
      `replication factor ${replicationFactor} is not supported: this version keeps at most ${limits.replicationFactorMax} replica(s) of a partition`,
    );
  }
  if (image.topics.size >= limits.topicsMax) {
    throw new AppError("LIMIT_EXCEEDED", `the cluster has its limit of ${limits.topicsMax} topics`);
  }
  let total = partitionCount;
  for (const topic of image.topics.values()) total += topic.partitions.length;
  if (total > limits.partitionsMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `with ${partitionCount} more partitions the cluster would pass its limit of ${limits.partitionsMax}`,
    );
  }
  checkTaskCount(image, name, partitionCount, limits.tasksMax);
}

function checkTaskCount(image: ClusterImage, name: string, partitionCount: number, tasksMax: number): void {
  let followers = 0;
  for (const connector of image.connectors.values()) if (connector.topics.includes(name)) followers++;
  const total = image.tasks.size + followers * partitionCount;
  if (total > tasksMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `connectors of ${name} would bring the cluster to ${total} tasks, its limit is ${tasksMax}`,
    );
  }
}

function checkInSync(config: Readonly<Record<string, string>>, replicationFactor: number): void {
  const minimum = Number(topicConfigValue(config, "min.insync.replicas"));
  if (minimum > replicationFactor) {
    throw new AppError(
      "INVALID_CONFIG",
      `topic configuration: min.insync.replicas=${minimum} can never be met with ${replicationFactor} replica(s)`,
    );
  }
}
