/** Decisions about nodes: registration with lineage (L1, L2), loss, clean stop. */
import { AppError, checkName, printable } from "@millrace/base";
import type { Decision, DecisionInputs, NodeTimedOut, RegisterNode, StopNode } from "./commands.ts";
import { admitNode, partitionKey, withdrawNode } from "./elections.ts";
import type { ClusterImage, NodeImage } from "./image.ts";
import { namedProducerIdMin, nodeTextCharsMax } from "./limits.ts";
import type { MetadataRecord } from "./records.ts";

/** Accepts a start of a node, or refuses it as a copy, an older state or a second process. */
export function registerNode(image: ClusterImage, command: RegisterNode, inputs: DecisionInputs): Decision {
  checkForm(command);
  checkListeners(command, inputs);
  const present = image.nodes.get(command.nodeId);
  checkIdentity(image, command, present);
  checkLineage(image, command, inputs);
  checkLiveSession(command, present);
  const nodeEpoch = Math.max(image.nodeEpochFloor, command.seenNodeEpoch) + 1;
  const { nodeId, role, incarnation, directoryId, listeners, rack, version } = command;
  const startId = command.starts.at(-1) ?? "";
  const records: MetadataRecord[] = [
    ...floorRecords(image, command),
    ...(present === undefined ? forgetOldest(image, inputs) : []),
    {
      kind: "nodeRegistered",
      ...{ nodeId, role, nodeEpoch, incarnation, directoryId, startId, listeners, rack, version },
      state: "alive",
    },
  ];
  if (role === "storage") {
    const seen = new Map(
      command.seenEpochs.map((epoch) => [partitionKey(epoch.topicId, epoch.partition), epoch.leaderEpoch]),
    );
    records.push(...admitNode(image, nodeId, present?.incarnation !== incarnation, seen));
  }
  return { records, answer: { kind: "nodeRegistered", subject: nodeId, nodeEpoch } };
}

/** Fences a node whose session ended. Nothing to do when it has registered again, stopped or gone. */
export function nodeTimedOut(image: ClusterImage, command: NodeTimedOut): Decision {
  const node = image.nodes.get(command.nodeId);
  if (node === undefined || node.nodeEpoch !== command.nodeEpoch || node.state === "fenced") return nothing;
  const { nodeId, nodeEpoch } = node;
  return {
    records: [{ kind: "nodeFenced", nodeId, nodeEpoch }, ...withdrawNode(image, nodeId)],
    answer: undefined,
  };
}

/** A clean stop: partitions and tasks move at once. */
export function stopNode(image: ClusterImage, command: StopNode): Decision {
  const node = image.nodes.get(command.nodeId);
  if (node === undefined || node.nodeEpoch !== command.nodeEpoch || node.state !== "alive") return nothing;
  const { nodeId, nodeEpoch } = node;
  return {
    records: [{ kind: "nodeStopping", nodeId, nodeEpoch }, ...withdrawNode(image, nodeId)],
    answer: undefined,
  };
}

const nothing: Decision = { records: [], answer: undefined };

function checkForm(command: RegisterNode): void {
  checkName("node", command.nodeId);
  const texts = {
    incarnation: command.incarnation,
    "directory id": command.directoryId,
    rack: command.rack,
    version: command.version,
    "start id": command.starts.at(-1) ?? "",
    ...Object.fromEntries(
      command.listeners.flatMap(({ name, host }, index) => [
        [`name of listener ${index}`, name],
        [`host of listener ${index}`, host],
      ]),
    ),
  };
  for (const [what, text] of Object.entries(texts)) {
    if (text.length > nodeTextCharsMax || printable(text, nodeTextCharsMax) !== text) {
      throw new AppError(
        "INVALID_REQUEST",
        `${what} of node ${command.nodeId} is longer than ${nodeTextCharsMax} characters or has control characters`,
      );
    }
  }
  if (command.incarnation === "") {
    throw new AppError("INVALID_REQUEST", `node ${command.nodeId} has no incarnation: it names its start`);
  }
  if (command.directoryId !== "" && command.starts.length === 0) {
    throw new AppError(
      "INVALID_REQUEST",
      `node ${command.nodeId} has a data directory but no start history (rule L1)`,
    );
  }
  if (command.role === "storage" && command.directoryId === "") {
    throw new AppError("INVALID_REQUEST", `storage node ${command.nodeId} has no directory id (rule L2)`);
  }
  for (const seen of [command.seenNodeEpoch, command.seenProducerId, command.seenNamedProducerId]) {
    if (!Number.isSafeInteger(seen) || seen < 0) {
      throw new AppError(
        "INVALID_REQUEST",
        `node ${command.nodeId} reports an impossible epoch or id: ${seen}`,
      );
    }
  }
}

function checkListeners(command: RegisterNode, { limits }: DecisionInputs): void {
  if (command.listeners.length > limits.listenersPerNodeMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `node ${command.nodeId} has ${command.listeners.length} listeners, the limit is ${limits.listenersPerNodeMax}`,
    );
  }
  for (const { port } of command.listeners) {
    if (port < 1 || port > 65_535) {
      throw new AppError("INVALID_REQUEST", `node ${command.nodeId} has a listener on port ${port}`);
    }
  }
}

function checkIdentity(image: ClusterImage, command: RegisterNode, present: NodeImage | undefined): void {
  if (present === undefined) return;
  if (present.role !== command.role) {
    throw new AppError(
      "LINEAGE_REFUSED",
      `node id ${command.nodeId} is taken by a ${present.role} node: start this ${command.role} under another id`,
    );
  }
  if (present.directoryId === command.directoryId) return;
  const hosted = hostedPartitions(image, command.nodeId);
  if (hosted > 0) {
    throw new AppError(
      "LINEAGE_REFUSED",
      `storage node ${command.nodeId} has ${hosted} partition(s) in directory ${present.directoryId}, and this is directory ${command.directoryId}: start it with its own directory, or start this one under another node id (rule L2)`,
      { metadata: { nodeId: command.nodeId, directoryId: present.directoryId } },
    );
  }
}

/**
 * Room for a new node: at the limit, the agent or connector instance that has been gone longest is forgotten. Its
 * directory's lineage is not (L1).
 */
function forgetOldest(image: ClusterImage, { limits }: DecisionInputs): MetadataRecord[] {
  if (image.nodes.size < limits.nodesMax) return [];
  let oldest: NodeImage | undefined;
  for (const node of image.nodes.values()) {
    const isGone = node.state === "fenced" && (node.role === "agent" || node.role === "connector");
    if (isGone && node.nodeEpoch < (oldest?.nodeEpoch ?? Number.POSITIVE_INFINITY)) oldest = node;
  }
  if (oldest === undefined) {
    throw new AppError("LIMIT_EXCEEDED", `the cluster has its limit of ${limits.nodesMax} nodes`);
  }
  return [{ kind: "nodeRemoved", nodeId: oldest.nodeId }];
}

function hostedPartitions(image: ClusterImage, nodeId: string): number {
  let count = 0;
  for (const topic of image.topics.values()) {
    for (const partition of topic.partitions) if (partition.replicaIds.includes(nodeId)) count++;
  }
  return count;
}

/** L1: only a history that contains the last start seen of the directory is accepted. */
function checkLineage(image: ClusterImage, command: RegisterNode, { limits }: DecisionInputs): void {
  if (command.directoryId === "") return;
  const lineage = image.lineages.get(command.directoryId);
  if (lineage === undefined) {
    if (image.lineages.size < limits.rememberedNamesMax) return;
    throw new AppError(
      "LIMIT_EXCEEDED",
      `the cluster remembers ${limits.rememberedNamesMax} data directories (rule L1), which is its limit: start nodes on directories that are kept`,
    );
  }
  if (lineage.nodeId !== command.nodeId) {
    throw new AppError(
      "LINEAGE_REFUSED",
      `directory ${command.directoryId} belongs to node ${lineage.nodeId}, not to ${command.nodeId}: if it was copied, ${newIdentityAdvice(command)} (rule L1)`,
      { metadata: { nodeId: lineage.nodeId, directoryId: command.directoryId } },
    );
  }
  if (!command.starts.includes(lineage.startId)) {
    throw new AppError(
      "LINEAGE_REFUSED",
      `directory ${command.directoryId} of node ${command.nodeId} is a copy or an older state: its start history lacks start ${lineage.startId}, which the cluster has seen. Start the original, or ${newIdentityAdvice(command)} (rule L1)`,
      { metadata: { nodeId: command.nodeId, directoryId: command.directoryId } },
    );
  }
}

/** What an operator can do to give a copied directory an identity of its own. */
function newIdentityAdvice({ role }: RegisterNode): string {
  return role === "agent"
    ? "give this one a new identity with `millrace agent identity --new DIR`"
    : `start this ${role} under a new node id on an empty directory`;
}

/** A second process under the id of a live one is refused, unless its history shows that it continues it. */
function checkLiveSession(command: RegisterNode, present: NodeImage | undefined): void {
  if (present?.state !== "alive" || present.incarnation === command.incarnation) return;
  const startId = command.starts.at(-1) ?? "";
  const continues =
    present.directoryId !== "" &&
    present.directoryId === command.directoryId &&
    startId !== present.startId &&
    command.starts.includes(present.startId);
  if (continues) return;
  throw new AppError(
    "LINEAGE_REFUSED",
    `node ${command.nodeId} is alive under incarnation ${present.incarnation}: stop that process, or start this one under another node id`,
    { metadata: { nodeId: command.nodeId, incarnation: present.incarnation } },
  );
}

/** Producer ids that the directory has seen are never given out again (design §4). */
function floorRecords(image: ClusterImage, command: RegisterNode): MetadataRecord[] {
  const { seenProducerId, seenNamedProducerId } = command;
  // A node of before the split tells one number for both ranges.
  const isNamed = seenProducerId >= namedProducerIdMin;
  const anonymousProducerId = isNamed ? 0 : seenProducerId;
  const namedProducerId = Math.max(seenNamedProducerId, isNamed ? seenProducerId : 0);
  if (anonymousProducerId < image.anonymousProducerIdNext && namedProducerId < image.namedProducerIdNext) {
    return [];
  }
  return [{ kind: "floorsRaised", nodeEpoch: 0, anonymousProducerId, namedProducerId }];
}
