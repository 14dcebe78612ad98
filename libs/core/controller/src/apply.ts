/**
 * `image + records = next image`: total and strict. A record that does not fit the image is a broken invariant, a
 * record of an unknown kind or level an UNSUPPORTED_VERSION error; both stop the replica, none is skipped (design §4).
 */
import { AppError, invariant } from "@millrace/base";
import { type ClusterImage, taskKey } from "./image.ts";
import {
  featureLevelSupported,
  namedProducerIdMin,
  producerEpochMax,
  removedProducersKept,
  requestMemoryBatches,
  requestMemoryMax,
} from "./limits.ts";
import type { MetadataRecord, PartitionState } from "./records.ts";

type Writable = { -readonly [Key in keyof ClusterImage]: ClusterImage[Key] };
type MapKey = {
  [Key in keyof ClusterImage]: ClusterImage[Key] extends ReadonlyMap<infer _K, infer _V> ? Key : never;
}[keyof ClusterImage];
type WritableMap<Key extends MapKey> =
  ClusterImage[Key] extends ReadonlyMap<infer K, infer V> ? Map<K, V> : never;

/** An image under construction: maps are copied at their first change. */
class Draft {
  readonly image: Writable;
  readonly #owned = new Set<MapKey>();

  constructor(image: ClusterImage) {
    this.image = { ...image };
  }

  edit<Key extends MapKey>(key: Key): WritableMap<Key> {
    if (!this.#owned.has(key)) {
      this.#owned.add(key);
      // Each key's map is replaced by a copy of itself; the index type cannot say so.
      (this.image as unknown as Record<MapKey, ReadonlyMap<unknown, unknown>>)[key] = new Map<
        unknown,
        unknown
      >(this.image[key]);
    }
    return this.image[key] as WritableMap<Key>;
  }
}

type Appliers = {
  readonly [Kind in MetadataRecord["kind"]]: (
    draft: Draft,
    record: Extract<MetadataRecord, { kind: Kind }>,
  ) => void;
};

/** The image at the start of batch `sequence`: requests that are too old to be repeated are forgotten. */
export function beginBatch(image: ClusterImage, sequence: number): ClusterImage {
  const draft = new Draft(image);
  begin(draft, sequence);
  return draft.image;
}

/** The image after `records`, within the batch that was begun. */
export function applyRecords(image: ClusterImage, records: readonly MetadataRecord[]): ClusterImage {
  const draft = new Draft(image);
  applyAll(draft, records);
  return draft.image;
}

/** The image after the whole batch `sequence`. */
export function applyBatch(
  image: ClusterImage,
  sequence: number,
  records: readonly MetadataRecord[],
): ClusterImage {
  const draft = new Draft(image);
  begin(draft, sequence);
  applyAll(draft, records);
  return draft.image;
}

/**
 * An image under construction: many batches or decisions without a copy for each. `image` changes with every call; it
 * is a value only once nothing more is added.
 */
export class ImageBuilder {
  readonly #draft: Draft;

  constructor(image: ClusterImage) {
    this.#draft = new Draft(image);
  }

  get image(): ClusterImage {
    return this.#draft.image;
  }

  /** Begins batch `sequence`, see {@link beginBatch}. */
  begin(sequence: number): void {
    begin(this.#draft, sequence);
  }

  /** Adds records to the batch. When it throws, the image is of no use any more. */
  add(records: readonly MetadataRecord[]): void {
    applyAll(this.#draft, records);
  }
}

function begin(draft: Draft, sequence: number): void {
  invariant(
    Number.isSafeInteger(sequence) && sequence > draft.image.sequence,
    "batches are applied in order",
  );
  draft.image.sequence = sequence;
  forgetRequests(draft, 0);
}

function applyAll(draft: Draft, records: readonly MetadataRecord[]): void {
  for (const record of records) {
    if (!Object.hasOwn(appliers, record.kind)) {
      throw new AppError(
        "UNSUPPORTED_VERSION",
        `the metadata log holds a record of unknown kind "${(record as { kind: string }).kind}": it was written by a newer version; start that version`,
      );
    }
    const applier = appliers[record.kind] as (draft: Draft, record: MetadataRecord) => void;
    applier(draft, record);
  }
}

const appliers: Appliers = {
  clusterCreated: (draft, record) => {
    invariant(draft.image.clusterId === "", "a log creates one cluster");
    draft.image.clusterId = record.clusterId;
    draft.image.createdMs = record.createdMs;
  },
  featureLevelSet: (draft, record) => {
    if (record.level > featureLevelSupported) {
      throw new AppError(
        "UNSUPPORTED_VERSION",
        `the metadata log is at feature level ${record.level}, this version knows levels up to ${featureLevelSupported}: start a newer version`,
      );
    }
    invariant(record.level > draft.image.featureLevel, "feature levels rise");
    draft.image.featureLevel = record.level;
  },
  controllerElected: (draft, record) => {
    invariant(record.epoch > draft.image.controllerEpoch, "controller epochs rise");
    draft.image.controllerId = record.controllerId;
    draft.image.controllerEpoch = record.epoch;
  },
  topicCreated: (draft, { kind: _, ...topic }) => {
    invariant(!draft.image.topics.has(topic.topicId), "a topic id is used once (L3)");
    invariant(!draft.image.topicIds.has(topic.name), "a name has one topic");
    draft.edit("topics").set(topic.topicId, topic);
    draft.edit("topicIds").set(topic.name, topic.topicId);
  },
  topicConfigChanged: (draft, record) => {
    const topic = draft.image.topics.get(record.topicId);
    invariant(topic !== undefined, "a changed topic exists");
    draft.edit("topics").set(topic.topicId, { ...topic, config: record.config });
  },
  topicDeleted: (draft, record) => {
    const topic = draft.image.topics.get(record.topicId);
    invariant(topic !== undefined, "a deleted topic exists");
    draft.edit("topics").delete(topic.topicId);
    draft.edit("topicIds").delete(topic.name);
    for (const [key, task] of draft.image.tasks) {
      invariant(task.topicId !== topic.topicId, `tasks of a topic end before it: ${key}`);
    }
  },
  partitionChanged: (draft, record) => {
    const topic = draft.image.topics.get(record.topicId);
    const before = topic?.partitions[record.partition];
    invariant(topic !== undefined && before !== undefined, "a changed partition exists");
    checkPartitionStep(before, record.state);
    const partitions = topic.partitions.with(record.partition, record.state);
    draft.edit("topics").set(topic.topicId, { ...topic, partitions });
  },
  nodeRegistered: (draft, { kind: _, ...node }) => {
    const before = draft.image.nodes.get(node.nodeId);
    invariant(before === undefined || node.nodeEpoch > before.nodeEpoch, "node epochs rise");
    draft.edit("nodes").set(node.nodeId, node);
    draft.image.nodeEpochFloor = Math.max(draft.image.nodeEpochFloor, node.nodeEpoch);
    if (node.directoryId !== "") {
      draft.edit("lineages").set(node.directoryId, { nodeId: node.nodeId, startId: node.startId });
    }
  },
  nodeFenced: (draft, record) => setNodeState(draft, record, "fenced"),
  nodeStopping: (draft, record) => setNodeState(draft, record, "stopping"),
  nodeRemoved: (draft, record) => {
    invariant(draft.edit("nodes").delete(record.nodeId), "a removed node was known");
  },
  producerIdsAllocated: (draft, record) => {
    invariant(record.nextId > draft.image.anonymousProducerIdNext, "allocated producer ids rise");
    invariant(record.nextId <= namedProducerIdMin, "anonymous producer ids stay in their range (P1)");
    draft.image.anonymousProducerIdNext = record.nextId;
  },
  producerNamed: (draft, { kind: _, ...producer }) => {
    const before = draft.image.producers.get(producer.name);
    invariant(producer.producerId >= namedProducerIdMin, "named producers have ids of their range (P1)");
    invariant(producer.producerEpoch <= producerEpochMax, "producer epochs are int16 (P2)");
    invariant(
      before === undefined ||
        producer.producerId > before.producerId ||
        (producer.producerId === before.producerId && producer.producerEpoch > before.producerEpoch),
      "(producer id, epoch) of a name rises (P2)",
    );
    draft.edit("producers").set(producer.name, producer);
    draft.image.namedProducerIdNext = Math.max(draft.image.namedProducerIdNext, producer.producerId + 1);
  },
  producerRemoved: (draft, record) => {
    if (record.name !== "") {
      invariant(draft.edit("producers").delete(record.name), "a removed producer was known");
    }
    const removed = draft.edit("removedProducerIds");
    removed.set(record.producerId, true);
    for (const producerId of removed.keys()) {
      if (removed.size <= removedProducersKept) break;
      removed.delete(producerId);
    }
  },
  connectorCreated: (draft, { kind: _, ...connector }) => {
    invariant(!draft.image.connectors.has(connector.name), "a name has one connector");
    draft.edit("connectors").set(connector.name, connector);
  },
  connectorDeleted: (draft, record) => {
    const connector = draft.image.connectors.get(record.name);
    invariant(connector !== undefined, "a deleted connector exists");
    draft.edit("connectors").delete(connector.name);
    for (const task of draft.image.tasks.values()) {
      invariant(task.connector !== connector.name, "tasks of a connector end before it");
    }
    const memory = draft.image.connectorMemory.get(connector.name);
    draft.edit("connectorMemory").set(connector.name, {
      connectorId: connector.connectorId,
      generation: connector.generation,
      taskEpochFloor: memory?.taskEpochFloor ?? 0,
    });
  },
  taskAssigned: (draft, { kind: _, ...task }) => {
    const key = taskKey(task);
    const floor =
      draft.image.tasks.get(key)?.taskEpoch ??
      draft.image.connectorMemory.get(task.connector)?.taskEpochFloor ??
      0;
    invariant(task.taskEpoch > floor, "task epochs rise (C1)");
    invariant(draft.image.connectors.has(task.connector), "a task has a connector");
    const topic = draft.image.topics.get(task.topicId);
    invariant(topic?.partitions[task.partition] !== undefined, "a task has a partition");
    draft.edit("tasks").set(key, task);
  },
  taskEnded: (draft, record) => {
    const key = taskKey(record);
    const task = draft.image.tasks.get(key);
    invariant(task !== undefined, "an ended task existed");
    draft.edit("tasks").delete(key);
    raiseTaskFloor(draft, task.connector, task.taskEpoch);
  },
  requestAnswered: (draft, record) => {
    const sequence = record.sequence === 0 ? draft.image.sequence : record.sequence;
    const requests = draft.edit("requests");
    invariant(!requests.has(record.requestId), "a remembered request is answered from memory");
    requests.set(record.requestId, { answer: record.answer, sequence });
    forgetRequests(draft, requestMemoryMax);
  },
  lineageSeen: (draft, { kind: _, directoryId, ...lineage }) => {
    draft.edit("lineages").set(directoryId, lineage);
  },
  connectorRemembered: (draft, { kind: _, name, ...memory }) => {
    draft.edit("connectorMemory").set(name, memory);
  },
  floorsRaised: ({ image }, record) => {
    image.nodeEpochFloor = Math.max(image.nodeEpochFloor, record.nodeEpoch);
    image.anonymousProducerIdNext = Math.max(image.anonymousProducerIdNext, record.anonymousProducerId + 1);
    image.namedProducerIdNext = Math.max(image.namedProducerIdNext, record.namedProducerId + 1);
  },
};

function checkPartitionStep(before: PartitionState, after: PartitionState): void {
  invariant(after.partitionEpoch === before.partitionEpoch + 1, "partition epochs rise by one");
  invariant(after.leaderEpoch >= before.leaderEpoch, "leader epochs never fall");
  invariant(
    after.leaderId === before.leaderId || after.leaderEpoch > before.leaderEpoch,
    "a change of leader has a higher leader epoch",
  );
  invariant(after.leaderId === "" || after.inSyncIds.includes(after.leaderId), "a leader is in sync");
  invariant(
    after.inSyncIds.every((id) => after.replicaIds.includes(id)),
    "in-sync replicas are replicas",
  );
}

function setNodeState(
  draft: Draft,
  record: { readonly nodeId: string; readonly nodeEpoch: number },
  state: "fenced" | "stopping",
): void {
  const node = draft.image.nodes.get(record.nodeId);
  invariant(
    node !== undefined && node.nodeEpoch === record.nodeEpoch,
    "a node's state is of its registration",
  );
  draft.edit("nodes").set(node.nodeId, { ...node, state });
}

/** C9: a connector that comes back under its name fences the tasks of its former life. */
function raiseTaskFloor(draft: Draft, connectorName: string, taskEpoch: number): void {
  const memory = draft.image.connectorMemory.get(connectorName);
  const connector = draft.image.connectors.get(connectorName);
  invariant(connector !== undefined, "a task has a connector");
  draft.edit("connectorMemory").set(connectorName, {
    connectorId: connector.connectorId,
    generation: connector.generation,
    taskEpochFloor: Math.max(memory?.taskEpochFloor ?? 0, taskEpoch),
  });
}

/** Drops remembered requests behind the window of sequences, and beyond `countMax` when it is not 0. */
function forgetRequests(draft: Draft, countMax: number): void {
  const oldest = draft.image.sequence - requestMemoryBatches;
  for (const [requestId, { sequence }] of draft.image.requests) {
    const isTooMany = countMax > 0 && draft.image.requests.size > countMax;
    if (sequence >= oldest && !isTooMany) break;
    draft.edit("requests").delete(requestId);
  }
}
