import { cp } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import {
  DeleteTopicRequest,
  InitProducerRequest,
  type MetadataDelta,
  type MetadataSnapshot,
  NodeRole,
  RemoveProducerRequest,
  MetadataServiceService as rpc,
  WatchMetadataRequest,
  type WatchMetadataResponse,
} from "@millrace/proto/metadata";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { defaultWatchLimits } from "../drivers/watch-hub.ts";
import { handshakeOf, TestCluster } from "../testing/cluster.ts";

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await TestCluster.start({ sessionTimeoutMs: 60_000 });
  await cluster.node("storage-1").start();
});
afterEach(() => cluster.destroy());

function snapshotOf(message: WatchMetadataResponse | undefined): MetadataSnapshot {
  if (message?.event?.$case !== "snapshot") throw new Error(`no snapshot: ${JSON.stringify(message)}`);
  return message.event.value;
}

function deltas(messages: readonly WatchMetadataResponse[]): MetadataDelta[] {
  return messages.flatMap(({ event }) => (event?.$case === "delta" ? [event.value] : []));
}

const topicNames = (messages: readonly WatchMetadataResponse[]): string[] =>
  deltas(messages).flatMap((delta) => delta.topics.map((topic) => topic.name));

describe("WatchMetadata over gRPC", () => {
  it("begins with the handshake and a snapshot, then sends every change as it is made", async () => {
    await cluster.createTopic("first");
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    expect(watcher.messages[0]?.handshake).toMatchObject({
      clusterId: cluster.service.clusterId,
      nodeId: "metadata-1",
      protocolVersion: 1,
    });
    const snapshot = snapshotOf(watcher.messages[0]);
    expect(snapshot.topics.map((topic) => topic.name)).toEqual(["first"]);
    expect(snapshot.nodes.map((node) => node.nodeId)).toEqual(["metadata-1", "storage-1"]);
    const topic = await cluster.createTopic("second", 2);
    await cluster.node("agent-1", NodeRole.AGENT).start();
    await cluster.client.unary(
      rpc.deleteTopic,
      DeleteTopicRequest.create({ topic: { $case: "name", value: "first" } }),
    );
    await watcher.until((messages) => deltas(messages).some((delta) => delta.deletedTopicIds.length > 0));
    const changes = deltas(watcher.messages);
    expect(changes.flatMap((delta) => delta.topics)).toEqual([topic]);
    expect(changes.flatMap((delta) => delta.nodes.map((node) => node.nodeId))).toEqual(["agent-1"]);
    expect(changes.flatMap((delta) => delta.deletedTopicIds)).toEqual([snapshot.topics[0]?.topicId]);
    const sequences = watcher.messages.map((message) => message.token?.sequence ?? -1);
    expect(sequences).toEqual([...sequences].sort((a, b) => a - b));
    await watcher.stop();
  });

  it("sends an empty change at least every 2 s", async () => {
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    const startedMs = performance.now();
    await watcher.until((messages) => messages.length > 2);
    expect((performance.now() - startedMs) / 2).toBeLessThan(2_000);
    const [beat] = deltas(watcher.messages.slice(1));
    expect(
      Object.values(beat ?? {}).every((part) => part === 0 || (Array.isArray(part) && part.length === 0)),
    ).toBe(true);
    expect(watcher.messages[1]?.token).toEqual(watcher.messages[0]?.token);
    await watcher.stop();
  });

  it("resumes a token with the tail, also after a restart", async () => {
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    const { token } = watcher;
    await watcher.stop();
    await cluster.createTopic("a");
    await cluster.createTopic("b");
    for (let round = 0; round < 2; round++) {
      const resumed = cluster.watch(token);
      await resumed.until((messages) => topicNames(messages).length >= 2);
      expect(resumed.messages.some((message) => message.event?.$case === "snapshot")).toBe(false);
      expect(resumed.messages[0]?.handshake).toBeDefined();
      expect(topicNames(resumed.messages)).toEqual(["a", "b"]);
      await resumed.stop();
      await cluster.restart();
    }
  });

  it("answers a token older than what is kept with a snapshot", async () => {
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    const { token } = watcher;
    await watcher.stop();
    await cluster.restart(undefined, { watchLimits: { ...defaultWatchLimits, backlogChangesMax: 2 } });
    for (const name of ["a", "b", "c"]) await cluster.createTopic(name);
    const resumed = cluster.watch(token);
    await resumed.until((messages) => messages.length > 0);
    expect(snapshotOf(resumed.messages[0]).topics.map((topic) => topic.name)).toEqual(["a", "b", "c"]);
    await resumed.stop();
  });

  it("refuses a token of another history (design §4): other log, other hash, beyond the end", async () => {
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    const { token } = watcher;
    await watcher.stop();
    const lies = [
      { ...token, logId: "another" },
      { ...token, hash: token.hash.replaceAll(/./g, "0") },
      { ...token, sequence: token.sequence + 1 },
      { ...token, sequence: token.sequence - 1 },
    ];
    for (const lie of lies) {
      const refused = cluster.watch(lie);
      await refused.done;
      expect(refused.ended?.reason).toBe("HISTORY_MISMATCH");
    }
  });

  it("a watcher notices that the metadata was restored from an older copy", async () => {
    const copy = join(cluster.directory, "copy");
    await cp(join(cluster.directory, "data"), copy, { recursive: true });
    await cluster.createTopic("newer-1");
    await cluster.createTopic("newer-2");
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    const { token } = watcher;
    await watcher.stop();
    await cluster.restart(copy);
    // The copy goes on for itself, beyond where the watcher stood.
    for (const name of ["x", "y", "z"]) await cluster.createTopic(name);
    const misled = cluster.watch(token);
    await misled.done;
    expect(misled.ended?.reason).toBe("HISTORY_MISMATCH");
  });

  it("tells which named producers were removed, in the change and in later snapshots (P1)", async () => {
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    const { client } = cluster;
    const { producerId } = await client.unary(rpc.initProducer, InitProducerRequest.create({ name: "gone" }));
    await client.unary(rpc.removeProducer, RemoveProducerRequest.create({ name: "gone" }));
    await watcher.until((messages) => deltas(messages).some((delta) => delta.removedProducerIds.length > 0));
    expect(deltas(watcher.messages).flatMap((delta) => delta.removedProducerIds)).toEqual([producerId]);
    await watcher.stop();
    const later = cluster.watch();
    await later.until((messages) => messages.length > 0);
    expect(snapshotOf(later.messages[0]).removedProducerIds).toEqual([producerId]);
    await later.stop();
  });

  it("refuses a watcher of another cluster or protocol, and one without a handshake", async () => {
    const watchAs = async (handshake: ReturnType<typeof handshakeOf> | undefined): Promise<string> => {
      const request = WatchMetadataRequest.create({ handshake });
      try {
        for await (const _ of cluster.client.serverStream(rpc.watchMetadata, request)) break;
      } catch (error) {
        return AppError.from(error).reason;
      }
      return "none";
    };
    expect(await watchAs(handshakeOf("w", "i", "another"))).toBe("CLUSTER_MISMATCH");
    expect(await watchAs({ ...handshakeOf("w", "i"), protocolMin: 7, protocolMax: 9 })).toBe(
      "UNSUPPORTED_VERSION",
    );
    expect(await watchAs(undefined)).toBe("INVALID_REQUEST");
  });

  it("limits the number of watches", async () => {
    await cluster.restart(undefined, { watchLimits: { ...defaultWatchLimits, watchersMax: 1 } });
    const first = cluster.watch();
    await first.until((messages) => messages.length > 0);
    const second = cluster.watch();
    await second.done;
    expect(second.ended?.reason).toBe("CREDIT_EXCEEDED");
    await first.stop();
  });

  it("tells watchers when the service stops", async () => {
    const watcher = cluster.watch();
    await watcher.until((messages) => messages.length > 0);
    await cluster.service.stop();
    await watcher.done;
    expect(watcher.ended?.isRetriable).toBe(true);
  });
});
