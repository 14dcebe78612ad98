/** Who leads a partition when nodes come and go (kafka.md §2.7; unclean election is off). */
import type { ClusterImage } from "./image.ts";
import type { MetadataRecord, PartitionState } from "./records.ts";

/** Records for the partitions of a node that no longer serves: another in-sync replica leads, or none. */
export function withdrawNode(image: ClusterImage, nodeId: string): MetadataRecord[] {
  return forPartitionsOf(image, nodeId, (state) => {
    // The last in-sync replica stays in: nobody else has all acknowledged records.
    const remaining = state.inSyncIds.filter((id) => id !== nodeId);
    const inSyncIds = remaining.length > 0 ? remaining : state.inSyncIds;
    if (state.leaderId !== nodeId) {
      return inSyncIds.length === state.inSyncIds.length ? undefined : { ...state, inSyncIds };
    }
    const leaderId = firstServing(image, state, inSyncIds, nodeId);
    return { ...state, inSyncIds, leaderId, leaderEpoch: state.leaderEpoch + 1 };
  });
}

/**
 * Records for the partitions of a node that registered: where it is in sync and nobody leads, or it leads itself
 * under a former start, it is elected with a higher epoch. No leader epoch is at or below one the node has seen.
 */
export function admitNode(
  image: ClusterImage,
  nodeId: string,
  isNewStart: boolean,
  seen: ReadonlyMap<string, number>,
): MetadataRecord[] {
  return forPartitionsOf(image, nodeId, (state, key) => {
    const seenEpoch = seen.get(key) ?? -1;
    const leadsAgain = state.leaderId === nodeId && isNewStart;
    const leadsNow = state.leaderId === "" && state.inSyncIds.includes(nodeId);
    const isBehind = seenEpoch > state.leaderEpoch;
    if (!leadsAgain && !leadsNow && !isBehind) return undefined;
    const leaderEpoch = Math.max(state.leaderEpoch, seenEpoch) + 1;
    return { ...state, leaderId: leadsNow ? nodeId : state.leaderId, leaderEpoch };
  });
}

/** Key of a partition in a report of seen epochs. */
export function partitionKey(topicId: string, partition: number): string {
  return `${topicId}/${partition}`;
}

function forPartitionsOf(
  image: ClusterImage,
  nodeId: string,
  change: (state: PartitionState, key: string) => PartitionState | undefined,
): MetadataRecord[] {
  const records: MetadataRecord[] = [];
  for (const topic of image.topics.values()) {
    topic.partitions.forEach((state, partition) => {
      if (!state.replicaIds.includes(nodeId)) return;
      const next = change(state, partitionKey(topic.topicId, partition));
      if (next === undefined) return;
      records.push({
        kind: "partitionChanged",
        topicId: topic.topicId,
        partition,
        state: { ...next, partitionEpoch: state.partitionEpoch + 1 },
      });
    });
  }
  return records;
}

/** The first replica in assignment order that is in sync and alive; empty when there is none. */
function firstServing(
  image: ClusterImage,
  state: PartitionState,
  inSyncIds: readonly string[],
  leavingId: string,
): string {
  const serving = state.replicaIds.find(
    (id) => id !== leavingId && inSyncIds.includes(id) && image.nodes.get(id)?.state === "alive",
  );
  return serving ?? "";
}
