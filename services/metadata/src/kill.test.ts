/** kill -9 of the real process, with changes in flight: what was answered is there, what was not may be. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ControllerServiceService, RegisterNodeRequest } from "@millrace/proto/controller";
import {
  CreateTopicRequest,
  InitProducerRequest,
  ListTopicsRequest,
  NodeRole,
  MetadataServiceService as rpc,
} from "@millrace/proto/metadata";
import { connect, type RpcConnection } from "@millrace/rpc";
import { afterEach, beforeEach, expect, it } from "vitest";
import { handshakeOf } from "./testing/cluster.ts";

let directory: string;
let child: ChildProcess | undefined;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-kill-"));
});
afterEach(async () => {
  child?.kill("SIGKILL");
  await rm(directory, { recursive: true });
});

/** What the killed process runs. */
const program = `
  const { startMetadata } = await import(${JSON.stringify(new URL("./main.ts", import.meta.url).href)});
  const listeners = [{ name: "client", host: "127.0.0.1", port: 0 }];
  const service = await startMetadata({ dataDirectory: process.argv[1], listeners, snapshotEveryBatches: 20 });
  console.log(service.address);
`;

async function serve(): Promise<RpcConnection> {
  const args = ["--input-type=module", "--eval", program, join(directory, "data")];
  child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  if (child.stdout === null) throw new Error("no output");
  const lines = createInterface(child.stdout);
  const [address] = (await once(lines, "line")) as [string];
  return connect(address);
}

async function kill(): Promise<void> {
  const dying = child;
  child = undefined;
  if (dying === undefined) return;
  const exited = once(dying, "exit");
  dying.kill("SIGKILL");
  await exited;
}

it("keeps every answered change through kill -9, and gives a repeated request its first answer", async () => {
  const topics = new Map<string, string>();
  const epochs: number[] = [];
  let inFlightAtKills = 0;
  for (let round = 0; round < 3; round++) {
    const connection = await serve();
    const listed = await connection.unary(rpc.listTopics, ListTopicsRequest.create());
    const present = new Map(listed.topics.map((topic) => [topic.name, topic.topicId]));
    for (const [name, topicId] of topics) expect(present.get(name), name).toBe(topicId);
    // What was in flight at the kill: done or not, its repetition is answered.
    for (const [name, topicId] of topics) {
      const again = await connection.unary(
        rpc.createTopic,
        CreateTopicRequest.create({ requestId: name, name, partitionCount: 2 }),
      );
      expect(again.topic?.topicId).toBe(topicId);
    }
    await connection.unary(
      ControllerServiceService.registerNode,
      RegisterNodeRequest.create({
        handshake: handshakeOf("storage-1", `start-${round}`),
        role: NodeRole.STORAGE,
        directoryId: "directory",
        starts: Array.from({ length: round + 1 }, (_, start) => `start-${start}`),
      }),
    );
    const killAfter = 25 + round * 11;
    let answered = 0;
    let inFlight = 0;
    let dead: Promise<void> | undefined;
    // Eight callers, each with one request in flight until the process is gone.
    const callers = Array.from({ length: 8 }, async (_, caller) => {
      for (let index = 0; ; index++) {
        const name = `topic-${round}-${caller}-${index}`;
        const request = CreateTopicRequest.create({ requestId: name, name, partitionCount: 2 });
        inFlight++;
        try {
          const { topic } = await connection.unary(rpc.createTopic, request, { deadlineMs: 5_000 });
          topics.set(name, topic?.topicId ?? "");
          const init = InitProducerRequest.create({ name: "agent" });
          epochs.push((await connection.unary(rpc.initProducer, init, { deadlineMs: 5_000 })).producerEpoch);
          inFlight--;
          if (++answered !== killAfter) continue;
          inFlightAtKills += inFlight;
          dead = kill();
        } catch {
          return;
        }
      }
    });
    await Promise.all(callers);
    await dead;
    connection.close();
  }
  expect(topics.size).toBeGreaterThan(60);
  // Otherwise the kills met an idle process.
  expect(inFlightAtKills).toBeGreaterThan(0);
  expect(new Set(epochs).size).toBe(epochs.length);
}, 60_000);
