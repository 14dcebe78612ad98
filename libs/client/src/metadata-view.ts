/**
 * The whole metadata as a node follows it: a snapshot, then changes. In memory; readers see it at once.
 *
 * Invariant: only one history. A message of another log, or one that goes back, is refused (design §4): a node must not
 * act on a metadata log that was lost and begun anew, it would delete what that log has not heard of.
 */
import { AppError } from "@millrace/base";
import type {
  Connector,
  MetadataDelta,
  MetadataSnapshot,
  Node,
  TaskAssignment,
  Topic,
  WatchMetadataResponse,
  WatchToken,
} from "@millrace/proto/metadata";

/** What a message changed. For a snapshot everything may have. */
export type MetadataChange =
  | { readonly kind: "snapshot" }
  | { readonly kind: "delta"; readonly delta: MetadataDelta };

/** See the file's comment. */
export class MetadataView {
  readonly #topics = new Map<string, Topic>();
  readonly #topicIdByName = new Map<string, string>();
  readonly #nodes = new Map<string, Node>();
  readonly #connectors = new Map<string, Connector>();
  readonly #tasks = new Map<string, TaskAssignment>();
  readonly #removedProducerIds = new Set<number>();
  readonly #listeners = new Set<(change: MetadataChange) => void>();
  #token: WatchToken | undefined;
  #isLoaded = false;
  #featureLevel = 0;

  /** `token`: where the caller stood when it stopped; histories that do not contain it are refused. */
  constructor(token?: WatchToken) {
    this.#token = token;
  }

  /** True once a snapshot (or the tail of a known state) is in. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Where the view stands. */
  get token(): WatchToken | undefined {
    return this.#token;
  }

  get featureLevel(): number {
    return this.#featureLevel;
  }

  /** Topics by id. */
  get topics(): ReadonlyMap<string, Topic> {
    return this.#topics;
  }

  /** Nodes by id. */
  get nodes(): ReadonlyMap<string, Node> {
    return this.#nodes;
  }

  /** Connectors by name. */
  get connectors(): ReadonlyMap<string, Connector> {
    return this.#connectors;
  }

  /** All task assignments. */
  get tasks(): Iterable<TaskAssignment> {
    return this.#tasks.values();
  }

  /** Ids of named producers that were removed and may still have state somewhere. */
  get removedProducerIds(): ReadonlySet<number> {
    return this.#removedProducerIds;
  }

  /** The topic that has this name now. */
  topicByName(name: string): Topic | undefined {
    const topicId = this.#topicIdByName.get(name);
    return topicId === undefined ? undefined : this.#topics.get(topicId);
  }

  /** Calls `run` after each message that changed something. Returns what ends it. */
  onChange(run: (change: MetadataChange) => void): () => void {
    this.#listeners.add(run);
    return () => this.#listeners.delete(run);
  }

  /** Takes a message in. Throws HISTORY_MISMATCH when it is of another history. */
  apply(message: WatchMetadataResponse): void {
    if (message.token !== undefined) this.#checkHistory(message.token, message.event?.$case === "snapshot");
    const { event } = message;
    let change: MetadataChange | undefined;
    if (event?.$case === "snapshot") {
      this.#replace(event.value);
      change = { kind: "snapshot" };
    } else if (event?.$case === "delta") {
      if (this.#update(event.value)) change = { kind: "delta", delta: event.value };
    }
    if (message.token !== undefined) this.#token = message.token;
    if (change === undefined) return;
    for (const run of this.#listeners) run(change);
  }

  #checkHistory(next: WatchToken, isSnapshot: boolean): void {
    const known = this.#token;
    if (known === undefined) {
      if (!isSnapshot) throw new AppError("INTERNAL", "the metadata watch began without a snapshot");
      return;
    }
    const isOther =
      next.logId !== known.logId ||
      next.sequence < known.sequence ||
      (next.sequence === known.sequence && next.hash !== known.hash);
    if (!isOther) return;
    throw new AppError(
      "HISTORY_MISMATCH",
      `the metadata service tells another history: log ${next.logId} at ${next.sequence}, this node has followed log ${known.logId} up to ${known.sequence}. Its metadata was lost or restored; nothing of it is applied here`,
      { metadata: { logId: next.logId, knownLogId: known.logId } },
    );
  }

  #replace(snapshot: MetadataSnapshot): void {
    this.#topics.clear();
    this.#topicIdByName.clear();
    this.#nodes.clear();
    this.#connectors.clear();
    this.#tasks.clear();
    this.#removedProducerIds.clear();
    for (const topic of snapshot.topics) this.#setTopic(topic);
    for (const node of snapshot.nodes) this.#nodes.set(node.nodeId, node);
    for (const connector of snapshot.connectors) this.#connectors.set(connector.name, connector);
    for (const task of snapshot.tasks) this.#tasks.set(taskKey(task), task);
    for (const producerId of snapshot.removedProducerIds) this.#removedProducerIds.add(producerId);
    this.#featureLevel = snapshot.featureLevel;
    this.#isLoaded = true;
  }

  /** True when the delta was more than a heartbeat. */
  #update(delta: MetadataDelta): boolean {
    for (const topicId of delta.deletedTopicIds) this.#deleteTopic(topicId);
    for (const topic of delta.topics) this.#setTopic(topic);
    for (const nodeId of delta.removedNodeIds) this.#nodes.delete(nodeId);
    for (const node of delta.nodes) this.#nodes.set(node.nodeId, node);
    for (const name of delta.deletedConnectors) this.#connectors.delete(name);
    for (const connector of delta.connectors) this.#connectors.set(connector.name, connector);
    for (const task of delta.endedTasks) this.#tasks.delete(taskKey(task));
    for (const task of delta.tasks) this.#tasks.set(taskKey(task), task);
    for (const producerId of delta.removedProducerIds) this.#removedProducerIds.add(producerId);
    if (delta.featureLevel > 0) this.#featureLevel = delta.featureLevel;
    return (
      delta.deletedTopicIds.length +
        delta.topics.length +
        delta.removedNodeIds.length +
        delta.nodes.length +
        delta.deletedConnectors.length +
        delta.connectors.length +
        delta.endedTasks.length +
        delta.tasks.length +
        delta.removedProducerIds.length +
        delta.featureLevel >
      0
    );
  }

  #setTopic(topic: Topic): void {
    this.#topics.set(topic.topicId, topic);
    this.#topicIdByName.set(topic.name, topic.topicId);
  }

  #deleteTopic(topicId: string): void {
    const topic = this.#topics.get(topicId);
    this.#topics.delete(topicId);
    if (topic !== undefined && this.#topicIdByName.get(topic.name) === topicId)
      this.#topicIdByName.delete(topic.name);
  }
}

function taskKey(task: Pick<TaskAssignment, "connector" | "topicId" | "partition">): string {
  return `${task.connector}\n${task.topicId}\n${task.partition}`;
}
