/** What is read at every scrape. */
import type { Telemetry } from "@millrace/telemetry";
import type { ConnectorTaskStatus } from "./drivers/task-runner.ts";
import type { TaskSet } from "./drivers/task-set.ts";
import { lagRecords, tasksByState } from "./events.ts";

/** Offsets of a task that are not delivered, as far as is known. */
export function lagOf({ highWatermark, resume }: ConnectorTaskStatus): number {
  return Math.max(0, highWatermark - resume);
}

/** Registers the readers; returns what takes them away. */
export function observeTasks(telemetry: Telemetry, tasks: TaskSet): () => void {
  const ends = [
    telemetry.metrics.observe(tasksByState, () =>
      tasks.statuses.map(({ connector, state }) => ({ labels: { connector, state }, value: 1 })),
    ),
    telemetry.metrics.observe(lagRecords, () =>
      tasks.statuses.map((status) => ({ labels: { connector: status.connector }, value: lagOf(status) })),
    ),
  ];
  return () => {
    for (const end of ends) end();
  };
}
