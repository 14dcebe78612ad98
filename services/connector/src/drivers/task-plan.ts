/**
 * Which tasks this instance runs, by the metadata: pure. A task is one partition of one connector, under one epoch.
 * A change of anything in a plan stops the task's runner and starts another one.
 */
import type { Connector, TaskAssignment, Topic } from "@millrace/proto/metadata";

/** Everything a task is made of. */
export interface TaskPlan {
  readonly key: string;
  readonly connector: string;
  readonly connectorId: string;
  /** Configuration generation of the connector (C5). */
  readonly generation: number;
  readonly sinkConfigJson: string;
  readonly topicId: string;
  readonly topic: string;
  readonly partition: number;
  readonly taskEpoch: number;
}

/** What is read of the metadata. */
export interface TaskMetadata {
  readonly tasks: Iterable<TaskAssignment>;
  readonly connectors: ReadonlyMap<string, Connector>;
  readonly topics: ReadonlyMap<string, Topic>;
}

/**
 * Why a task stops here: `moved` to another epoch (stop writing at once, the destination is fenced), `ended` because
 * its connector or topic is gone or configured anew (publish what was read first), `leaving` (this service stops).
 */
export type StopReason = "moved" | "topicDeleted" | "ended" | "leaving";

/** Key of a task, whoever runs it. */
export function taskKey(task: Pick<TaskAssignment, "connector" | "topicId" | "partition">): string {
  return `${task.connector}\n${task.topicId}\n${task.partition}`;
}

/** The plans of the tasks assigned to this start of this node, by key. */
export function plansFor(metadata: TaskMetadata, nodeId: string, incarnation: string): Map<string, TaskPlan> {
  const plans = new Map<string, TaskPlan>();
  for (const task of metadata.tasks) {
    if (task.instanceId !== nodeId || task.incarnation !== incarnation) continue;
    const connector = metadata.connectors.get(task.connector);
    const topic = metadata.topics.get(task.topicId);
    // Objects of one change arrive together; without them the task is ending.
    if (connector === undefined || topic === undefined) continue;
    const key = taskKey(task);
    plans.set(key, {
      key,
      connector: connector.name,
      connectorId: connector.connectorId,
      generation: connector.generation,
      sinkConfigJson: connector.sinkConfigJson,
      topicId: topic.topicId,
      topic: topic.name,
      partition: task.partition,
      taskEpoch: task.taskEpoch,
    });
  }
  return plans;
}

/** What to do about the runners there are. */
export interface PlanChange {
  readonly stop: readonly { readonly key: string; readonly why: StopReason }[];
  readonly start: readonly TaskPlan[];
}

/** From what runs to what should run. A plan that changed is in both lists. */
export function comparePlans(
  running: ReadonlyMap<string, TaskPlan>,
  wanted: ReadonlyMap<string, TaskPlan>,
  metadata: TaskMetadata,
): PlanChange {
  const assigned = new Set([...metadata.tasks].map(taskKey));
  const stop: { key: string; why: StopReason }[] = [];
  for (const [key, plan] of running) {
    const next = wanted.get(key);
    if (next !== undefined && isSame(plan, next)) continue;
    stop.push({ key, why: whyStopped(plan, next, metadata, assigned.has(key)) });
  }
  const start = [...wanted.values()].filter((plan) => {
    const present = running.get(plan.key);
    return present === undefined || !isSame(present, plan);
  });
  return { stop, start };
}

function isSame(a: TaskPlan, b: TaskPlan): boolean {
  return (
    a.taskEpoch === b.taskEpoch &&
    a.connectorId === b.connectorId &&
    a.generation === b.generation &&
    a.sinkConfigJson === b.sinkConfigJson
  );
}

function whyStopped(
  plan: TaskPlan,
  next: TaskPlan | undefined,
  metadata: TaskMetadata,
  isAssigned: boolean,
): StopReason {
  if (!metadata.topics.has(plan.topicId)) return "topicDeleted";
  if (next === undefined) return isAssigned ? "moved" : "ended";
  return next.taskEpoch === plan.taskEpoch ? "ended" : "moved";
}
