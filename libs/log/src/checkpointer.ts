/**
 * The checkpoint: makes what the journal holds durable in the segment files, so that journal files can be used again.
 *
 *   drain segment writer -> fsync dirty segments (and new names) -> `journal/checkpoint` -> recycle journal files
 *
 * Order is everything: a mark is written only after the fsyncs it speaks of, a journal file goes only after its mark.
 */
import { join } from "node:path";
import { type Clock, type Disk, errorCode, replaceFile } from "@millrace/runtime";
import {
  formatOffsetCheckpoint,
  type LogMark,
  type OffsetCheckpointRow,
  writeCheckpoint,
} from "./checkpoints.ts";
import type { DiskGuard } from "./disk-guard.ts";
import type { LogEvent } from "./events.ts";
import type { JournalFiles } from "./journal-files.ts";
import type { JournalWriter } from "./journal-writer.ts";
import { backgroundIoMax, kafkaCheckpointMs } from "./limits.ts";
import type { OpenFiles } from "./open-files.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { Segment } from "./segment.ts";
import { forEachLimited, type SegmentWriter } from "./segment-writer.ts";

/** What the checkpointer works with. */
export interface CheckpointHost {
  readonly path: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly files: OpenFiles;
  readonly guard: DiskGuard;
  readonly segmentWriter: SegmentWriter;
  readonly skipsFsync: boolean;
  emit(event: LogEvent): void;
  logs(): readonly PartitionLog[];
  /** Entries above this belong to structural changes that are not carried out yet. */
  pinnedThrough(): number;
}

/**
 * Takes checkpoints of one directory; one at a time. It never waits for the journal (which may be waiting for it), and
 * runs beside structural changes: those pin the entry they began at.
 */
export class Checkpointer {
  readonly #host: CheckpointHost;
  readonly #dirty = new Map<Segment, PartitionLog>();
  #kafkaFilesMs = Number.NEGATIVE_INFINITY;

  constructor(host: CheckpointHost) {
    this.#host = host;
  }

  /** A segment has bytes (or indexes) that are not fsynced. */
  noteDirty(log: PartitionLog, segment: Segment): void {
    segment.isDirty = true;
    this.#dirty.set(segment, log);
  }

  /** Removed segments need no fsync. */
  forget(segments: readonly Segment[]): void {
    for (const segment of segments) this.#dirty.delete(segment);
  }

  /** One checkpoint. `isClean`: nothing will be appended after it; indexes and marks of open segments are final. */
  async take(journal: JournalWriter, journalFiles: JournalFiles, isClean = false): Promise<void> {
    const { clock, guard, disk, path } = this.#host;
    const startedMs = clock.monotonicMs();
    const throughEntry = Math.min(journal.syncedThrough, this.#host.pinnedThrough());
    await this.#host.segmentWriter.drain();
    const logs = this.#host.logs();
    const marks = new Map<number, LogMark>(logs.map((log) => [log.number, markOf(log)]));
    const syncedFiles = await this.#syncDirty();
    for (const log of logs) {
      if (log.hasNewNames) {
        log.hasNewNames = false;
        await guard.sync(() =>
          unlessGone(
            () => log.isDeleted,
            () => disk.syncDirectory(log.directory),
          ),
        );
      }
      await log.saveEpochs();
    }
    await guard.run(() => writeCheckpoint(disk, join(path, "journal"), { throughEntry, isClean, marks }));
    const generation = journal.newestFullThrough(throughEntry);
    if (generation !== undefined) {
      journal.forgetThrough(generation);
      await guard.run(() =>
        journalFiles.recycleThrough(generation, (old) =>
          this.#host.emit({ kind: "journalRecycled", generation: old }),
        ),
      );
    }
    const isKafkaDue = startedMs - this.#kafkaFilesMs >= kafkaCheckpointMs;
    if (isClean || isKafkaDue) await this.#writeKafkaFiles(logs, startedMs);
    this.#host.emit({
      kind: "checkpointed",
      throughEntry,
      syncedFiles,
      durationMs: clock.monotonicMs() - startedMs,
    });
  }

  async #syncDirty(): Promise<number> {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    let synced = 0;
    await forEachLimited(dirty, backgroundIoMax, async ([segment, log]) => {
      if (!segment.isOnDisk) return;
      segment.isDirty = false;
      const paths = [segment.path];
      if (segment.isClosed && !segment.areIndexesSynced) {
        await this.#host.guard.run(() =>
          unlessGone(
            () => log.isDeleted,
            () => segment.flushIndexes(true),
          ),
        );
        segment.areIndexesSynced = true;
        paths.push(segment.index.file.path, segment.timeIndex.file.path);
      }
      for (const path of paths) {
        synced++;
        if (!this.#host.skipsFsync) await this.#sync(log, segment, path);
      }
      if (paths.length > 1) log.hasNewNames = true;
    });
    return synced;
  }

  async #sync(log: PartitionLog, segment: Segment, path: string): Promise<void> {
    // Retention, a truncation or a deletion may remove the file meanwhile; nothing of it counts any more.
    const isGone = (): boolean => !log.segments.includes(segment);
    await this.#host.guard.sync(() =>
      unlessGone(isGone, () => this.#host.files.use(path, (file) => file.dataSync())),
    );
  }

  /** Kafka's checkpoint files in `topics/` (kafka.md §3.1): for Kafka's tools, not read back. */
  async #writeKafkaFiles(logs: readonly PartitionLog[], nowMs: number): Promise<void> {
    this.#kafkaFilesMs = nowMs;
    const write = (name: string, offsetOf: (log: PartitionLog) => number): Promise<void> => {
      const rows: OffsetCheckpointRow[] = [];
      for (const log of logs) {
        if (log.id.kind !== "topic") continue;
        rows.push({ topic: log.id.topicName, partition: log.id.partition, offset: offsetOf(log) });
      }
      const bytes = Buffer.from(formatOffsetCheckpoint(rows));
      return this.#host.guard.run(() =>
        replaceFile(this.#host.disk, join(this.#host.path, "topics", name), bytes),
      );
    };
    await write("recovery-point-offset-checkpoint", (log) => writtenOffsetOf(log));
    await write("log-start-offset-checkpoint", (log) => log.startOffset);
    await write("replication-offset-checkpoint", (log) => log.durableOffset);
  }
}

/** Work on files that may be removed meanwhile: their absence is no failure then. */
async function unlessGone(isGone: () => boolean, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (errorCode(error) !== "ENOENT" || !isGone()) throw error;
  }
}

/** Offset below which everything is in the files. */
function writtenOffsetOf(log: PartitionLog): number {
  return log.tail.firstUnwritten?.baseOffset ?? log.endOffset;
}

function markOf(log: PartitionLog): LogMark {
  return {
    recoveryPoint: writtenOffsetOf(log),
    startOffset: log.startOffset,
    firstSegmentBase: log.segments[0]?.baseOffset ?? 0,
  };
}
