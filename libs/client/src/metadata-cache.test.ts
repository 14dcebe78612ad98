import type { Node, Topic } from "@millrace/proto/metadata";
import { describe, expect, it } from "vitest";
import { mergeTopic } from "./metadata-cache.ts";
import { PartitionChooser } from "./partition-chooser.ts";

function topic(leaders: readonly (readonly [string, number])[]): Topic {
  return {
    topicId: "t".repeat(22),
    name: "logs",
    config: {},
    createdMs: 0,
    partitions: leaders.map(([leaderId, leaderEpoch], partition) => ({
      partition,
      leaderId,
      leaderEpoch,
      replicaIds: [leaderId],
      inSyncIds: [leaderId],
      partitionEpoch: 0,
    })),
  };
}

function node(nodeId: string, port: number): Node {
  return {
    nodeId,
    role: 2,
    nodeEpoch: 1,
    incarnation: "",
    directoryId: "",
    listeners: [
      { name: "internal", host: "10.0.0.1", port: 1, tls: false },
      { name: "client", host: "127.0.0.1", port, tls: false },
    ],
    state: 1,
    rack: "",
    version: "",
  };
}

describe("what a client knows of a topic", () => {
  it("takes the leader's client listener", () => {
    const info = mergeTopic(undefined, topic([["a", 1]]), [node("a", 7)]);
    expect(info.partitions[0]?.leaderAddress).toBe("127.0.0.1:7");
  });

  it("never follows a lower leader epoch than one it has seen", () => {
    const nodes = [node("a", 7), node("b", 8)];
    const first = mergeTopic(undefined, topic([["b", 5]]), nodes);
    const behind = mergeTopic(first, topic([["a", 4]]), nodes);
    expect(behind.partitions[0]).toMatchObject({ leaderId: "b", leaderEpoch: 5 });
    const ahead = mergeTopic(behind, topic([["a", 6]]), nodes);
    expect(ahead.partitions[0]).toMatchObject({ leaderId: "a", leaderEpoch: 6 });
  });
});

describe("PartitionChooser", () => {
  const nodes = [node("a", 7)];
  const info = mergeTopic(
    undefined,
    topic([
      ["a", 1],
      ["", 1],
      ["a", 1],
    ]),
    nodes,
  );

  it("keeps a partition until its batch is closed, then takes the next one with a leader", () => {
    const chooser = new PartitionChooser(0);
    expect([chooser.choose(null, info), chooser.choose(null, info)]).toEqual([0, 0]);
    chooser.advance(2, info);
    expect(chooser.choose(null, info)).toBe(0);
    chooser.advance(0, info);
    expect(chooser.choose(null, info)).toBe(2);
    chooser.advance(2, info);
    expect(chooser.choose(null, info)).toBe(0);
  });

  it("sends a key where Kafka does", () => {
    const wide = mergeTopic(undefined, topic(Array.from({ length: 12 }, () => ["a", 1] as const)), nodes);
    // Utils.murmur2("21") = -973932308 (Kafka's own test): & 0x7fffffff = 1173551340, % 12 = 0
    expect(new PartitionChooser(5).choose(Buffer.from("21"), wide)).toBe(0);
  });
});
