/** Where a new topic's replicas go: the least loaded alive nodes, leaders spread, racks spread. */
import { AppError } from "@millrace/base";
import { aliveNodes, type ClusterImage, compareText, type NodeImage } from "./image.ts";
import type { PartitionState } from "./records.ts";

interface Load {
  readonly node: NodeImage;
  replicas: number;
  leaders: number;
}

/** Partitions for a new topic. Throws when there are too few nodes. */
export function placePartitions(
  image: ClusterImage,
  partitionCount: number,
  replicationFactor: number,
): PartitionState[] {
  const alive = aliveNodes(image, "storage");
  checkNodeCount(image, alive.length, replicationFactor);
  const loads = loadOf(image, alive);
  return Array.from({ length: partitionCount }, () => {
    const chosen = chooseReplicas(loads, replicationFactor);
    const replicaIds = chosen.map((load) => load.node.nodeId);
    return {
      leaderId: replicaIds[0] as string,
      leaderEpoch: 0,
      replicaIds,
      inSyncIds: replicaIds,
      partitionEpoch: 0,
    };
  });
}

function checkNodeCount(image: ClusterImage, aliveCount: number, replicationFactor: number): void {
  if (aliveCount >= replicationFactor) return;
  const knownCount = [...image.nodes.values()].filter((node) => node.role === "storage").length;
  if (knownCount >= replicationFactor || knownCount === 0) {
    throw new AppError(
      "NOT_ENOUGH_REPLICAS",
      `${replicationFactor} storage node${replicationFactor === 1 ? " is" : "s are"} needed and ${aliveCount} of ${knownCount} registered ones are alive: start storage nodes, then repeat`,
    );
  }
  throw new AppError(
    "INVALID_REQUEST",
    `replication factor ${replicationFactor} is larger than the number of storage nodes (${knownCount})`,
  );
}

function loadOf(image: ClusterImage, alive: readonly NodeImage[]): Load[] {
  const loads = new Map(
    alive.map((node): [string, Load] => [node.nodeId, { node, replicas: 0, leaders: 0 }]),
  );
  for (const topic of image.topics.values()) {
    for (const partition of topic.partitions) {
      partition.replicaIds.forEach((nodeId, index) => {
        const load = loads.get(nodeId);
        if (load === undefined) return;
        load.replicas++;
        // The preferred leader counts, whoever leads at the moment.
        if (index === 0) load.leaders++;
      });
    }
  }
  return [...loads.values()];
}

/** The leader's node first. Counts the choice in the loads. */
function chooseReplicas(loads: readonly Load[], replicationFactor: number): Load[] {
  const chosen: Load[] = [];
  const racks = new Set<string>();
  while (chosen.length < replicationFactor) {
    const isFirst = chosen.length === 0;
    const [best] = loads
      .filter((load) => !chosen.includes(load))
      .sort(
        (a, b) =>
          Number(racks.has(a.node.rack)) - Number(racks.has(b.node.rack)) ||
          (isFirst ? a.leaders - b.leaders : 0) ||
          a.replicas - b.replicas ||
          compareText(a.node.nodeId, b.node.nodeId),
      ) as [Load, ...Load[]];
    best.replicas++;
    if (isFirst) best.leaders++;
    // Nodes without a rack do not avoid each other.
    if (best.node.rack !== "") racks.add(best.node.rack);
    chosen.push(best);
  }
  return chosen;
}
