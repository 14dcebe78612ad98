/**
 * A snapshot is a list of records that makes the image from nothing: the log's own vocabulary, so that snapshots need
 * no second format and can be cut into chunks anywhere.
 */
import type { ClusterImage } from "./image.ts";
import type { MetadataRecord } from "./records.ts";

/** Records whose application to the empty image, begun at `image.sequence`, gives `image`. */
export function snapshotRecords(image: ClusterImage): MetadataRecord[] {
  const records: MetadataRecord[] = [];
  if (image.clusterId !== "") {
    records.push({ kind: "clusterCreated", clusterId: image.clusterId, createdMs: image.createdMs });
  }
  if (image.featureLevel > 0) records.push({ kind: "featureLevelSet", level: image.featureLevel });
  if (image.controllerEpoch > 0) {
    records.push({
      kind: "controllerElected",
      controllerId: image.controllerId,
      epoch: image.controllerEpoch,
    });
  }
  records.push({
    kind: "floorsRaised",
    nodeEpoch: image.nodeEpochFloor,
    anonymousProducerId: image.anonymousProducerIdNext - 1,
    namedProducerId: image.namedProducerIdNext - 1,
  });
  for (const [directoryId, lineage] of image.lineages) {
    records.push({ kind: "lineageSeen", directoryId, ...lineage });
  }
  for (const topic of image.topics.values()) records.push({ kind: "topicCreated", ...topic });
  for (const node of image.nodes.values()) records.push({ kind: "nodeRegistered", ...node });
  for (const connector of image.connectors.values()) {
    records.push({ kind: "connectorCreated", ...connector });
  }
  for (const task of image.tasks.values()) records.push({ kind: "taskAssigned", ...task });
  // After the tasks: a live task may lie below the floor that an ended one left.
  for (const [name, memory] of image.connectorMemory) {
    records.push({ kind: "connectorRemembered", name, ...memory });
  }
  for (const producer of image.producers.values()) records.push({ kind: "producerNamed", ...producer });
  for (const producerId of image.removedProducerIds.keys()) {
    records.push({ kind: "producerRemoved", name: "", producerId });
  }
  for (const [requestId, request] of image.requests) {
    records.push({ kind: "requestAnswered", requestId, ...request });
  }
  return records;
}
