/** Power cuts under the controller: whatever was answered is there after the restart, and no id comes twice (M2). */
import { AppError } from "@millrace/base";
import { type Answer, type Command, defaultLimits, type MetadataRecord } from "@millrace/controller";
import { openEmbeddedLog } from "@millrace/coordination";
import { SimClock, SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { ActiveController } from "./active-controller.ts";

const directory = "/metadata";

async function start(
  disk: SimDisk,
  onRecords: (records: readonly MetadataRecord[]) => void = () => {},
): Promise<ActiveController> {
  const log = await openEmbeddedLog({ disk, directory, fileBytesMax: 4_000 });
  return ActiveController.start(
    {
      ...{ log, clock: new SimClock(), controllerId: "m1", limits: defaultLimits, snapshotEveryBatches: 6 },
      ...{ defaultPartitionCount: 1, defaultReplicationFactor: 1 },
      onSnapshotFailed: () => {},
      onOffline: () => {},
    },
    ({ records }) => onRecords(records),
  );
}

function commands(): Command[] {
  const register = (nodeId: string, starts: string[]): Command => ({
    kind: "registerNode",
    ...{
      requestId: "",
      nodeId,
      role: "storage",
      incarnation: starts.at(-1) ?? "",
      directoryId: `d-${nodeId}`,
      starts,
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
  const list: Command[] = [register("s1", ["a"]), register("s2", ["b"])];
  for (let index = 0; index < 8; index++) {
    const name = `t${index}`;
    list.push(
      {
        kind: "createTopic",
        ...{ requestId: `c${index}`, name, partitionCount: 3, replicationFactor: 1, config: {} },
      },
      { kind: "initProducer", requestId: `p${index}`, name: "agent", lineage: [] },
      { kind: "allocateProducerIds", count: 5 },
      register("s1", ["a", ...Array.from({ length: index + 1 }, (_, start) => `a${start}`)]),
    );
    if (index % 3 === 2) list.push({ kind: "deleteTopic", requestId: `d${index}`, name, topicId: "" });
  }
  return list;
}

describe("the controller through power cuts", () => {
  it("answers every repeated request as before, and issues nothing twice", async () => {
    const disk = new SimDisk();
    const answered: { readonly command: Command; readonly answer: Answer }[] = [];
    const given = { producerIds: 0, nodeEpoch: 0 };
    const note = (records: readonly MetadataRecord[]): void => {
      for (const record of records) {
        if (record.kind === "producerIdsAllocated")
          given.producerIds = Math.max(given.producerIds, record.nextId);
        if (record.kind === "nodeRegistered") given.nodeEpoch = Math.max(given.nodeEpoch, record.nodeEpoch);
      }
    };
    const cuts: { left: SimDisk; answered: number; given: typeof given; where: string }[] = [];
    disk.onOperation = ({ number, kind, path }) => {
      for (const seed of [0, 1, number * 10, number * 10 + 1]) {
        const where = `power cut after operation ${number} (${kind} ${path}), seed ${seed}`;
        cuts.push({ left: disk.crash(seed), answered: answered.length, given: { ...given }, where });
      }
    };
    const controller = await start(disk);
    for (const command of commands()) {
      const { answer, records } = await controller.submit(command);
      note(records);
      if (answer !== undefined) answered.push({ command, answer });
    }
    await controller.stop();
    expect(cuts.length).toBeGreaterThan(400);
    for (const cut of cuts) {
      const again = await start(cut.left);
      for (const { command, answer } of answered.slice(0, cut.answered)) {
        if (!("requestId" in command) || command.requestId === "") continue;
        expect(again.dryRun(command), cut.where).toMatchObject({ answer, records: [] });
      }
      const fresh = await again.submit({ kind: "allocateProducerIds", count: 1 });
      const [block] = fresh.records;
      expect(block?.kind === "producerIdsAllocated" && block.nextId - 1, cut.where).toBeGreaterThanOrEqual(
        cut.given.producerIds,
      );
      const starts = [
        ...(again.image.lineages.get("d-s1") === undefined
          ? []
          : [again.image.lineages.get("d-s1")?.startId ?? ""]),
        "new",
      ];
      const { answer } = await again.submit({
        kind: "registerNode",
        ...{ requestId: "", nodeId: "s1", role: "storage", incarnation: "new", directoryId: "d-s1", starts },
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
      expect(answer?.kind === "nodeRegistered" && answer.nodeEpoch, cut.where).toBeGreaterThan(
        cut.given.nodeEpoch,
      );
      await again.stop();
    }
  });

  it("a full disk refuses changes and loses none; they are taken when there is room", async () => {
    const disk = new SimDisk();
    const controller = await start(disk);
    for (const command of commands().slice(0, 6)) await controller.submit(command);
    const { image } = controller;
    disk.inject = ({ kind }) => (kind === "write" ? "ENOSPC" : undefined);
    for (const command of commands().slice(6, 9)) {
      const refused: unknown = await controller.submit(command).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(AppError);
      expect((refused as AppError).reason).toBe("DISK_FULL");
    }
    expect(controller.image).toBe(image);
    disk.inject = undefined;
    for (const command of commands().slice(6)) await controller.submit(command);
    await controller.stop();
    const again = await start(disk.crash(0));
    expect(again.image.topics).toEqual(controller.image.topics);
  });
});
