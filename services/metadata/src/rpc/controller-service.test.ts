import { cp } from "node:fs/promises";
import { join } from "node:path";
import { ControllerServiceService, RegisterNodeRequest } from "@millrace/proto/controller";
import {
  DescribeTopicRequest,
  MetadataServiceService,
  NodeRole,
  NodeState,
  type Partition,
} from "@millrace/proto/metadata";
import { randomId } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { handshakeOf, refusal, TestCluster } from "../testing/cluster.ts";

const sessionTimeoutMs = 600;
let cluster: TestCluster;
beforeEach(async () => {
  cluster = await TestCluster.start({ sessionTimeoutMs });
});
afterEach(() => cluster.destroy());

async function partitionOf(name: string): Promise<Partition> {
  const { topic } = await cluster.client.unary(
    MetadataServiceService.describeTopic,
    DescribeTopicRequest.create({ topic: { $case: "name", value: name } }),
  );
  return topic?.partitions[0] as Partition;
}

/** Waits by watching until a node has the state. */
async function untilState(nodeId: string, state: NodeState): Promise<void> {
  const watcher = cluster.watch();
  await watcher.until((messages) =>
    messages.some(({ event }) =>
      event?.value.nodes.some((node) => node.nodeId === nodeId && node.state === state),
    ),
  );
  await watcher.stop();
}

describe("ControllerService over gRPC", () => {
  it("registers a node: cluster, epoch, session; a repeated request id is the same registration", async () => {
    const node = cluster.node("storage-1");
    node.starts = [randomId()];
    const requestId = randomId();
    const first = await node.register({ requestId });
    expect(first).toMatchObject({
      clusterId: cluster.service.clusterId,
      sessionTimeoutMs,
      controllerId: "metadata-1",
    });
    expect(await node.register({ requestId })).toEqual(first);
    expect((await node.register()).nodeEpoch).toBeGreaterThan(first.nodeEpoch);
  });

  it("issues nothing at or below what a directory has seen", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    const topic = await cluster.createTopic("logs");
    node.starts.push(randomId());
    const seen = { topicId: topic.topicId, partition: 0, leaderEpoch: 40 };
    const { nodeEpoch } = await node.register({ seenNodeEpoch: 500, seenEpochs: [seen] });
    expect(nodeEpoch).toBe(501);
    expect(await partitionOf("logs")).toMatchObject({ leaderId: "storage-1", leaderEpoch: 41 });
  });

  it("fences a silent node: its partitions have no leader until it registers again, then a higher epoch", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    await cluster.createTopic("logs");
    const before = await partitionOf("logs");
    await untilState("storage-1", NodeState.FENCED);
    const fenced = await partitionOf("logs");
    expect(fenced).toMatchObject({ leaderId: "", inSyncIds: ["storage-1"] });
    expect(await node.heartbeat()).toMatchObject({ isFenced: true });
    await node.register();
    expect(await node.heartbeat()).toEqual({ mayStop: false, isFenced: false });
    const after = await partitionOf("logs");
    expect(after.leaderId).toBe("storage-1");
    expect(after.leaderEpoch).toBeGreaterThan(fenced.leaderEpoch);
    expect(fenced.leaderEpoch).toBeGreaterThan(before.leaderEpoch);
    expect(after.partitionEpoch).toBeGreaterThan(fenced.partitionEpoch);
  });

  it("keeps a node that sends heartbeats", async () => {
    const loud = cluster.node("storage-1");
    const silent = cluster.node("storage-2");
    await loud.start();
    await silent.start();
    const timer = setInterval(() => void loud.heartbeat(), sessionTimeoutMs / 3);
    await untilState("storage-2", NodeState.FENCED);
    clearInterval(timer);
    expect(await loud.heartbeat()).toEqual({ mayStop: false, isFenced: false });
  });

  it("moves the leaderships of a node that stops cleanly at once, and lets it go", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    await cluster.createTopic("logs");
    expect(await node.heartbeat({ isStopping: true })).toEqual({ mayStop: true, isFenced: false });
    expect(await partitionOf("logs")).toMatchObject({ leaderId: "" });
    expect(await node.heartbeat({ isStopping: true })).toEqual({ mayStop: true, isFenced: false });
    await node.start();
    expect(await partitionOf("logs")).toMatchObject({ leaderId: "storage-1" });
  });

  it("turns away heartbeats of an older registration, and of nobody it knows", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    const older = node.nodeEpoch;
    await node.start();
    expect((await refusal(node.heartbeat({ nodeEpoch: older }))).reason).toBe("STALE_NODE_EPOCH");
    const stranger = cluster.node("storage-9");
    expect(await stranger.heartbeat()).toMatchObject({ isFenced: true });
  });

  it("accepts kill -9 and restart within the session, and refuses a second process (L1)", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    await node.start();
    const copy = cluster.node("storage-1");
    Object.assign(copy, { directoryId: node.directoryId });
    // Copied before the second start.
    copy.starts = node.starts.slice(0, 1);
    expect((await refusal(copy.start())).reason).toBe("LINEAGE_REFUSED");
    const other = cluster.node("storage-1");
    expect((await refusal(other.start())).reason).toBe("LINEAGE_REFUSED");
  });

  it("refuses a copied agent directory with the command that gives it a new identity (L1)", async () => {
    const agent = cluster.node("agent-1", NodeRole.AGENT);
    await agent.start();
    const copied = [...agent.starts];
    await agent.start();
    const copy = cluster.node("agent-1", NodeRole.AGENT);
    Object.assign(copy, { directoryId: agent.directoryId });
    copy.starts = copied;
    const error = await refusal(copy.start());
    expect(error.reason).toBe("LINEAGE_REFUSED");
    expect(error.message).toContain("millrace agent identity --new DIR");
    // Also after the original has been gone for long, and after a restart of the metadata.
    await untilState("agent-1", NodeState.FENCED);
    await cluster.restart();
    expect((await refusal(copy.register())).reason).toBe("LINEAGE_REFUSED");
    await agent.start();
  });

  it("refuses a wiped storage directory that had partitions (L2)", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    await cluster.createTopic("logs");
    await untilState("storage-1", NodeState.FENCED);
    const wiped = cluster.node("storage-1");
    const error = await refusal(wiped.start());
    expect(error.reason).toBe("LINEAGE_REFUSED");
    expect(error.message).toContain("1 partition(s)");
  });

  it("refuses other clusters, other protocols and half registrations", async () => {
    const register = (request: Partial<RegisterNodeRequest>) =>
      refusal(
        cluster.client.unary(
          ControllerServiceService.registerNode,
          RegisterNodeRequest.create({
            handshake: handshakeOf("storage-1", "i"),
            role: NodeRole.STORAGE,
            directoryId: randomId(),
            starts: ["i"],
            ...request,
          }),
        ),
      );
    expect((await register({ handshake: handshakeOf("storage-1", "i", randomId()) })).reason).toBe(
      "CLUSTER_MISMATCH",
    );
    const newer = { ...handshakeOf("storage-1", "i"), protocolMin: 2, protocolMax: 3 };
    expect((await register({ handshake: newer })).reason).toBe("UNSUPPORTED_VERSION");
    expect((await register({ handshake: undefined })).reason).toBe("INVALID_REQUEST");
    expect((await register({ role: NodeRole.UNSPECIFIED })).reason).toBe("INVALID_REQUEST");
    expect((await register({ starts: [] })).reason).toBe("INVALID_REQUEST");
    expect((await register({ handshake: handshakeOf("../x", "i") })).reason).toBe("INVALID_REQUEST");
  });

  it("keeps everything through kill -9: what is in the files is the whole state", async () => {
    const node = cluster.node("storage-1");
    await node.start();
    const topic = await cluster.createTopic("logs", 2);
    const { clusterId } = cluster.service;
    const copy = join(cluster.directory, "copy");
    await cp(join(cluster.directory, "data"), copy, { recursive: true });
    await cluster.restart(copy);
    expect(cluster.service.clusterId).toBe(clusterId);
    const { topic: found } = await cluster.client.unary(
      MetadataServiceService.describeTopic,
      DescribeTopicRequest.create({ topic: { $case: "topicId", value: topic.topicId } }),
    );
    expect(found).toEqual(topic);
    // A full session for every node: it goes on without registering again.
    expect(await node.heartbeat()).toEqual({ mayStop: false, isFenced: false });
  });
});
