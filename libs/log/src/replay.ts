/**
 * Replaying the journal into the segment files (J2): every batch is written at its place with its own offset and epoch.
 * Idempotent: a crash during replay leaves the journal as it is, and the next start replays again.
 */
import { join } from "node:path";
import { setBaseOffset, setLeaderEpoch } from "@millrace/record";
import type { Disk, DiskFile } from "@millrace/runtime";
import { type EntryTarget, entryKind, type JournalEntry } from "./journal-format.ts";
import { segmentWriteGroupBytesMax } from "./limits.ts";
import { listSegmentBases, removeSegmentFiles } from "./log-files.ts";
import type { OpenFiles } from "./open-files.ts";
import { segmentFileName } from "./segment.ts";

/** What replay knows of one log and finds out about it. */
export interface ReplayLog {
  readonly directory: string;
  /** Segments with a lower base are gone for good: their batches are skipped. */
  firstSegmentBase: number;
  startOffset: number;
  /** Flushed-through mark of the checkpoint; a truncation lowers it. */
  recoveryPoint: number;
  /** End of what is proven durable: mark, then journal (J4). */
  provenEnd: number;
}

interface Run {
  readonly path: string;
  readonly position: number;
  readonly chunks: Uint8Array[];
  bytes: number;
}

/** Writes entries' effects into the logs' files. */
export class Replayer {
  readonly #disk: Disk;
  readonly #files: OpenFiles;
  readonly #logs: ReadonlyMap<number, ReplayLog>;
  readonly #runs = new Map<number, Run>();
  bytes = 0;

  constructor(disk: Disk, files: OpenFiles, logs: ReadonlyMap<number, ReplayLog>) {
    this.#disk = disk;
    this.#files = files;
    this.#logs = logs;
  }

  /** Applies one entry. Entries of logs that no longer exist do nothing. */
  async apply(entry: JournalEntry): Promise<void> {
    switch (entry.kind) {
      case entryKind.append:
        for (const { targets, batch } of entry.appends)
          for (const target of targets) await this.#write(target, batch);
        return;
      case entryKind.truncate:
        return this.#truncate(entry);
      case entryKind.drop: {
        const log = this.#logs.get(entry.logNumber);
        if (log !== undefined) log.startOffset = Math.max(log.startOffset, entry.startOffset);
        return;
      }
      case entryKind.state:
        return;
    }
  }

  /** Everything applied so far is in the files (not fsynced). */
  async finish(): Promise<void> {
    for (const logNumber of [...this.#runs.keys()]) await this.#flush(logNumber);
  }

  async #write(target: EntryTarget, batch: Uint8Array): Promise<void> {
    const log = this.#logs.get(target.logNumber);
    if (log === undefined) return;
    log.provenEnd = Math.max(log.provenEnd, target.baseOffset + batchOffsets(batch));
    if (target.segmentBase < log.firstSegmentBase) return;
    const bytes = new Uint8Array(batch);
    setBaseOffset(bytes, 0, target.baseOffset);
    setLeaderEpoch(bytes, 0, target.leaderEpoch);
    const path = join(log.directory, segmentFileName(target.segmentBase, ".log"));
    let run = this.#runs.get(target.logNumber);
    const continues = run?.path === path && run.position + run.bytes === target.position;
    if (run === undefined || !continues || run.bytes >= segmentWriteGroupBytesMax) {
      await this.#flush(target.logNumber);
      run = { path, position: target.position, chunks: [], bytes: 0 };
      this.#runs.set(target.logNumber, run);
    }
    run.chunks.push(bytes);
    run.bytes += bytes.length;
    this.bytes += bytes.length;
  }

  async #truncate(entry: Extract<JournalEntry, { kind: typeof entryKind.truncate }>): Promise<void> {
    const log = this.#logs.get(entry.logNumber);
    if (log === undefined) return;
    await this.#flush(entry.logNumber);
    for (const base of await listSegmentBases(this.#disk, log.directory)) {
      if (base > entry.segmentBase) await removeSegmentFiles(this.#disk, this.#files, log.directory, base);
    }
    if (entry.segmentBase >= log.firstSegmentBase) await this.#cut(log, entry);
    log.provenEnd = entry.offset;
    // The cut segment is walked as a whole: its indexes are stale and its new end is not fsynced.
    log.recoveryPoint = Math.min(log.recoveryPoint, entry.segmentBase);
  }

  async #cut(log: ReplayLog, entry: { segmentBase: number; position: number }): Promise<void> {
    const path = join(log.directory, segmentFileName(entry.segmentBase, ".log"));
    const shorten = async (file: DiskFile): Promise<void> => {
      if ((await file.size()) > entry.position) await file.truncate(entry.position);
    };
    await this.#files.use(path, shorten, "create");
  }

  async #flush(logNumber: number): Promise<void> {
    const run = this.#runs.get(logNumber);
    if (run === undefined) return;
    this.#runs.delete(logNumber);
    await this.#files.use(run.path, (file) => file.write(run.chunks, run.position), "create");
  }
}

/** Offsets a batch takes: last offset delta (bytes 23 to 26) + 1. */
function batchOffsets(batch: Uint8Array): number {
  return new DataView(batch.buffer, batch.byteOffset + 23, 4).getInt32(0) + 1;
}
