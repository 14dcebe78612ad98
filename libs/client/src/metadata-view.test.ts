import type { MetadataDelta, MetadataSnapshot, Topic, WatchMetadataResponse } from "@millrace/proto/metadata";
import { describe, expect, it } from "vitest";
import { type MetadataChange, MetadataView } from "./metadata-view.ts";

const noDelta: MetadataDelta = {
  topics: [],
  deletedTopicIds: [],
  nodes: [],
  removedNodeIds: [],
  connectors: [],
  deletedConnectors: [],
  tasks: [],
  endedTasks: [],
  removedProducerIds: [],
  featureLevel: 0,
};

const noSnapshot: MetadataSnapshot = {
  clusterId: "c",
  topics: [],
  nodes: [],
  connectors: [],
  tasks: [],
  featureLevel: 1,
  removedProducerIds: [],
};

function topic(topicId: string, name: string): Topic {
  return { topicId, name, partitions: [], config: {}, createdMs: 0 };
}

function snapshot(
  sequence: number,
  fields: Partial<MetadataSnapshot>,
  logId = "log",
  hash = "h",
): WatchMetadataResponse {
  return {
    token: { logId, sequence, hash },
    handshake: undefined,
    event: { $case: "snapshot", value: { ...noSnapshot, ...fields } },
  };
}

function delta(
  sequence: number,
  fields: Partial<MetadataDelta>,
  logId = "log",
  hash = "h",
): WatchMetadataResponse {
  return {
    token: { logId, sequence, hash },
    handshake: undefined,
    event: { $case: "delta", value: { ...noDelta, ...fields } },
  };
}

describe("MetadataView", () => {
  it("L3: a name belongs to the topic created last, the deletion of the old one does not take it away", () => {
    const view = new MetadataView();
    view.apply(snapshot(1, { topics: [topic("old", "logs")] }));
    view.apply(delta(2, { deletedTopicIds: ["old"], topics: [topic("new", "logs")] }));
    expect(view.topicByName("logs")?.topicId).toBe("new");
    expect([...view.topics.keys()]).toEqual(["new"]);
  });

  it("tells changes, not heartbeats", () => {
    const view = new MetadataView();
    const changes: MetadataChange["kind"][] = [];
    view.onChange(({ kind }) => changes.push(kind));
    view.apply(snapshot(1, {}));
    view.apply(delta(1, {}));
    view.apply(delta(2, { removedProducerIds: [2 ** 40] }));
    expect(changes).toEqual(["snapshot", "delta"]);
    expect([...view.removedProducerIds]).toEqual([2 ** 40]);
  });

  it("refuses another metadata log, an older state of it and another history, and keeps what it has", () => {
    const view = new MetadataView();
    view.apply(snapshot(5, { topics: [topic("a", "logs")] }));
    expect(() => view.apply(snapshot(9, {}, "another log"))).toThrow(/another history/);
    expect(() => view.apply(snapshot(4, {}))).toThrow(/another history/);
    expect(() => view.apply(snapshot(5, {}, "log", "other hash"))).toThrow(/another history/);
    expect([...view.topics.keys()]).toEqual(["a"]);
    expect(view.token?.sequence).toBe(5);
  });

  it("holds a new start to the token of the one before", () => {
    const view = new MetadataView({ logId: "log", sequence: 5, hash: "h" });
    expect(() => view.apply(snapshot(2, {}))).toThrow(/another history/);
    view.apply(snapshot(6, { topics: [topic("a", "logs")] }));
    expect(view.isLoaded).toBe(true);
  });
});
