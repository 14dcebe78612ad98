import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { applyBatch, type Command, defaultLimits, emptyImage } from "@millrace/controller";
import { ChangeAssembler, type EmbeddedLog, type NewBatch, openEmbeddedLog } from "@millrace/coordination";
import { type Disk, realDisk, systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ActiveController, type CommittedChange, type ControllerOptions } from "./active-controller.ts";

describe("the active controller", () => {
  let directory: string;
  let log: EmbeddedLog;
  let changes: CommittedChange[];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "millrace-metadata-"));
    changes = [];
    log = await openEmbeddedLog({ disk: realDisk, directory });
  });
  afterEach(async () => {
    await log.close();
    await rm(directory, { recursive: true });
  });

  function start(options: Partial<ControllerOptions> = {}): Promise<ActiveController> {
    return ActiveController.start(
      {
        ...{ log, clock: systemClock, controllerId: "m1", limits: defaultLimits },
        ...{ defaultPartitionCount: 1, defaultReplicationFactor: 1, snapshotEveryBatches: 1_000_000 },
        onSnapshotFailed: (error) => {
          throw error;
        },
        onOffline: () => {},
        ...options,
      },
      (change) => changes.push(change),
    );
  }

  const register = (nodeId: string): Command => ({
    kind: "registerNode",
    ...{
      requestId: "",
      nodeId,
      role: "storage",
      incarnation: "i",
      directoryId: `d-${nodeId}`,
      starts: ["i"],
    },
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

  const createTopic = (name: string, partitionCount = 1): Command => ({
    kind: "createTopic",
    ...{ requestId: "", name, partitionCount, replicationFactor: 1, config: {} },
  });

  it("makes the cluster once and is elected at every start", async () => {
    const first = await start();
    const { clusterId } = first.image;
    expect(clusterId).toHaveLength(22);
    await first.stop();
    const second = await start();
    expect(second.image).toMatchObject({ clusterId, controllerEpoch: 2, featureLevel: 1 });
  });

  it("commits what is pending as one batch (group commit), each decided after the one before", async () => {
    const controller = await start();
    await controller.submit(register("s1"));
    const { sequence } = log.head;
    const results = await Promise.allSettled(
      ["a", "b", "a", "c"].map((name) => controller.submit(createTopic(name))),
    );
    expect(results.map((result) => result.status)).toEqual([
      "fulfilled",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
    expect((results[2] as PromiseRejectedResult).reason).toMatchObject({ reason: "TOPIC_ALREADY_EXISTS" });
    expect(log.head.sequence).toBe(sequence + 1);
    expect([...controller.image.topicIds.keys()]).toEqual(["a", "b", "c"]);
  });

  it("answers only what is in the log, and its image is the log's replay", async () => {
    const controller = await start();
    await controller.submit(register("s1"));
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => controller.submit(createTopic(`t${index}`, 3))),
    );
    let image = emptyImage;
    const assembler = new ChangeAssembler();
    for await (const batch of log.read(1)) {
      const change = assembler.add(batch);
      if (change !== undefined) image = applyBatch(image, change.position.sequence, change.records);
    }
    expect(image).toEqual(controller.image);
    expect(changes.at(-1)?.image).toBe(controller.image);
    expect(changes.map((change) => change.previous.sequence).slice(1)).toEqual(
      changes.map((change) => change.position.sequence).slice(0, -1),
    );
  });

  it("writes a change over 512 KiB as several batches that take effect together", async () => {
    const controller = await start();
    await controller.submit(register("s1"));
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => controller.submit(createTopic(`t${index}`, 1_000))),
    );
    const before = log.head.sequence;
    await controller.submit({ kind: "nodeTimedOut", nodeId: "s1", nodeEpoch: 1 });
    expect(log.head.sequence).toBeGreaterThan(before + 1);
    expect(changes.at(-1)?.previous.sequence).toBe(before);
    await controller.stop();
    const { image } = controller;
    const again = await start();
    expect({ ...again.image, sequence: 0, controllerEpoch: 0 }).toEqual({
      ...image,
      sequence: 0,
      controllerEpoch: 0,
    });
  });

  it("a change of which only the first parts were written before kill -9 has never been", async () => {
    const controller = await start();
    await controller.submit(register("s1"));
    await controller.stop();
    const part: NewBatch = {
      ...{ batchId: "b", changeId: "c", part: 0, partCount: 2 },
      records: [{ kind: "nodeFenced", nodeId: "s1", nodeEpoch: 1 }],
    };
    await log.append(log.head.sequence, part);
    const again = await start();
    expect(again.image.nodes.get("s1")?.state).toBe("alive");
  });

  it("snapshots as it goes, and starts from the snapshot to the same image", async () => {
    const controller = await start({ snapshotEveryBatches: 5 });
    await controller.submit(register("s1"));
    for (let index = 0; index < 23; index++) await controller.submit(createTopic(`t${index}`));
    await controller.stop();
    expect((await log.loadSnapshot())?.position.sequence).toBeGreaterThan(15);
    changes = [];
    const again = await start();
    expect(changes.length).toBeLessThan(8);
    expect(again.image.topics).toEqual(controller.image.topics);
  });

  it("refuses everything once the log is offline, and says so once", async () => {
    let isBroken = false;
    const disk: Disk = Object.assign(Object.create(realDisk) as Disk, {
      open: async (path: string, mode: Parameters<Disk["open"]>[1]) => {
        const file = await realDisk.open(path, mode);
        return Object.assign(Object.create(file) as typeof file, {
          size: () => file.size(),
          truncate: (bytes: number) => file.truncate(bytes),
          close: () => file.close(),
          read: file.read.bind(file),
          write: file.write.bind(file),
          dataSync: () =>
            isBroken ? Promise.reject(Object.assign(new Error("no"), { code: "EIO" })) : file.dataSync(),
        });
      },
    });
    await log.close();
    log = await openEmbeddedLog({ disk, directory });
    const offline: AppError[] = [];
    const controller = await start({ onOffline: (error) => offline.push(error) });
    const { image } = controller;
    isBroken = true;
    const outcomes = await Promise.allSettled([
      controller.submit(register("s1")),
      controller.submit(register("s2")),
    ]);
    expect(
      outcomes
        .map((outcome) => (outcome as PromiseRejectedResult).reason as AppError)
        .map((error) => error.reason),
    ).toEqual(["STORAGE_FAILED", "STORAGE_FAILED"]);
    isBroken = false;
    await expect(controller.submit(register("s3"))).rejects.toMatchObject({ reason: "STORAGE_FAILED" });
    expect(controller.image).toBe(image);
    expect(offline).toHaveLength(1);
    expect(controller.failure).toBeDefined();
  });

  it("a dry run changes nothing", async () => {
    const controller = await start();
    await controller.submit(register("s1"));
    const { image } = controller;
    expect(controller.dryRun(createTopic("x", 2)).image.topicIds.has("x")).toBe(true);
    expect(() => controller.dryRun(createTopic("../x"))).toThrow(AppError);
    expect(controller.image).toBe(image);
  });

  it("takes nothing after stop", async () => {
    const controller = await start();
    const last = controller.submit(register("s1"));
    await controller.stop();
    await expect(last).resolves.toBeDefined();
    await expect(controller.submit(register("s2"))).rejects.toMatchObject({ reason: "NODE_STARTING" });
  });
});
