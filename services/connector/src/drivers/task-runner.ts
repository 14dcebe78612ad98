/**
 * Runs one task: opens its sink, delivers, and opens it again after failures with growing pauses, until it is stopped.
 *
 * A sink says where it stands; where it cannot, delivery goes on from what this runner has seen delivered, and begins
 * at the start of the log at each assignment (at-least-once).
 */

import { join } from "node:path";
import { AppError } from "@millrace/base";
import type { Client } from "@millrace/client";
import type { ComponentContext, DestinationBooks, Origin, Sink, Standing } from "@millrace/flow";
import { type TaskStatus as TaskReport, TaskState } from "@millrace/proto/controller";
import { Backoff } from "@millrace/runtime";
import * as events from "../events.ts";
import { statusErrorCharsMax, taskBackoff } from "../limits.ts";
import { abortable } from "./abortable.ts";
import { resolveSink } from "./sink-config.ts";
import type { TaskContext } from "./task-context.ts";
import type { StopReason, TaskPlan } from "./task-plan.ts";
import { type StartPosition, TaskSession } from "./task-session.ts";

/** How a task stands, for status pages and S1. Offsets and counts of records. */
export interface ConnectorTaskStatus extends DestinationBooks {
  readonly connector: string;
  readonly topicId: string;
  readonly topic: string;
  readonly partition: number;
  readonly taskEpoch: number;
  readonly state: "starting" | "running" | "failed";
  /** End of the partition as last heard of; -1 before the first answer. */
  readonly highWatermark: number;
  /** Why it failed; empty otherwise. */
  readonly error: string;
}

const reportedState = {
  starting: TaskState.STARTING,
  running: TaskState.RUNNING,
  failed: TaskState.FAILED,
} as const;

/** Failures that belong to the life of a cluster. */
const interruptions: ReadonlySet<string> = new Set([
  "STALE_TASK",
  "UNKNOWN_TOPIC_ID",
  "TOPIC_NOT_FOUND",
  "UNAVAILABLE",
  "TIMED_OUT",
  "NODE_STARTING",
]);

/** See the file's comment. */
export class TaskRunner {
  readonly plan: TaskPlan;
  readonly #context: TaskContext;
  readonly #stopping = new AbortController();
  #loop: Promise<void> | undefined;
  #sink: Sink | undefined;
  #session: TaskSession | undefined;
  #stopReason: StopReason | undefined;
  #state: ConnectorTaskStatus["state"] = "starting";
  #error = "";
  /** Books of a sink that keeps none, and of any while it is closed. */
  #books: DestinationBooks = { begun: 0, resume: 0, published: 0, setAside: 0 };
  #isPlaced = false;
  #highWatermark = -1;

  constructor(plan: TaskPlan, context: TaskContext) {
    this.plan = plan;
    this.#context = context;
  }

  /** Begins, after `earlier` (the end of the runner before it) has settled. */
  start(earlier: Promise<unknown>): void {
    this.#loop = earlier.then(() => this.#run());
  }

  /** Stops: at once when the task moved, else after publishing what was read. Settles when the sink is closed. */
  async stop(why: StopReason): Promise<void> {
    if (this.#stopReason === undefined) {
      this.#stopReason = why;
      const reason = new AppError("CANCELLED", `the task was stopped: ${why}`);
      if (why === "moved") this.#session?.abort(reason);
      else this.#session?.finish();
      this.#stopping.abort(reason);
    }
    await this.#loop;
  }

  /** Publishes what the sink holds now. */
  async flush(): Promise<void> {
    await this.#session?.flush();
  }

  get status(): ConnectorTaskStatus {
    const { connector, topicId, topic, partition, taskEpoch } = this.plan;
    return {
      ...{ connector, topicId, topic, partition, taskEpoch },
      ...this.#presentBooks,
      state: this.#state,
      highWatermark: Math.max(this.#highWatermark, this.#session?.highWatermark ?? -1),
      error: this.#error.slice(0, statusErrorCharsMax),
    };
  }

  /** The same as heartbeats carry it. */
  get report(): TaskReport {
    const { connector, topicId, partition, taskEpoch, state, resume, published, error } = this.status;
    return {
      ...{ connector, topicId, partition, taskEpoch, error },
      state: reportedState[state],
      resumeOffset: resume,
      publishedCount: published,
    };
  }

  get #where(): Pick<TaskPlan, "connector" | "topic" | "partition" | "taskEpoch"> {
    const { connector, topic, partition, taskEpoch } = this.plan;
    return { connector, topic, partition, taskEpoch };
  }

  get #presentBooks(): DestinationBooks {
    if (this.#sink?.books !== undefined) return this.#sink.books();
    const session = this.#session;
    if (session === undefined) return this.#books;
    return {
      ...this.#books,
      resume: session.deliveredThrough,
      published: this.#books.published + session.deliveredCount,
    };
  }

  async #run(): Promise<void> {
    const { clock } = this.#context;
    const backoff = new Backoff(taskBackoff);
    while (!this.#isStopped()) {
      try {
        await this.#openAndDeliver(() => backoff.reset());
      } catch (thrown) {
        const error = AppError.from(thrown);
        const isOver = this.#isStopped() && (this.#stopReason === "moved" || error.reason === "CANCELLED");
        if (isOver) break;
        const retryMs = backoff.nextMs();
        this.#state = "failed";
        this.#error = error.message;
        const { reason } = error;
        const fields = { reason, error: error.message, retryMs: Math.round(retryMs) };
        const event = interruptions.has(reason) ? events.taskInterrupted : events.taskFailed;
        this.#context.telemetry.emit(event, { ...this.#where, ...fields });
        await clock.sleep(retryMs, this.#stopping.signal);
      }
    }
    this.#countUndelivered();
    const why = this.#stopReason ?? "";
    this.#context.telemetry.emit(events.taskStopped, { ...this.#where, why, offset: this.#books.resume });
  }

  #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #openAndDeliver(onProgress: () => void): Promise<void> {
    const { signal } = this.#stopping;
    const { connector, sinkConfigJson } = this.plan;
    const client = await abortable(this.#context.client(), signal);
    const { definition, config } = await resolveSink(this.#context.registry, connector, sinkConfigJson);
    const logStart = await abortable(this.#lookAtLog(client), signal);
    const sink = definition.create(config, this.#componentContext());
    const session = new TaskSession({
      plan: this.plan,
      context: this.#context,
      sink,
      hasStanding: definition.hasStanding,
      onDelivered: onProgress,
    });
    try {
      const start = await abortable(this.#open(sink, session, client, logStart), signal);
      // A stop between the open and here found no session to finish.
      signal.throwIfAborted();
      this.#session = session;
      this.#sink = sink;
      this.#state = "running";
      this.#error = "";
      this.#context.telemetry.emit(events.taskStarted, { ...this.#where, offset: start.offset });
      await session.run(client, start);
    } finally {
      this.#books = this.#presentBooks;
      this.#highWatermark = Math.max(this.#highWatermark, session.highWatermark);
      this.#session = undefined;
      this.#sink = undefined;
      session.abort(new AppError("CANCELLED", "the session is over"));
      await sink.close().catch((error: unknown) => {
        this.#context.telemetry.log.warn(
          { connector, error: AppError.from(error) },
          "A sink failed to close.",
        );
      });
    }
  }

  /** First offset kept; the end is noted, so that a task whose sink does not open knows what waits for it. */
  async #lookAtLog(client: Client): Promise<number> {
    const { admin } = client;
    const [start, end] = await Promise.all([
      admin.listOffsets(this.plan, this.plan.partition, "start"),
      admin.listOffsets(this.plan, this.plan.partition, "end"),
    ]);
    this.#highWatermark = Math.max(this.#highWatermark, end.offset);
    return start.offset;
  }

  /** Fences and stands (C1); decides where to read from. */
  async #open(sink: Sink, session: TaskSession, client: Client, logStart: number): Promise<StartPosition> {
    const { connector, topicId, topic, partition, taskEpoch, generation } = this.plan;
    const { clusterId } = client;
    const origin: Origin = { kind: "partition", clusterId, connector, topicId, topic, partition };
    if (!this.#isPlaced) {
      this.#isPlaced = true;
      this.#books = { begun: logStart, resume: logStart, published: 0, setAside: 0 };
    }
    const standing = await sink.open(
      {
        origin,
        epoch: taskEpoch,
        starts: [],
        deliveredThrough: this.#books.resume,
        checkpoint: undefined,
        generation,
      },
      session,
      session.signal,
    );
    return this.#startPosition(standing, logStart);
  }

  #startPosition({ resumeFrom, leaderEpoch = -1 }: Standing, logStart: number): StartPosition {
    const standsAt = resumeFrom ?? this.#books.resume;
    if (standsAt >= logStart) return { standsAt, offset: standsAt, leaderEpoch };
    return { standsAt, offset: logStart, leaderEpoch: -1 };
  }

  #componentContext(): ComponentContext {
    const { telemetry, clock, disk, directory, bootstrapServers } = this.#context;
    const { connector, connectorId, topic, partition } = this.plan;
    return {
      name: connector,
      telemetry: telemetry.child({ connector, topic, partition }),
      clock,
      disk,
      workDirectory: join(directory.path, "work", connector),
      ownerName: connector,
      ownerId: connectorId,
      protectedPaths: [directory.path],
      bootstrapServers,
    };
  }

  /** L3: what is left of a deleted topic is not delivered by anybody any more. */
  #countUndelivered(): void {
    if (this.#stopReason !== "topicDeleted") return;
    const undelivered = this.#highWatermark - this.#books.resume;
    if (undelivered <= 0) return;
    this.#context.telemetry.emit(events.topicGone, { ...this.#where, undelivered });
    this.#context.telemetry.discarded("connector", "topic_deleted", undelivered);
  }
}
