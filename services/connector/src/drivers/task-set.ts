/**
 * The tasks of this instance: follows the metadata's assignments, starts and stops runners. One runner per task at a
 * time: the next of a task starts when the one before it has closed its sink.
 */
import type { TaskStatus as TaskReport } from "@millrace/proto/controller";
import type { TaskContext } from "./task-context.ts";
import { comparePlans, plansFor, type StopReason, type TaskMetadata } from "./task-plan.ts";
import { type ConnectorTaskStatus, TaskRunner } from "./task-runner.ts";

/** See the file's comment. */
export class TaskSet {
  readonly #context: TaskContext;
  readonly #nodeId: string;
  readonly #incarnation: string;
  readonly #runners = new Map<string, TaskRunner>();
  /** Task key -> the end of its last stopped runner. */
  readonly #ending = new Map<string, Promise<void>>();
  #isStopped = false;

  constructor(options: { nodeId: string; incarnation: string; context: TaskContext }) {
    this.#context = options.context;
    this.#nodeId = options.nodeId;
    this.#incarnation = options.incarnation;
  }

  /** Brings the runners in line with the assignments. */
  update(metadata: TaskMetadata): void {
    if (this.#isStopped) return;
    const wanted = plansFor(metadata, this.#nodeId, this.#incarnation);
    const running = new Map([...this.#runners].map(([key, runner]) => [key, runner.plan]));
    const { stop, start } = comparePlans(running, wanted, metadata);
    for (const { key, why } of stop) this.#stop(key, why);
    for (const plan of start) {
      const runner = new TaskRunner(plan, this.#context);
      this.#runners.set(plan.key, runner);
      runner.start(this.#ending.get(plan.key) ?? Promise.resolve());
    }
  }

  get statuses(): ConnectorTaskStatus[] {
    return [...this.#runners.values()].map((runner) => runner.status);
  }

  get reports(): TaskReport[] {
    return [...this.#runners.values()].map((runner) => runner.report);
  }

  /** Publishes what all sinks hold now. */
  async flush(): Promise<void> {
    await Promise.all([...this.#runners.values()].map((runner) => runner.flush()));
  }

  /** Stops all tasks, after publishing what they read. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const key of [...this.#runners.keys()]) this.#stop(key, "leaving");
    await Promise.all(this.#ending.values());
  }

  #stop(key: string, why: StopReason): void {
    const runner = this.#runners.get(key);
    if (runner === undefined) return;
    this.#runners.delete(key);
    const end = runner.stop(why).finally(() => {
      if (this.#ending.get(key) === end) this.#ending.delete(key);
    });
    this.#ending.set(key, end);
  }
}
