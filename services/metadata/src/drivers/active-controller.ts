/**
 * The active controller: the only writer of the metadata log.
 *
 *   submit(command) -> pending -> decided on a copy of the image -> one change -> append -> image -> listeners, answers
 *
 * Group commit: all that is pending when an append ends goes into the next change. One append is in flight (design
 * §4). Answers, refusals included, are given only when the changes they were decided on are in the log.
 *
 * Invariant: `image` is the replay of the log up to `position`, nothing else.
 */
import { AppError, InvariantError, invariant } from "@millrace/base";
import {
  type Answer,
  applyBatch,
  applyRecords,
  beginBatch,
  type ClusterImage,
  type Command,
  type ControllerLimits,
  type Decision,
  decide,
  emptyImage,
  ImageBuilder,
  type MetadataRecord,
  snapshotRecords,
} from "@millrace/controller";
import {
  ChangeAssembler,
  type LogPosition,
  logStart,
  type MetadataLog,
  planChange,
} from "@millrace/coordination";
import { type Clock, randomId } from "@millrace/runtime";

/** What the controller needs. */
export interface ControllerOptions {
  readonly log: MetadataLog;
  readonly clock: Clock;
  /** Node id of this metadata service. */
  readonly controllerId: string;
  readonly limits: ControllerLimits;
  readonly defaultPartitionCount: number;
  readonly defaultReplicationFactor: number;
  /** Batches after which a snapshot is taken. */
  readonly snapshotEveryBatches: number;
  readonly onSnapshotFailed: (error: AppError) => void;
  /** The log takes no more changes. */
  readonly onOffline: (error: AppError) => void;
}

/** A committed change. */
export interface CommittedChange {
  /** Where the log stood before it. */
  readonly previous: LogPosition;
  readonly position: LogPosition;
  readonly records: readonly MetadataRecord[];
  /** The image after it. */
  readonly image: ClusterImage;
}

/** What a command did. */
export interface Outcome {
  readonly answer: Answer | undefined;
  readonly records: readonly MetadataRecord[];
  /** The image after the change that holds it. */
  readonly image: ClusterImage;
}

interface Pending {
  readonly command: Command;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: Error) => void;
}

interface Decided {
  readonly pending: Pending;
  readonly result:
    | { readonly answer: Answer | undefined; readonly records: readonly MetadataRecord[] }
    | Error;
}

/** Commands that wait for the append in flight; more are turned away. */
const pendingCommandsMax = 10_000;

/** Commands decided into one change. */
const groupCommandsMax = 256;

/** Changes of the past handed to the listener of `start`, for watchers that resume after a restart. */
export type ChangeListener = (change: CommittedChange) => void;

/** See the module's comment. */
export class ActiveController {
  readonly #options: ControllerOptions;
  readonly #listeners: ChangeListener[] = [];
  readonly #pending: Pending[] = [];
  #image: ClusterImage = emptyImage;
  #position: LogPosition = logStart;
  #snapshotSequence = 0;
  #isRunning = false;
  #isStopped = false;
  #isOffline = false;
  #loop: Promise<void> = Promise.resolve();
  #snapshotting: Promise<void> = Promise.resolve();

  private constructor(options: ControllerOptions) {
    this.#options = options;
  }

  /** Replays the log and elects this process. `onChange` sees replayed and new changes, in order. */
  static async start(options: ControllerOptions, onChange: ChangeListener): Promise<ActiveController> {
    const controller = new ActiveController(options);
    controller.#listeners.push(onChange);
    await controller.#replay();
    await controller.submit({ kind: "electController", controllerId: options.controllerId });
    return controller;
  }

  /** The metadata as committed. */
  get image(): ClusterImage {
    return this.#image;
  }

  /** Where the image stands in the log. */
  get position(): LogPosition {
    return this.#position;
  }

  get logId(): string {
    return this.#options.log.logId;
  }

  /** Why no change can be made any more; undefined while changes are taken. */
  get failure(): Error | undefined {
    return this.#options.log.failure;
  }

  /** Calls `listener` with every further change, before the callers of its commands are answered. */
  onChange(listener: ChangeListener): void {
    this.#listeners.push(listener);
  }

  /** Decides and commits. Rejects with the refusal, or with what kept the change from the log. */
  submit(command: Command): Promise<Outcome> {
    if (this.#isStopped)
      return Promise.reject(new AppError("NODE_STARTING", "the metadata service is stopping"));
    if (this.#pending.length >= pendingCommandsMax) {
      return Promise.reject(
        new AppError(
          "CREDIT_EXCEEDED",
          `${pendingCommandsMax} changes of metadata wait already: try again later`,
        ),
      );
    }
    return new Promise((resolve, reject) => {
      this.#pending.push({ command, resolve, reject });
      if (!this.#isRunning) {
        this.#isRunning = true;
        this.#loop = this.#run();
      }
    });
  }

  /** What a command would do now; nothing is changed. Throws the refusal. */
  dryRun(command: Command): Outcome {
    const started = beginBatch(this.#image, this.#position.sequence + 1);
    const { answer, records } = decide(started, command, this.#inputs());
    return { answer, records, image: applyRecords(started, records) };
  }

  /** Commits what is pending and takes no more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#loop;
    await this.#snapshotting;
  }

  async #replay(): Promise<void> {
    const { log } = this.#options;
    const snapshot = await log.loadSnapshot();
    if (snapshot !== undefined) {
      this.#image = applyBatch(emptyImage, snapshot.position.sequence, snapshot.records);
      this.#position = snapshot.position;
      this.#snapshotSequence = snapshot.position.sequence;
    }
    const assembler = new ChangeAssembler();
    const replay = new ImageBuilder(this.#image);
    for await (const batch of log.read(this.#position.sequence + 1)) {
      const change = assembler.add(batch);
      if (change === undefined) continue;
      const { position, records } = change;
      replay.begin(position.sequence);
      replay.add(records);
      this.#advance(position, records, replay.image);
    }
  }

  async #run(): Promise<void> {
    // The first command of an idle controller waits for what else arrives in this turn of the loop.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      const group = this.#pending.splice(0, groupCommandsMax);
      try {
        await this.#commitGroup(group);
      } catch (error) {
        const failure = AppError.from(error);
        this.#noteOffline(failure);
        for (const pending of group) pending.reject(failure);
      }
    }
    this.#isRunning = false;
  }

  async #commitGroup(group: readonly Pending[]): Promise<void> {
    const { log } = this.#options;
    if (log.failure !== undefined) throw log.failure;
    const { decided, records } = this.#decideGroup(group);
    if (records.length > 0) {
      let position = log.head;
      for (const part of planChange(records)) {
        const outcome = await log.append(position.sequence, part);
        invariant(outcome.kind === "appended", "this controller is the only writer of its log");
        position = outcome.position;
      }
      this.#advance(position, records, applyBatch(this.#image, position.sequence, records));
      this.#snapshotIfDue();
    }
    for (const { pending, result } of decided) {
      if (result instanceof Error) pending.reject(result);
      else pending.resolve({ ...result, image: this.#image });
    }
  }

  #noteOffline(error: AppError): void {
    if (this.#isOffline || this.#options.log.failure === undefined) return;
    this.#isOffline = true;
    this.#options.onOffline(error);
  }

  #decideGroup(group: readonly Pending[]): { decided: Decided[]; records: MetadataRecord[] } {
    const tried = new ImageBuilder(this.#image);
    tried.begin(this.#options.log.head.sequence + 1);
    const records: MetadataRecord[] = [];
    const decided = group.map((pending): Decided => {
      let decision: Decision;
      try {
        decision = decide(tried.image, pending.command, this.#inputs());
      } catch (error) {
        // A broken invariant is a bug in one decision; nothing of it was applied.
        if (error instanceof AppError || error instanceof InvariantError) return { pending, result: error };
        throw error;
      }
      tried.add(decision.records);
      records.push(...decision.records);
      return { pending, result: decision };
    });
    return { decided, records };
  }

  #advance(position: LogPosition, records: readonly MetadataRecord[], image: ClusterImage): void {
    const previous = this.#position;
    this.#image = image;
    this.#position = position;
    for (const listener of this.#listeners) listener({ previous, position, records, image });
  }

  #snapshotIfDue(): void {
    const { log, snapshotEveryBatches, onSnapshotFailed } = this.#options;
    if (this.#position.sequence - this.#snapshotSequence < snapshotEveryBatches) return;
    this.#snapshotSequence = this.#position.sequence;
    const snapshot = { position: this.#position, records: snapshotRecords(this.#image) };
    this.#snapshotting = this.#snapshotting
      .then(() => log.saveSnapshot(snapshot))
      .catch((error: unknown) => onSnapshotFailed(AppError.from(error)));
  }

  #inputs(): Parameters<typeof decide>[2] {
    const { clock, limits, defaultPartitionCount, defaultReplicationFactor } = this.#options;
    return {
      nowMs: clock.nowMs(),
      newId: randomId(),
      limits,
      defaultPartitionCount,
      defaultReplicationFactor,
    };
  }
}
