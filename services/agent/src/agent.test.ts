import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { components } from "@millrace/components";
import { z } from "@millrace/config";
import { type ComponentRegistry, defineSink, type Sink, type SinkFeedback } from "@millrace/flow";
import { AgentServiceService, ComponentState } from "@millrace/proto/agent";
import { ControllerServiceService, type RegisterNodeRequest } from "@millrace/proto/controller";
import { NodeRole } from "@millrace/proto/metadata";
import { connect, createRpcServer, type RpcServer } from "@millrace/rpc";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type AgentOptions, type AgentService, startAgent } from "./agent.ts";

let folder: string;
const stops: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-agent-service-"));
});

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
  await rm(folder, { recursive: true, force: true });
});

const delivered: string[] = [];
let openings = 0;

/** The build's components, and a sink of this test that needs the cluster. */
const registry: ComponentRegistry = {
  types: (kind) => [...components.types(kind), ...(kind === "sink" ? ["clustered"] : [])],
  source: (type) => components.source(type),
  interceptor: (type) => components.interceptor(type),
  sink: (type) => (type === "clustered" ? Promise.resolve(clusteredSink) : components.sink(type)),
};

const clusteredSink = defineSink({
  type: "clustered",
  summary: "Needs the cluster.",
  guarantee: "at-least-once",
  hasStanding: false,
  canShare: false,
  needsCluster: true,
  config: z.strictObject({}),
  create: (): Sink => {
    let feedback: SinkFeedback | undefined;
    return {
      open: async (_, given) => {
        openings++;
        feedback = given;
        return { resumeFrom: undefined };
      },
      write: async (batch) => {
        for (const { value } of batch.records) delivered.push(Buffer.from(value ?? []).toString());
        feedback?.delivered(batch.to);
      },
      flush: async () => {},
      close: async () => {},
    };
  },
});

const pipeline = `
agent: { name: a1 }
sources: { r1: { type: seq, totalEvents: 25, channels: c1 } }
channels: { c1: { type: file } }
sinks: { k1: { type: clustered, channel: c1 } }
`;

async function start(overrides: Partial<AgentOptions> = {}, text = pipeline): Promise<AgentService> {
  const file = join(folder, "pipeline.yaml");
  await writeFile(file, text);
  const agent = await startAgent({ file, dataDirectory: join(folder, "data"), registry, ...overrides });
  stops.push(() => agent.stop());
  return agent;
}

/** A controller that answers registrations as told. */
async function startController(
  answer: (request: RegisterNodeRequest) => void,
): Promise<{ address: string; server: RpcServer }> {
  const server = createRpcServer({
    listeners: [{ name: "client", host: "127.0.0.1", port: 0 }],
    identity: {
      clusterId: () => "CCCCCCCCCCCCCCCCCCCCCC",
      nodeId: "m1",
      incarnation: "i",
      nodeEpoch: () => 1,
    },
  });
  server.addService(ControllerServiceService, {
    registerNode: async (request) => {
      answer(request);
      const clusterId = "CCCCCCCCCCCCCCCCCCCCCC";
      return { clusterId, nodeEpoch: 7, sessionTimeoutMs: 3_000, controllerId: "m1" };
    },
    heartbeat: async () => ({ mayStop: true, isFenced: false }),
  });
  const [listener] = await server.start();
  server.setServing(true);
  stops.push(() => server.stop(100));
  return { address: `127.0.0.1:${listener!.port}`, server };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(isTrue: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!isTrue()) {
    if (performance.now() > end) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe("agent service", () => {
  it("runs a pipeline, describes itself, goes on after a restart", async () => {
    const agent = await start();
    await agent.finishAndDrain();
    const connection = connect(agent.address);
    const described = await connection.unary(AgentServiceService.describeAgent, {});
    connection.close();
    expect(described).toMatchObject({ name: "a1", agentId: agent.agentId });
    expect(described.sources[0]).toMatchObject({ name: "r1", state: ComponentState.ENDED, recordCount: 25 });
    expect(described.channels[0]).toMatchObject({ name: "c1", type: "file", putCount: 25, depthCount: 0 });
    expect(described.sinks[0]).toMatchObject({ deliveredCount: 25, refusedCount: 0 });
    expect(await agent.stop()).toEqual([]);
    const again = await start();
    await again.finishAndDrain();
    expect(again.agentId).toBe(agent.agentId);
    expect(again.status().channels[0]).toMatchObject({ putCount: 25, depthCount: 0 });
  });

  it("refuses a wrong pipeline before it touches anything, with every problem", async () => {
    const bad = pipeline.replace("type: seq", "type: sek").replace("channel: c1 }", "channel: c2 }");
    const error = await start({}, bad).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).message.split("\n")).toHaveLength(2);
    await expect(rm(join(folder, "data"), { recursive: true })).rejects.toThrow("ENOENT");
  });

  it("a directory in use is refused", async () => {
    await start();
    await expect(start()).rejects.toMatchObject({ reason: "ALREADY_LOCKED" });
  });

  it("with metadata down sources and channels run and the sinks that need it wait (L1)", async () => {
    openings = 0;
    const port = await freePort();
    const agent = await start({ bootstrapServers: [`127.0.0.1:${port}`] });
    await until(() => agent.status().channels[0]?.putCount === 25);
    expect(agent.status().channels[0]?.depthCount).toBe(25);
    expect(openings).toBe(0);
    const { ready, parts } = agent.telemetry.readiness.snapshot();
    expect(ready).toBe(false);
    expect(parts.find(({ name }) => name === "registration")?.ready).toBe(false);
    expect(await agent.stop()).toEqual([]);
  });

  it("registers as an agent with its start history; then its sinks open (L1)", async () => {
    const requests: RegisterNodeRequest[] = [];
    const { address } = await startController((request) => void requests.push(request));
    delivered.length = 0;
    const agent = await start({ bootstrapServers: [address] });
    await agent.finishAndDrain();
    expect(delivered).toHaveLength(25);
    expect(requests[0]).toMatchObject({ directoryId: agent.agentId, role: NodeRole.AGENT });
    expect(requests[0]?.starts).toHaveLength(1);
    expect(requests[0]?.handshake?.nodeId).toBe(agent.nodeId);
    await agent.stop();
    const again = await start({ bootstrapServers: [address] });
    await until(() => requests.length === 2);
    expect(requests[1]?.starts).toHaveLength(2);
    expect(requests[1]?.handshake?.clusterId).toBe("CCCCCCCCCCCCCCCCCCCCCC");
    expect(again.nodeId).toBe(agent.nodeId);
  });

  it("a copied directory is refused by the controller: its sinks never open (L1)", async () => {
    openings = 0;
    const { address } = await startController(() => {
      throw new AppError("LINEAGE_REFUSED", "the directory is a copy");
    });
    const agent = await start({ bootstrapServers: [address] });
    expect(await agent.failed).toMatchObject({ reason: "LINEAGE_REFUSED" });
    await until(() => agent.status().sinks[0]?.state === "failed");
    expect(agent.status().sinks[0]?.error).toContain("copy");
    expect(openings).toBe(0);
  });
});
