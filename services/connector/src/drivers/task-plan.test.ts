import type { Connector, TaskAssignment, Topic } from "@millrace/proto/metadata";
import { describe, expect, it } from "vitest";
import { comparePlans, plansFor, type TaskMetadata } from "./task-plan.ts";

interface World {
  readonly tasks: TaskAssignment[];
  readonly connectors: Map<string, Connector>;
  readonly topics: Map<string, Topic>;
}

const assigned = (change: Partial<TaskAssignment> = {}): TaskAssignment => ({
  connector: "out",
  topicId: "T1",
  partition: 0,
  instanceId: "me",
  incarnation: "i1",
  taskEpoch: 1,
  ...change,
});

function world(change: Partial<World> & { connector?: Partial<Connector> } = {}): TaskMetadata {
  const connector = {
    name: "out",
    connectorId: "C1",
    topics: ["logs"],
    sinkConfigJson: '{"type":"null"}',
    generation: 1,
    createdMs: 0,
    ...change.connector,
  };
  const topic = { topicId: "T1", name: "logs", partitions: [], config: {}, createdMs: 0 };
  return {
    tasks: change.tasks ?? [assigned()],
    connectors: change.connectors ?? new Map([["out", connector]]),
    topics: change.topics ?? new Map([["T1", topic]]),
  };
}

const keysOf = (metadata: TaskMetadata): string[] => [...plansFor(metadata, "me", "i1").keys()];
const running = plansFor(world(), "me", "i1");

describe("plans", () => {
  it("are the tasks of this node and this start of it", () => {
    expect(keysOf(world())).toEqual(["out\nT1\n0"]);
    expect(keysOf(world({ tasks: [assigned({ instanceId: "other" })] }))).toEqual([]);
    expect(keysOf(world({ tasks: [assigned({ incarnation: "i0" })] }))).toEqual([]);
    expect(keysOf(world({ tasks: [assigned({ instanceId: "" })] }))).toEqual([]);
  });

  it("need their connector and their topic", () => {
    expect(keysOf(world({ connectors: new Map() }))).toEqual([]);
    expect(keysOf(world({ topics: new Map() }))).toEqual([]);
  });
});

describe("changes", () => {
  const ended = world({ tasks: [] });
  it.each<[string, TaskMetadata, string | undefined, boolean]>([
    ["nothing changed", world(), undefined, false],
    [
      "moved to another instance",
      world({ tasks: [assigned({ instanceId: "other", taskEpoch: 2 })] }),
      "moved",
      false,
    ],
    [
      "given up and given back with a higher epoch (C1)",
      world({ tasks: [assigned({ taskEpoch: 3 })] }),
      "moved",
      true,
    ],
    ["the topic was deleted (L3)", world({ tasks: [], topics: new Map() }), "topicDeleted", false],
    ["the connector was deleted", ended, "ended", false],
    [
      "the configuration changed",
      world({ connector: { sinkConfigJson: "{}", generation: 2 } }),
      "ended",
      true,
    ],
    [
      "the connector was re-created from scratch (C9)",
      world({ connector: { connectorId: "C2" } }),
      "ended",
      true,
    ],
  ])("%s", (_, metadata, why, startsAgain) => {
    const { stop, start } = comparePlans(running, plansFor(metadata, "me", "i1"), metadata);
    expect(stop).toEqual(why === undefined ? [] : [{ key: "out\nT1\n0", why }]);
    expect(start.map((plan) => plan.key)).toEqual(startsAgain ? ["out\nT1\n0"] : []);
  });

  it("a task that was not here starts", () => {
    const metadata = world({ tasks: [assigned(), assigned({ partition: 1 })] });
    const { stop, start } = comparePlans(running, plansFor(metadata, "me", "i1"), metadata);
    expect(stop).toEqual([]);
    expect(start).toMatchObject([{ partition: 1, topic: "logs", connectorId: "C1", taskEpoch: 1 }]);
  });
});
