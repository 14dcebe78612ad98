/** How tasks stand, as their instances last reported: in memory only, it decides nothing. */
import { type ClusterImage, taskKey } from "@millrace/controller";
import type { TaskStatus } from "@millrace/proto/controller";
import type { CommittedChange } from "./active-controller.ts";

/** Longest error text kept of a task, in characters. */
const errorCharsMax = 1_000;

/** Bounded by the number of tasks in the image. */
export class TaskBoard {
  readonly #statuses = new Map<string, TaskStatus>();

  /** Notes an instance's report; only tasks it holds, under their present epoch, count. */
  report(image: ClusterImage, nodeId: string, statuses: readonly TaskStatus[]): void {
    for (const status of statuses) {
      const key = taskKey(status);
      const task = image.tasks.get(key);
      if (task?.instanceId !== nodeId || task.taskEpoch !== status.taskEpoch) continue;
      this.#statuses.set(key, { ...status, error: status.error.slice(0, errorCharsMax) });
    }
  }

  /** Forgets tasks that ended. A moved task keeps its last report until its new instance sends one. */
  follow(change: CommittedChange): void {
    for (const record of change.records)
      if (record.kind === "taskEnded") this.#statuses.delete(taskKey(record));
  }

  /** The reports of a connector's tasks. */
  of(image: ClusterImage, connector: string): TaskStatus[] {
    const statuses: TaskStatus[] = [];
    for (const [key, task] of image.tasks) {
      const status = task.connector === connector ? this.#statuses.get(key) : undefined;
      if (status !== undefined) statuses.push(status);
    }
    return statuses;
  }
}
