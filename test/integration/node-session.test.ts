/** Membership of a node: registration with lineage (L1), heartbeats, the followed metadata, the service away and back. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { Client, NodeSession, type NodeSessionOptions } from "@millrace/client";
import { NodeRole, NodeState } from "@millrace/proto/metadata";
import { type Clock, randomId, systemClock } from "@millrace/runtime";
import { type MetadataService, startMetadata } from "@millrace/service-metadata";
import { startStorage } from "@millrace/service-storage";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "./cluster.ts";

let folder: string;
let metadata: MetadataService;
let client: Client;
const sessions: NodeSession[] = [];

async function startMetadataAt(port: number, name = "metadata"): Promise<MetadataService> {
  return startMetadata({
    dataDirectory: join(folder, name),
    sessionTimeoutMs: 600,
    listeners: [{ name: "client", host: "127.0.0.1", port }],
  });
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-session-"));
  metadata = await startMetadataAt(0);
  client = await Client.open({ bootstrapServers: [metadata.address] });
});

afterEach(async () => {
  client.close();
  await Promise.all(sessions.splice(0).map((session) => session.stop()));
  await metadata.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Watched {
  readonly session: NodeSession;
  readonly failures: { readonly reason: string; readonly isFatal: boolean }[];
}

const directoryId = randomId();

function joinCluster(options: Partial<NodeSessionOptions> = {}): Watched {
  const failures: { reason: string; isFatal: boolean }[] = [];
  const incarnation = options.starts?.at(-1) ?? randomId();
  const session = new NodeSession({
    bootstrapServers: [metadata.address],
    role: NodeRole.STORAGE,
    nodeId: "node-1",
    incarnation,
    clusterId: "",
    directoryId,
    starts: [incarnation],
    listeners: () => [{ name: "client", host: "127.0.0.1", port: 1, tls: false }],
    version: "test",
    onFailure: (error, isFatal) => failures.push({ reason: error.reason, isFatal }),
    ...options,
  });
  sessions.push(session);
  session.start();
  return { session, failures };
}

async function stateOf(nodeId: string): Promise<number | undefined> {
  const { nodes } = await client.admin.describeCluster();
  return nodes.find((node) => node.nodeId === nodeId)?.state;
}

describe("NodeSession", () => {
  it("registers, stays alive by heartbeats longer than a session, and follows the metadata", async () => {
    const { session, failures } = joinCluster();
    const registration = await session.registered;
    expect(registration).toMatchObject({ clusterId: metadata.clusterId, sessionTimeoutMs: 600 });
    expect(session.nodeEpoch).toBe(registration.nodeEpoch);
    await until(() => session.view.isLoaded, "the view is loaded");
    const { topicId } = await client.admin.createTopic({ name: "t", partitions: 2 });
    await until(() => session.view.topics.has(topicId), "the topic arrived");
    expect(session.view.topicByName("t")?.partitions.map((partition) => partition.replicaIds)).toEqual([
      ["node-1"],
      ["node-1"],
    ]);
    await systemClock.sleep(1_500);
    expect(await stateOf("node-1")).toBe(NodeState.ALIVE);
    await client.admin.deleteTopic("t");
    await until(() => !session.view.topics.has(topicId), "the deletion arrived");
    expect(failures).toEqual([]);
  });

  it("goes on with its last view while the metadata service is away, and with the same history when it is back", async () => {
    const { session } = joinCluster();
    await session.registered;
    const { topicId } = await client.admin.createTopic({ name: "t", partitions: 1 });
    await until(() => session.view.topics.has(topicId), "the topic arrived");
    const port = metadata.listeners[0]!.port;
    await metadata.stop();
    await systemClock.sleep(300);
    expect(session.view.topics.has(topicId)).toBe(true);
    metadata = await startMetadataAt(port);
    await until(async () => (await stateOf("node-1")) === NodeState.ALIVE, "the node is alive again");
    const second = await client.admin.createTopic({ name: "u", partitions: 1 });
    await until(() => session.view.topics.has(second.topicId), "changes arrive again");
  });

  it("registers again under a higher epoch when it was fenced", async () => {
    let isStalled = false;
    const stalling: Clock = {
      nowMs: () => systemClock.nowMs(),
      monotonicMs: () => systemClock.monotonicMs(),
      sleep: (delayMs, signal) => systemClock.sleep(delayMs, signal),
      after: (delayMs, run) => {
        const attempt = (): void => {
          if (isStalled) systemClock.after(20, attempt);
          else run();
        };
        return systemClock.after(delayMs, attempt);
      },
    };
    const { session } = joinCluster({ clock: stalling });
    const { nodeEpoch } = await session.registered;
    isStalled = true;
    await until(async () => (await stateOf("node-1")) === NodeState.FENCED, "the node is fenced");
    isStalled = false;
    await until(() => session.nodeEpoch > nodeEpoch, "it has registered again");
    await until(async () => (await stateOf("node-1")) === NodeState.ALIVE, "it is alive");
  });

  it("L1: a start history that does not contain the last start seen is refused for good", async () => {
    const history = [randomId(), randomId()];
    const first = joinCluster({ starts: history });
    await first.session.registered;
    await first.session.stop();
    const copy = joinCluster({ starts: [history[0]!, randomId()] });
    await expect(copy.session.registered).rejects.toMatchObject({ reason: "LINEAGE_REFUSED" });
    expect(copy.failures).toEqual([{ reason: "LINEAGE_REFUSED", isFatal: true }]);
    const next = joinCluster({ starts: [...history, randomId()] });
    await expect(next.session.registered).resolves.toMatchObject({ clusterId: metadata.clusterId });
  });

  it("does not follow another cluster that answers at the same address", async () => {
    const { session } = joinCluster();
    await session.registered;
    const { topicId } = await client.admin.createTopic({ name: "t", partitions: 1 });
    await until(() => session.view.topics.has(topicId), "the topic arrived");
    const port = metadata.listeners[0]!.port;
    const before = metadata.clusterId;
    await metadata.stop();
    metadata = await startMetadataAt(port, "another");
    expect(metadata.clusterId).not.toBe(before);
    await systemClock.sleep(1_200);
    expect(session.view.topics.has(topicId)).toBe(true);
    expect(session.clusterId).toBe(before);
  });
});

describe("a storage node", () => {
  it("L1: a copied directory is refused by the controller, and says so", async () => {
    const options = {
      bootstrapServers: [metadata.address],
      nodeId: "storage-1",
      listeners: [{ name: "client", host: "127.0.0.1", port: 0 }],
    };
    const first = await startStorage({ ...options, dataDirectory: join(folder, "a") });
    await first.ready;
    await first.stop();
    const { cp } = await import("node:fs/promises");
    await cp(join(folder, "a"), join(folder, "b"), { recursive: true });
    const second = await startStorage({ ...options, dataDirectory: join(folder, "a") });
    await second.ready;
    await second.stop();
    const copy = await startStorage({ ...options, dataDirectory: join(folder, "b") });
    await expect(copy.ready).rejects.toMatchObject({ reason: "LINEAGE_REFUSED" });
    expect((await copy.failed).reason).toBe("LINEAGE_REFUSED");
    await copy.stop();
  });

  it("does not start on a directory that another process uses, nor on a port in use", async () => {
    const options = { bootstrapServers: [metadata.address], nodeId: "storage-1" };
    const any = [{ name: "client", host: "127.0.0.1", port: 0 }];
    const first = await startStorage({ ...options, dataDirectory: join(folder, "a"), listeners: any });
    const reasonOf = async (work: Promise<unknown>): Promise<string> =>
      work.then(
        () => "none",
        (thrown: unknown) => AppError.from(thrown).reason,
      );
    expect(
      await reasonOf(startStorage({ ...options, dataDirectory: join(folder, "a"), listeners: any })),
    ).toBe("ALREADY_LOCKED");
    const taken = [{ name: "client", host: "127.0.0.1", port: first.listeners[0]!.port }];
    expect(
      await reasonOf(startStorage({ ...options, dataDirectory: join(folder, "b"), listeners: taken })),
    ).toBe("ALREADY_LOCKED");
    await first.stop();
    // what failed to start has let go of its directory
    const again = await startStorage({ ...options, dataDirectory: join(folder, "b"), listeners: any });
    await again.stop();
  });
});
