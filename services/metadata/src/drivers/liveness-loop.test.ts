import { type Command, defaultLimits } from "@millrace/controller";
import { type EmbeddedLog, openEmbeddedLog } from "@millrace/coordination";
import { SimClock, SimDisk } from "@millrace/testkit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ActiveController } from "./active-controller.ts";
import { LivenessLoop } from "./liveness-loop.ts";
import { Sessions } from "./sessions.ts";

const timeoutMs = 3_000;

describe("liveness", () => {
  let clock: SimClock;
  let disk: SimDisk;
  let log: EmbeddedLog;
  let controller: ActiveController;
  let sessions: Sessions;
  let loop: LivenessLoop;
  beforeEach(async () => {
    clock = new SimClock();
    disk = new SimDisk();
    log = await openEmbeddedLog({ disk, directory: "/metadata" });
    await start();
  });
  afterEach(() => loop.stop());

  async function start(): Promise<void> {
    controller = await ActiveController.start(
      {
        ...{ log, clock, controllerId: "m1", limits: defaultLimits, snapshotEveryBatches: 1_000 },
        ...{ defaultPartitionCount: 1, defaultReplicationFactor: 1 },
        onSnapshotFailed: () => {},
        onOffline: () => {},
      },
      () => {},
    );
    sessions = new Sessions({ clock, timeoutMs, tickMs: timeoutMs / 12 });
    loop = new LivenessLoop(controller, sessions, clock, "m1");
  }

  const register = (nodeId: string, role: "storage" | "connector" | "metadata"): Command => ({
    kind: "registerNode",
    ...{ requestId: "", nodeId, role, incarnation: "i", directoryId: `d-${nodeId}`, starts: ["i"] },
    ...{
      listeners: [],
      rack: "",
      version: "",
      seenNodeEpoch: 0,
      seenProducerId: 0,
      seenNamedProducerId: 0,
      seenEpochs: [],
    },
  });

  /** Time passes in steps, so that what a tick begins can be committed before the next. */
  async function advance(forMs: number): Promise<void> {
    for (let passedMs = 0; passedMs < forMs; passedMs += 50) {
      clock.advance(50);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  const stateOf = (nodeId: string): string | undefined => controller.image.nodes.get(nodeId)?.state;

  it("moves the tasks of a dead instance within 5 s", async () => {
    await controller.submit(register("m1", "metadata"));
    await controller.submit(register("s1", "storage"));
    await controller.submit({
      kind: "createTopic",
      ...{ requestId: "", name: "logs", partitionCount: 2, replicationFactor: 1, config: {} },
    });
    await controller.submit({
      kind: "createConnector",
      ...{ requestId: "", name: "out", topics: ["logs"], sinkConfigJson: '{"type":"null"}', reset: false },
    });
    await controller.submit(register("c1", "connector"));
    await controller.submit(register("c2", "connector"));
    const holders = (): string[] => [...controller.image.tasks.values()].map((task) => task.instanceId);
    expect(new Set(holders())).toEqual(new Set(["c1", "c2"]));
    const diedMs = clock.monotonicMs();
    while (holders().includes("c2")) {
      await advance(250);
      for (const nodeId of ["s1", "c1"])
        sessions.touch(nodeId, controller.image.nodes.get(nodeId)?.nodeEpoch ?? 0);
    }
    expect(clock.monotonicMs() - diedMs).toBeLessThanOrEqual(5_000);
    expect(clock.monotonicMs() - diedMs).toBeGreaterThanOrEqual(timeoutMs);
    expect([stateOf("c1"), stateOf("c2"), stateOf("s1"), stateOf("m1")]).toEqual([
      "alive",
      "fenced",
      "alive",
      "alive",
    ]);
  });

  it("gives every node a full session after a restart of the controller", async () => {
    await controller.submit(register("s1", "storage"));
    await advance(2_500);
    await loop.stop();
    await controller.stop();
    await start();
    await advance(2_500);
    expect(stateOf("s1")).toBe("alive");
    await advance(1_000);
    expect(stateOf("s1")).toBe("fenced");
  });

  it("fences a stopping node once it is silent", async () => {
    await controller.submit(register("s1", "storage"));
    await controller.submit({ kind: "stopNode", nodeId: "s1", nodeEpoch: 1 });
    expect(stateOf("s1")).toBe("stopping");
    await advance(timeoutMs + 500);
    expect(stateOf("s1")).toBe("fenced");
  });

  it("tries again to fence when the disk was full", async () => {
    await controller.submit(register("s1", "storage"));
    disk.inject = ({ kind }) => (kind === "write" ? "ENOSPC" : undefined);
    await advance(timeoutMs + 500);
    expect(stateOf("s1")).toBe("alive");
    disk.inject = undefined;
    await advance(timeoutMs + 500);
    expect(stateOf("s1")).toBe("fenced");
  });
});
