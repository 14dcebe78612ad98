import {
  ConnectorServiceService,
  CreateConnectorRequest,
  DeleteConnectorRequest,
  DescribeConnectorRequest,
  type DescribeConnectorResponse,
  ListConnectorsRequest,
} from "@millrace/proto/connector";
import { TaskState } from "@millrace/proto/controller";
import { DeleteTopicRequest, MetadataServiceService, NodeRole } from "@millrace/proto/metadata";
import { randomId } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { refusal, TestCluster, type TestNode } from "../testing/cluster.ts";

const rpc = ConnectorServiceService;
const sessionTimeoutMs = 600;
let cluster: TestCluster;
let storage: TestNode;
let alive: ReturnType<typeof setInterval>;
const awake = new Set<TestNode>();
beforeEach(async () => {
  cluster = await TestCluster.start({ sessionTimeoutMs });
  storage = cluster.node("storage-1");
  await storage.start();
  awake.clear();
  awake.add(storage);
  alive = setInterval(() => {
    for (const node of awake) node.heartbeat().catch(() => {});
  }, sessionTimeoutMs / 4);
});
afterEach(async () => {
  clearInterval(alive);
  await cluster.destroy();
});

function create(name: string, topics: string[], more: Partial<CreateConnectorRequest> = {}) {
  return cluster.client.unary(
    rpc.createConnector,
    CreateConnectorRequest.create({
      requestId: randomId(),
      name,
      topics,
      sinkConfigJson: '{"type":"null"}',
      ...more,
    }),
  );
}

function describeConnector(name: string): Promise<DescribeConnectorResponse> {
  return cluster.client.unary(rpc.describeConnector, DescribeConnectorRequest.create({ name }));
}

function remove(name: string) {
  return cluster.client.unary(rpc.deleteConnector, DeleteConnectorRequest.create({ name }));
}

async function instance(nodeId: string): Promise<TestNode> {
  const node = cluster.node(nodeId, NodeRole.CONNECTOR);
  await node.start();
  awake.add(node);
  return node;
}

/** Waits by watching until the tasks are on these instances. */
async function untilHolders(name: string, holders: readonly string[]): Promise<DescribeConnectorResponse> {
  const watcher = cluster.watch();
  for (let seen = 0; ; seen++) {
    await watcher.until((messages) => messages.length > seen);
    const described = await describeConnector(name);
    const found = new Set(described.assignments.map((task) => task.instanceId));
    if (found.size === holders.length && holders.every((holder) => found.has(holder))) {
      await watcher.stop();
      return described;
    }
  }
}

describe("ConnectorService over gRPC", () => {
  it("creates, lists, describes and deletes connectors; a repeated request id gives the first answer", async () => {
    await cluster.createTopic("logs", 2);
    const requestId = randomId();
    const first = await create("out", ["logs"], { requestId });
    expect(first.connector).toMatchObject({ name: "out", topics: ["logs"], generation: 1 });
    expect(await create("out", ["logs"], { requestId })).toEqual(first);
    expect((await refusal(create("out", ["logs"]))).reason).toBe("CONNECTOR_ALREADY_EXISTS");
    await create("another", ["logs"]);
    const page = await cluster.client.unary(
      rpc.listConnectors,
      ListConnectorsRequest.create({ pageSize: 1 }),
    );
    expect(page.connectors.map((connector) => connector.name)).toEqual(["another"]);
    const rest = await cluster.client.unary(
      rpc.listConnectors,
      ListConnectorsRequest.create({ pageToken: page.nextPageToken }),
    );
    expect(rest.connectors).toEqual([first.connector]);
    expect((await describeConnector("out")).assignments).toHaveLength(2);
    await remove("out");
    const missing = await refusal(describeConnector("out"));
    expect(missing.reason).toBe("CONNECTOR_NOT_FOUND");
    expect((await refusal(remove("out"))).reason).toBe("CONNECTOR_NOT_FOUND");
    expect((await refusal(create("x", []))).reason).toBe("INVALID_REQUEST");
    expect((await refusal(create("x", ["logs"], { sinkConfigJson: "{" }))).reason).toBe("INVALID_CONFIG");
    expect((await refusal(create("x", ["logs"], { clusterId: "another" }))).reason).toBe("CLUSTER_MISMATCH");
  });

  it("shares tasks out and moves those of a dead instance, each under a higher epoch (C1)", async () => {
    await cluster.createTopic("logs", 4);
    await create("out", ["logs"]);
    await instance("c1");
    const dying = await instance("c2");
    const before = await describeConnector("out");
    const perInstance = (name: string) =>
      before.assignments.filter((task) => task.instanceId === name).length;
    expect([perInstance("c1"), perInstance("c2")]).toEqual([2, 2]);
    awake.delete(dying);
    const after = await untilHolders("out", ["c1"]);
    for (const [index, task] of after.assignments.entries()) {
      const was = before.assignments[index];
      expect(task.taskEpoch).toBe((was?.taskEpoch ?? 0) + (was?.instanceId === "c2" ? 1 : 0));
    }
  });

  it("moves the tasks of an instance that stops cleanly at once", async () => {
    await cluster.createTopic("logs", 2);
    await create("out", ["logs"]);
    const first = await instance("c1");
    await instance("c2");
    awake.delete(first);
    await first.heartbeat({ isStopping: true });
    const { assignments } = await describeConnector("out");
    expect(assignments.map((task) => task.instanceId)).toEqual(["c2", "c2"]);
  });

  it("follows the name of a topic that is deleted and created again (L3)", async () => {
    const old = await cluster.createTopic("logs", 1);
    await create("out", ["logs"]);
    await cluster.client.unary(
      MetadataServiceService.deleteTopic,
      DeleteTopicRequest.create({ topic: { $case: "name", value: "logs" } }),
    );
    expect((await describeConnector("out")).assignments).toEqual([]);
    const renewed = await cluster.createTopic("logs", 2);
    const { assignments } = await describeConnector("out");
    expect(assignments.map((task) => task.topicId)).toEqual([renewed.topicId, renewed.topicId]);
    expect(renewed.topicId).not.toBe(old.topicId);
  });

  it("resumes a connector that is created again under its name, unless it is reset (C9)", async () => {
    await cluster.createTopic("logs", 1);
    const first = await create("out", ["logs"]);
    const [before] = (await describeConnector("out")).assignments;
    await remove("out");
    await cluster.restart();
    const second = await create("out", ["logs"]);
    expect(second.connector?.connectorId).toBe(first.connector?.connectorId);
    const [after] = (await describeConnector("out")).assignments;
    expect(after?.taskEpoch).toBeGreaterThan(before?.taskEpoch ?? Number.MAX_VALUE);
    await remove("out");
    const reset = await create("out", ["logs"], { reset: true });
    expect(reset.connector?.connectorId).not.toBe(first.connector?.connectorId);
    expect((await describeConnector("out")).assignments[0]?.taskEpoch).toBeGreaterThan(after?.taskEpoch ?? 0);
  });

  it("shows how tasks stand as their present instance reported, nobody else", async () => {
    const { topicId } = await cluster.createTopic("logs", 1);
    await create("out", ["logs"]);
    const node = await instance("c1");
    const [task] = (await describeConnector("out")).assignments;
    const status = {
      ...{ connector: "out", topicId, partition: 0, taskEpoch: task?.taskEpoch ?? 0 },
      ...{ state: TaskState.RUNNING, resumeOffset: 41, publishedCount: 40, error: "" },
    };
    await node.heartbeat({ tasks: [status] });
    expect((await describeConnector("out")).statuses).toEqual([status]);
    await node.heartbeat({ tasks: [{ ...status, taskEpoch: status.taskEpoch - 1, resumeOffset: 7 }] });
    await storage.heartbeat({ tasks: [{ ...status, resumeOffset: 8 }] });
    expect((await describeConnector("out")).statuses).toEqual([status]);
    await remove("out");
    await create("out", ["logs"]);
    expect((await describeConnector("out")).statuses).toEqual([]);
  });
});
