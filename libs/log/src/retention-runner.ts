/** Runs retention by time of day and when a log's start moves; the decisions are in retention.ts. */
import type { Timer } from "@millrace/runtime";
import type { DirectoryCore } from "./directory-core.ts";
import { entryKind } from "./journal-format.ts";
import { retentionCheckMs } from "./limits.ts";
import type { PartitionLog } from "./partition-log.ts";
import { ClockWatch, decideFor, dropSegments } from "./retention.ts";

/** Retention of one directory. */
export class RetentionRunner {
  readonly #core: DirectoryCore;
  readonly #watch = new ClockWatch();
  readonly #moved = new Set<PartitionLog>();
  #timer: Timer | undefined;
  #handling: Promise<void> | undefined;

  constructor(core: DirectoryCore) {
    this.#core = core;
    core.onStartMoved = (log) => this.#startMoved(log);
  }

  /** Begins to run by itself. */
  start(): void {
    this.#watch.look(this.#core.clock.nowMs(), this.#core.clock.monotonicMs());
    this.#schedule();
  }

  /** One run over all topic logs. */
  async apply(): Promise<void> {
    const { clock } = this.#core;
    const nowMs = clock.nowMs();
    const byMs = this.#watch.look(nowMs, clock.monotonicMs());
    if (byMs !== 0) this.#core.emit({ kind: "clockJumped", byMs });
    for (const log of this.#core.logs) {
      const isStartOnly = log.id.kind === "channel";
      await this.#applyTo(log, byMs === 0 ? nowMs : undefined, isStartOnly);
    }
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#handling;
  }

  #schedule(): void {
    this.#timer = this.#core.clock.after(retentionCheckMs, () => {
      // A failure has taken the directory offline and is told there.
      this.apply()
        .catch(() => {})
        .finally(() => {
          if (!this.#core.isClosed) this.#schedule();
        });
    });
  }

  #startMoved(log: PartitionLog): void {
    this.#moved.add(log);
    this.#handling ??= this.#handleMoved()
      .catch(() => {})
      .finally(() => {
        this.#handling = undefined;
      });
  }

  async #handleMoved(): Promise<void> {
    for (const log of this.#moved) {
      this.#moved.delete(log);
      if (log.hasSegmentsBelow(log.startOffset)) await this.#applyTo(log, undefined, true);
      else this.#saveStart(log);
    }
  }

  /** DeleteRecords inside a segment: the new start is journaled, no file goes. */
  #saveStart(log: PartitionLog): void {
    const { startOffset, number: logNumber } = log;
    const firstSegmentBase = log.segments[0]?.baseOffset ?? 0;
    const entry = { kind: entryKind.drop, logNumber, startOffset, firstSegmentBase };
    // Nobody waits for it, and a failure has taken the directory offline.
    this.#core.submit(entry, { lazy: true }).catch(() => {});
  }

  async #applyTo(log: PartitionLog, nowMs: number | undefined, isStartOnly: boolean): Promise<void> {
    if (log.failure !== undefined || decideFor(log, nowMs, isStartOnly).count === 0) return;
    await this.#core.exclusive(async () => {
      if (this.#core.getLog(log.number) !== log) return;
      const decision = decideFor(log, nowMs, isStartOnly);
      if (decision.count === 0) return;
      await dropSegments(log, decision, {
        ensureOnDisk: (each, segment) => this.#core.segmentWriter.ensureOnDisk(each, segment),
        forgetDirty: (segments) => this.#core.checkpointer.forget(segments),
      });
    });
  }
}
