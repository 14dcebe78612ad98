import { AppError, InvariantError } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { applyBatch, applyRecords } from "./apply.ts";
import { type ClusterImage, emptyImage } from "./image.ts";
import {
  featureLevelSupported,
  removedProducersKept,
  requestMemoryBatches,
  requestMemoryMax,
} from "./limits.ts";
import type { MetadataRecord, PartitionState } from "./records.ts";

const state: PartitionState = {
  leaderId: "s1",
  leaderEpoch: 4,
  replicaIds: ["s1"],
  inSyncIds: ["s1"],
  partitionEpoch: 7,
};

const base: ClusterImage = applyBatch(emptyImage, 1, [
  { kind: "clusterCreated", clusterId: "c", createdMs: 0 },
  { kind: "controllerElected", controllerId: "m", epoch: 3 },
  { kind: "topicCreated", topicId: "t", name: "logs", config: {}, createdMs: 0, partitions: [state] },
  {
    kind: "nodeRegistered",
    ...{ nodeId: "s1", role: "storage", nodeEpoch: 5, incarnation: "i", directoryId: "d", startId: "i" },
    ...{ listeners: [], rack: "", version: "", state: "alive" },
  },
]);

/** Each is a record that no correct controller writes into a log that stands at `base`. */
const impossible: Record<string, MetadataRecord> = {
  "a second cluster": { kind: "clusterCreated", clusterId: "d", createdMs: 0 },
  "a lower controller epoch": { kind: "controllerElected", controllerId: "n", epoch: 3 },
  "a topic id used again (L3)": {
    kind: "topicCreated",
    ...{ topicId: "t", name: "other", config: {}, createdMs: 0, partitions: [] },
  },
  "two topics of one name": {
    kind: "topicCreated",
    ...{ topicId: "u", name: "logs", config: {}, createdMs: 0, partitions: [] },
  },
  "a deletion of nothing": { kind: "topicDeleted", topicId: "u" },
  "a change of no partition": { kind: "partitionChanged", topicId: "t", partition: 1, state },
  "a lower leader epoch": {
    kind: "partitionChanged",
    ...{ topicId: "t", partition: 0, state: { ...state, leaderEpoch: 3, partitionEpoch: 8 } },
  },
  "another leader under the same epoch": {
    kind: "partitionChanged",
    ...{ topicId: "t", partition: 0, state: { ...state, leaderId: "", partitionEpoch: 8 } },
  },
  "a skipped partition epoch": {
    kind: "partitionChanged",
    ...{ topicId: "t", partition: 0, state: { ...state, partitionEpoch: 9 } },
  },
  "a leader out of sync": {
    kind: "partitionChanged",
    ...{ topicId: "t", partition: 0, state: { ...state, leaderId: "s2", leaderEpoch: 5, partitionEpoch: 8 } },
  },
  "a fencing of another registration": { kind: "nodeFenced", nodeId: "s1", nodeEpoch: 4 },
  "a removal of no node": { kind: "nodeRemoved", nodeId: "s2" },
  "producer ids given out again": { kind: "producerIdsAllocated", nextId: 1 },
  "an anonymous id in the named range (P1)": { kind: "producerIdsAllocated", nextId: 2 ** 40 + 1 },
  "a named id in the anonymous range (P1)": {
    kind: "producerNamed",
    ...{ name: "p", producerId: 5, producerEpoch: 0, startId: "", previousProducerId: 0 },
  },
  "a producer epoch beyond int16 (P2)": {
    kind: "producerNamed",
    ...{ name: "p", producerId: 2 ** 40, producerEpoch: 32_768, startId: "", previousProducerId: 0 },
  },
  "a task of no connector": {
    kind: "taskAssigned",
    ...{ connector: "k", topicId: "t", partition: 0, instanceId: "", incarnation: "", taskEpoch: 1 },
  },
  "an end of no task": { kind: "taskEnded", connector: "k", topicId: "t", partition: 0, taskEpoch: 1 },
};

describe("apply is strict", () => {
  it.each(Object.entries(impossible))("%s breaks an invariant", (_, record) => {
    expect(() => applyRecords(base, [record])).toThrow(InvariantError);
  });

  it("a record of an unknown kind stops the replica with a clear message", () => {
    const unknown = { kind: "quorumChanged" } as unknown as MetadataRecord;
    expect(() => applyRecords(base, [unknown])).toThrow(AppError);
    expect(() => applyRecords(base, [unknown])).toThrow(/newer version/);
    const inherited = { kind: "toString" } as unknown as MetadataRecord;
    expect(() => applyRecords(base, [inherited])).toThrow(/unknown kind/);
  });

  it("a newer feature level stops the replica with a clear message", () => {
    expect(() => applyRecords(base, [{ kind: "featureLevelSet", level: featureLevelSupported + 1 }])).toThrow(
      /start a newer version/,
    );
  });

  it("batches are applied in order", () => {
    expect(() => applyBatch(base, 1, [])).toThrow(InvariantError);
  });

  it("an image is a value: applying to it does not change it", () => {
    const before = structuredClone(base);
    applyBatch(base, 2, [
      { kind: "topicDeleted", topicId: "t" },
      { kind: "nodeFenced", nodeId: "s1", nodeEpoch: 5 },
    ]);
    expect(base).toEqual(before);
  });
});

describe("bounded memory", () => {
  const answered = (requestId: string): MetadataRecord => ({
    kind: "requestAnswered",
    requestId,
    answer: { kind: "connectorDeleted", subject: "k" },
    sequence: 0,
  });

  it("requests are remembered for a bounded number of batches, by sequence alone", () => {
    const image = applyBatch(emptyImage, 10, [answered("r")]);
    expect(applyBatch(image, 10 + requestMemoryBatches, []).requests.has("r")).toBe(true);
    expect(applyBatch(image, 11 + requestMemoryBatches, []).requests.has("r")).toBe(false);
  });

  it("no more than a bounded number of requests is remembered, the latest ones", () => {
    const many = Array.from({ length: requestMemoryMax + 5 }, (_, index) => answered(`r${index}`));
    const { requests } = applyBatch(emptyImage, 1, many);
    expect(requests.size).toBe(requestMemoryMax);
    expect(requests.has("r4")).toBe(false);
    expect(requests.has("r5")).toBe(true);
  });

  it("no more than a bounded number of removed producers is kept, the latest ones", () => {
    const many = Array.from(
      { length: removedProducersKept + 2 },
      (_, index): MetadataRecord => ({
        kind: "producerRemoved",
        name: "",
        producerId: 2 ** 40 + index,
      }),
    );
    const { removedProducerIds } = applyBatch(emptyImage, 1, many);
    expect(removedProducerIds.size).toBe(removedProducersKept);
    expect(removedProducerIds.has(2 ** 40 + 1)).toBe(false);
  });
});
