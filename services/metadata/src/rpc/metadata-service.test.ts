import {
  AlterTopicRequest,
  CreateTopicRequest,
  DeleteTopicRequest,
  DescribeClusterRequest,
  DescribeTopicRequest,
  InitProducerRequest,
  ListTopicsRequest,
  MetadataServiceService,
  NodeRole,
  NodeState,
  RemoveProducerRequest,
} from "@millrace/proto/metadata";
import { randomId } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { refusal, TestCluster } from "../testing/cluster.ts";

const rpc = MetadataServiceService;
let cluster: TestCluster;
beforeEach(async () => {
  cluster = await TestCluster.start({ sessionTimeoutMs: 60_000 });
});
afterEach(() => cluster.destroy());

describe("MetadataService over gRPC", () => {
  it("describes the cluster: id, controller, nodes of every role, itself too", async () => {
    await cluster.node("storage-1").start();
    await cluster.node("agent-1", NodeRole.AGENT).start();
    const described = await cluster.client.unary(rpc.describeCluster, DescribeClusterRequest.create());
    expect(described).toMatchObject({
      clusterId: cluster.service.clusterId,
      controllerId: "metadata-1",
      featureLevel: 1,
    });
    expect(described.nodes.map((node) => [node.nodeId, node.role, node.state])).toEqual([
      ["metadata-1", NodeRole.METADATA, NodeState.ALIVE],
      ["storage-1", NodeRole.STORAGE, NodeState.ALIVE],
      ["agent-1", NodeRole.AGENT, NodeState.ALIVE],
    ]);
    const [self] = described.nodes;
    expect(`${self?.listeners[0]?.host}:${self?.listeners[0]?.port}`).toBe(cluster.service.address);
  });

  it("creates, describes, lists, alters and deletes topics", async () => {
    await cluster.node("storage-1").start();
    const topic = await cluster.createTopic("logs", 3, { config: { "retention.ms": "60000" } });
    expect(topic).toMatchObject({ name: "logs", config: { "retention.ms": "60000" } });
    expect(
      topic.partitions.map(({ partition, leaderId, leaderEpoch }) => [partition, leaderId, leaderEpoch]),
    ).toEqual([
      [0, "storage-1", 0],
      [1, "storage-1", 0],
      [2, "storage-1", 0],
    ]);
    for (const which of [
      { $case: "name", value: "logs" } as const,
      { $case: "topicId", value: topic.topicId } as const,
    ]) {
      const described = await cluster.client.unary(
        rpc.describeTopic,
        DescribeTopicRequest.create({ topic: which }),
      );
      expect(described.topic).toEqual(topic);
      expect(described.nodes.map((node) => node.nodeId)).toEqual(["storage-1"]);
    }
    const altered = await cluster.client.unary(
      rpc.alterTopic,
      AlterTopicRequest.create({ name: "logs", set: { "retention.bytes": "5" }, unset: ["retention.ms"] }),
    );
    expect(altered.topic).toEqual({ ...topic, config: { "retention.bytes": "5" } });
    const deleted = await cluster.client.unary(
      rpc.deleteTopic,
      DeleteTopicRequest.create({ topic: { $case: "topicId", value: topic.topicId } }),
    );
    expect(deleted.topicId).toBe(topic.topicId);
    const { topics } = await cluster.client.unary(rpc.listTopics, ListTopicsRequest.create());
    expect(topics).toEqual([]);
  });

  it("gives a topic that is created again another id (L3)", async () => {
    await cluster.node("storage-1").start();
    const first = await cluster.createTopic("logs");
    await cluster.client.unary(
      rpc.deleteTopic,
      DeleteTopicRequest.create({ topic: { $case: "name", value: "logs" } }),
    );
    const second = await cluster.createTopic("logs");
    expect(second.topicId).not.toBe(first.topicId);
    const gone = await refusal(
      cluster.client.unary(
        rpc.describeTopic,
        DescribeTopicRequest.create({ topic: { $case: "topicId", value: first.topicId } }),
      ),
    );
    expect(gone.reason).toBe("TOPIC_NOT_FOUND");
  });

  it("lists topics in pages", async () => {
    await cluster.node("storage-1").start();
    for (const name of ["c", "a", "b", "e", "d"]) await cluster.createTopic(name);
    const names: string[][] = [];
    let pageToken = "";
    do {
      const page = await cluster.client.unary(
        rpc.listTopics,
        ListTopicsRequest.create({ pageSize: 2, pageToken }),
      );
      names.push(page.topics.map((topic) => topic.name));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(names).toEqual([["a", "b"], ["c", "d"], ["e"]]);
    const error = await refusal(
      cluster.client.unary(rpc.listTopics, ListTopicsRequest.create({ pageSize: -1 })),
    );
    expect(error.reason).toBe("INVALID_REQUEST");
  });

  it("answers a repeated request id with the first answer, for every change", async () => {
    await cluster.node("storage-1").start();
    const { client } = cluster;
    const twice = async <Response>(send: (requestId: string) => Promise<Response>): Promise<void> => {
      const requestId = randomId();
      const first = await send(requestId);
      expect(await send(requestId)).toEqual(first);
    };
    await twice((requestId) =>
      client.unary(
        rpc.createTopic,
        CreateTopicRequest.create({ requestId, name: "logs", partitionCount: 2 }),
      ),
    );
    await twice((requestId) =>
      client.unary(
        rpc.alterTopic,
        AlterTopicRequest.create({ requestId, name: "logs", set: { "retention.ms": "1" } }),
      ),
    );
    await twice((requestId) =>
      client.unary(rpc.initProducer, InitProducerRequest.create({ requestId, name: "p" })),
    );
    await twice((requestId) =>
      client.unary(rpc.removeProducer, RemoveProducerRequest.create({ requestId, name: "p" })),
    );
    await twice((requestId) =>
      client.unary(
        rpc.deleteTopic,
        DeleteTopicRequest.create({ requestId, topic: { $case: "name", value: "logs" } }),
      ),
    );
  });

  it("remembers a request through a restart", async () => {
    await cluster.node("storage-1").start();
    const request = CreateTopicRequest.create({ requestId: randomId(), name: "logs", partitionCount: 1 });
    const first = await cluster.client.unary(rpc.createTopic, request);
    await cluster.restart();
    expect(await cluster.client.unary(rpc.createTopic, request)).toEqual(first);
  });

  it("only checks when asked to", async () => {
    await cluster.node("storage-1").start();
    expect(await cluster.createTopic("logs", 2, { validateOnly: true })).toMatchObject({ name: "logs" });
    expect((await cluster.client.unary(rpc.listTopics, ListTopicsRequest.create())).topics).toEqual([]);
    expect((await refusal(cluster.createTopic("../x", 1, { validateOnly: true }))).reason).toBe(
      "INVALID_TOPIC",
    );
  });

  it("names what is wrong with a request", async () => {
    const { client } = cluster;
    expect((await refusal(cluster.createTopic("logs"))).reason).toBe("NOT_ENOUGH_REPLICAS");
    await cluster.node("storage-1").start();
    expect((await refusal(cluster.createTopic("../x"))).reason).toBe("INVALID_TOPIC");
    expect((await refusal(cluster.createTopic("logs", 5_000))).reason).toBe("LIMIT_EXCEEDED");
    const misspelt = await refusal(cluster.createTopic("logs", 1, { config: { "retention.sm": "1" } }));
    expect(misspelt).toMatchObject({ reason: "INVALID_CONFIG" });
    expect(misspelt.message).toContain("did you mean retention.ms?");
    await cluster.createTopic("logs");
    expect((await refusal(cluster.createTopic("logs"))).reason).toBe("TOPIC_ALREADY_EXISTS");
    const missing = await refusal(
      client.unary(
        rpc.describeTopic,
        DescribeTopicRequest.create({ topic: { $case: "name", value: "logz" } }),
      ),
    );
    expect(missing).toMatchObject({ reason: "TOPIC_NOT_FOUND" });
    expect(missing.message).toContain("did you mean logs?");
    expect((await refusal(client.unary(rpc.describeTopic, DescribeTopicRequest.create()))).reason).toBe(
      "INVALID_REQUEST",
    );
    expect((await refusal(client.unary(rpc.deleteTopic, DeleteTopicRequest.create()))).reason).toBe(
      "INVALID_REQUEST",
    );
    const alter = AlterTopicRequest.create({ name: "nope", set: {} });
    expect((await refusal(client.unary(rpc.alterTopic, alter))).reason).toBe("TOPIC_NOT_FOUND");
  });

  it("refuses a caller of another cluster", async () => {
    const { client } = cluster;
    const clusterId = "another";
    const calls = [
      client.unary(rpc.createTopic, CreateTopicRequest.create({ name: "logs", clusterId })),
      client.unary(
        rpc.deleteTopic,
        DeleteTopicRequest.create({ topic: { $case: "name", value: "x" }, clusterId }),
      ),
      client.unary(rpc.alterTopic, AlterTopicRequest.create({ name: "logs", clusterId })),
      client.unary(rpc.initProducer, InitProducerRequest.create({ clusterId })),
      client.unary(rpc.removeProducer, RemoveProducerRequest.create({ name: "p", clusterId })),
    ];
    for (const call of calls) expect((await refusal(call)).reason).toBe("CLUSTER_MISMATCH");
  });

  it("gives producers ids and epochs (P1, P2), never the same twice, through a restart", async () => {
    const init = (name: string) =>
      cluster.client.unary(rpc.initProducer, InitProducerRequest.create({ name }));
    const anonymous = new Set<number>();
    for (let round = 0; round < 2; round++) {
      const ids = await Promise.all(Array.from({ length: 1_500 }, () => init("")));
      for (const { producerId, producerEpoch } of ids) {
        expect(producerId).toBeLessThan(2 ** 40);
        expect(producerEpoch).toBe(0);
        anonymous.add(producerId);
      }
      const named = await init("agent/channel");
      expect(named).toEqual({ producerId: 2 ** 40, producerEpoch: round, previousProducerId: 0 });
      await cluster.restart();
    }
    expect(anonymous.size).toBe(3_000);
    const removed = await cluster.client.unary(
      rpc.removeProducer,
      RemoveProducerRequest.create({ name: "agent/channel" }),
    );
    expect(removed.producerId).toBe(2 ** 40);
    expect((await init("agent/channel")).producerId).toBe(2 ** 40 + 1);
  });
});
