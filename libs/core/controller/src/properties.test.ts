/** What holds after any sequence of commands, decided in groups as the controller does. */
import { AppError } from "@millrace/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { applyBatch, applyRecords, beginBatch } from "./apply.ts";
import type { Command, DecisionInputs } from "./commands.ts";
import { decide } from "./decide.ts";
import { type ClusterImage, emptyImage, type NodeImage } from "./image.ts";
import { defaultLimits } from "./limits.ts";
import type { Answer, MetadataRecord } from "./records.ts";
import { snapshotRecords } from "./snapshot.ts";

const topic = fc.constantFrom("t1", "t2", "t3");
const storage = fc.constantFrom("s1", "s2", "s3");
const instance = fc.constantFrom("c1", "c2", "c3");
const connector = fc.constantFrom("k1", "k2");
const requestId = fc.oneof(fc.constant(""), fc.constantFrom("r1", "r2", "r3", "r4"));
const start = fc.nat({ max: 40 });

const register = (node: fc.Arbitrary<string>, role: NodeImage["role"]): fc.Arbitrary<Command> =>
  fc
    .record({
      nodeId: node,
      start,
      seenNodeEpoch: fc.nat({ max: 60 }),
      seenEpoch: fc.nat({ max: 9 }),
      requestId,
    })
    .map(({ nodeId, start: last, seenNodeEpoch, seenEpoch, requestId: id }) => ({
      kind: "registerNode",
      ...{ requestId: id, nodeId, role, seenNodeEpoch },
      incarnation: `${nodeId}-${last}`,
      directoryId: `d-${nodeId}`,
      // Histories that sometimes lack the last start seen.
      starts: Array.from({ length: last + 1 }, (_, index) => `${nodeId}-${index}`).slice(-20),
      listeners: [],
      rack: "",
      version: "",
      seenProducerId: seenNodeEpoch * 100,
      seenNamedProducerId: 0,
      seenEpochs: [{ topicId: "id-1", partition: 0, leaderEpoch: seenEpoch }],
    }));

const anyNode = fc.oneof(storage, instance);
const sessionCommand = fc
  .record({
    kind: fc.constantFrom("nodeTimedOut" as const, "stopNode" as const),
    nodeId: anyNode,
    nodeEpoch: fc.nat({ max: 80 }),
  })
  .map((command): Command => command);

const command: fc.Arbitrary<Command> = fc.oneof(
  register(storage, "storage"),
  register(instance, "connector"),
  sessionCommand,
  sessionCommand,
  fc
    .record({
      requestId,
      name: topic,
      partitionCount: fc.integer({ min: 1, max: 4 }),
      replicationFactor: fc.integer({ min: 1, max: 3 }),
    })
    .map((fields): Command => ({ kind: "createTopic", ...fields, config: {} })),
  fc
    .record({ requestId, name: topic })
    .map((fields): Command => ({ kind: "deleteTopic", ...fields, topicId: "" })),
  fc.record({ requestId, name: topic, value: fc.nat() }).map(
    ({ value, ...fields }): Command => ({
      kind: "alterTopic",
      ...fields,
      set: { "retention.ms": String(value) },
      unset: [],
    }),
  ),
  fc
    .record({ requestId, name: fc.constantFrom("p1", "p2") })
    .map((fields): Command => ({ kind: "initProducer", ...fields, lineage: [] })),
  fc
    .record({ requestId, name: fc.constantFrom("p1", "p2") })
    .map((fields): Command => ({ kind: "removeProducer", ...fields })),
  fc.constant<Command>({ kind: "allocateProducerIds", count: 10 }),
  fc.record({ requestId, name: connector, reset: fc.boolean() }).map(
    (fields): Command => ({
      kind: "createConnector",
      ...fields,
      topics: ["t1", "t2"],
      sinkConfigJson: '{"type":"null"}',
    }),
  ),
  fc
    .record({ requestId, name: connector })
    .map((fields): Command => ({ kind: "deleteConnector", ...fields })),
);

/** The time-outs of a run hit live registrations: epochs are taken modulo the present one. */
function aim(image: ClusterImage, wanted: Command): Command {
  if (wanted.kind !== "nodeTimedOut" && wanted.kind !== "stopNode") return wanted;
  const node = image.nodes.get(wanted.nodeId);
  return node === undefined || wanted.nodeEpoch % 4 === 0 ? wanted : { ...wanted, nodeEpoch: node.nodeEpoch };
}

const groups = fc.array(fc.array(command, { minLength: 1, maxLength: 5 }), { maxLength: 30 });

interface Step {
  readonly before: ClusterImage;
  readonly after: ClusterImage;
  readonly records: readonly MetadataRecord[];
}

/** Runs groups of commands as the controller does: one batch each. Refusals change nothing. */
function run(
  commandGroups: readonly (readonly Command[])[],
  onAnswer: (command: Command, answer: Answer | undefined) => void = () => {},
): Step[] {
  const steps: Step[] = [];
  let image = applyBatch(emptyImage, 1, [
    { kind: "clusterCreated", clusterId: "c", createdMs: 0 },
    { kind: "featureLevelSet", level: 1 },
  ]);
  let ids = 0;
  for (const group of commandGroups) {
    const before = image;
    const records: MetadataRecord[] = [];
    let tried = beginBatch(before, before.sequence + 1);
    for (const wanted of group) {
      const inputs: DecisionInputs = {
        nowMs: 0,
        newId: `id-${++ids}`,
        limits: { ...defaultLimits, replicationFactorMax: 3 },
        defaultPartitionCount: 1,
        defaultReplicationFactor: 1,
      };
      try {
        const decision = decide(tried, aim(tried, wanted), inputs);
        tried = applyRecords(tried, decision.records);
        records.push(...decision.records);
        onAnswer(wanted, decision.answer);
      } catch (error) {
        // Anything but a refusal is a bug.
        if (!(error instanceof AppError)) throw error;
      }
    }
    if (records.length === 0) continue;
    image = applyBatch(before, before.sequence + 1, records);
    expect(image).toEqual(tried);
    steps.push({ before, after: image, records });
  }
  return steps;
}

const runs = { numRuns: 300 };

describe("metadata after any commands", () => {
  it("replay and snapshot give the same image", () => {
    fc.assert(
      fc.property(groups, (commandGroups) => {
        const steps = run(commandGroups);
        const last = steps.at(-1)?.after;
        if (last === undefined) return;
        let replayed = steps[0]?.before as ClusterImage;
        for (const step of steps) replayed = applyBatch(replayed, step.after.sequence, step.records);
        expect(replayed).toEqual(last);
        expect(applyBatch(emptyImage, last.sequence, snapshotRecords(last))).toEqual(last);
      }),
      runs,
    );
  });

  it("epochs and ids rise and are never used twice (M2)", () => {
    fc.assert(
      fc.property(groups, (commandGroups) => {
        const taskEpochs = new Map<string, number>();
        const nodeEpochs = new Set<number>();
        const topicIds = new Set<string>();
        const producers = new Set<string>();
        const leaders = new Map<string, string>();
        const fresh = <Value>(used: Set<Value>, value: Value): void => {
          expect(used.has(value)).toBe(false);
          used.add(value);
        };
        for (const { records } of run(commandGroups)) {
          for (const record of records) {
            if (record.kind === "topicCreated") fresh(topicIds, record.topicId);
            if (record.kind === "producerNamed")
              fresh(producers, `${record.producerId}/${record.producerEpoch}`);
            if (record.kind === "nodeRegistered") {
              expect(record.nodeEpoch).toBeGreaterThan(Math.max(0, ...nodeEpochs));
              fresh(nodeEpochs, record.nodeEpoch);
            }
            if (record.kind === "taskAssigned") {
              // By name: a deleted and re-created connector fences its former tasks too (C9).
              const key = `${record.connector}/${record.topicId}/${record.partition}`;
              expect(record.taskEpoch).toBeGreaterThan(taskEpochs.get(key) ?? 0);
              taskEpochs.set(key, record.taskEpoch);
            }
            if (record.kind === "partitionChanged" && record.state.leaderId !== "") {
              // One leader per leader epoch, and one start of it.
              const key = `${record.topicId}/${record.partition}/${record.state.leaderEpoch}`;
              expect(leaders.get(key) ?? record.state.leaderId).toBe(record.state.leaderId);
              leaders.set(key, record.state.leaderId);
            }
          }
        }
      }),
      runs,
    );
  });

  it("every partition of a connector's topics has exactly one task, on an alive instance if there is one, balanced (C1)", () => {
    fc.assert(
      fc.property(groups, (commandGroups) => {
        for (const { after } of run(commandGroups)) {
          const wanted = new Set<string>();
          for (const { name, topics } of after.connectors.values()) {
            for (const topicName of topics) {
              const found = after.topics.get(after.topicIds.get(topicName) ?? "");
              found?.partitions.forEach((_, partition) =>
                wanted.add(`${name}/${found.topicId}/${partition}`),
              );
            }
          }
          expect(new Set(after.tasks.keys())).toEqual(wanted);
          const alive = [...after.nodes.values()].filter(
            (node) => node.role === "connector" && node.state === "alive",
          );
          const counts = new Map(alive.map((node) => [node.nodeId, 0]));
          for (const task of after.tasks.values()) {
            if (alive.length === 0) {
              expect(task.instanceId).toBe("");
              continue;
            }
            expect(after.nodes.get(task.instanceId)?.incarnation).toBe(task.incarnation);
            counts.set(task.instanceId, (counts.get(task.instanceId) ?? Number.NaN) + 1);
          }
          if (alive.length > 0)
            expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
        }
      }),
      runs,
    );
  });

  it("a task moves only when its instance went, or to balance: never more moves than needed", () => {
    fc.assert(
      fc.property(groups, (commandGroups) => {
        for (const group of run(commandGroups.map((commands) => commands.slice(0, 1)))) {
          const stayed = [...group.after.tasks].filter(([key, task]) => {
            const before = group.before.tasks.get(key);
            return before !== undefined && before.instanceId !== "" && before.instanceId !== task.instanceId;
          });
          const ceiling = Math.ceil(
            group.after.tasks.size /
              Math.max(
                1,
                [...group.after.nodes.values()].filter(
                  (node) => node.role === "connector" && node.state === "alive",
                ).length,
              ),
          );
          // Who lost a task while alive had more than its share.
          for (const [key] of stayed) {
            const former = group.before.tasks.get(key)?.instanceId ?? "";
            if (group.after.nodes.get(former)?.state !== "alive") continue;
            const had = [...group.before.tasks.values()].filter((task) => task.instanceId === former).length;
            const has = [...group.after.tasks.values()].filter((task) => task.instanceId === former).length;
            expect(had).toBeGreaterThan(has);
            expect(has).toBeGreaterThanOrEqual(ceiling - 1);
          }
        }
      }),
      runs,
    );
  });

  it("a leader is alive and in sync; a fenced or stopped node leads nothing", () => {
    fc.assert(
      fc.property(groups, (commandGroups) => {
        for (const { after } of run(commandGroups)) {
          for (const { partitions } of after.topics.values()) {
            for (const { leaderId, inSyncIds } of partitions) {
              expect(inSyncIds.length).toBeGreaterThan(0);
              if (leaderId === "") continue;
              expect(after.nodes.get(leaderId)?.state).toBe("alive");
              expect(inSyncIds).toContain(leaderId);
            }
          }
        }
      }),
      runs,
    );
  });

  it("a repeated request gives the first answer and changes nothing", () => {
    fc.assert(
      fc.property(groups, (commandGroups) => {
        const first = new Map<string, Answer>();
        run(commandGroups, (wanted, answer) => {
          if (!("requestId" in wanted) || wanted.requestId === "" || answer === undefined) return;
          // A registration that ended is renewed; everything else is answered from memory.
          if (answer.kind === "nodeRegistered") return;
          const before = first.get(wanted.requestId);
          if (before !== undefined && before.kind !== "nodeRegistered") expect(answer).toEqual(before);
          first.set(wanted.requestId, answer);
        });
      }),
      runs,
    );
  });
});
