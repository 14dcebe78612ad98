/**
 * One segment: `<base>.log` with its two indexes, and what must be known of it to append, roll and read.
 *
 * `sizeBytes` and `nextOffset` count what was assigned; `writtenBytes` and `writtenOffset` what is in the file. Index entries are decided at
 * assignment (Kafka's insertion rule) and written later. A negative or absent timestamp is -1, as in Kafka.
 */
import { join } from "node:path";
import { OffsetIndex, offsetIndexEntryBytes } from "./offset-index.ts";
import type { OpenFiles } from "./open-files.ts";
import { TimeIndex, timeIndexEntryBytes } from "./time-index.ts";
import type { LogConfig } from "./types.ts";

/** Largest offset distance and position an index entry can hold. */
const int32Max = 2 ** 31 - 1;

/** What an append brings, as far as a segment cares. */
export interface SegmentBatch {
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly maxTimestampMs: number;
  readonly sizeBytes: number;
}

/** File name of a segment's part: 20 digits and a suffix. */
export function segmentFileName(baseOffset: number, suffix: string): string {
  return `${String(baseOffset).padStart(20, "0")}${suffix}`;
}

/** A segment of a log. */
export class Segment {
  readonly baseOffset: number;
  readonly path: string;
  readonly snapshotPath: string;
  readonly index: OffsetIndex;
  readonly timeIndex: TimeIndex;
  readonly createdMs: number;
  sizeBytes = 0;
  nextOffset: number;
  writtenBytes = 0;
  /** Offset after the last batch in the file. */
  writtenOffset: number;
  /** Largest record timestamp, -1 when none. */
  maxTimestampMs = -1;
  /** Timestamp of the first batch; rolls by time count from it. */
  firstTimestampMs = -1;
  /** False until the segment writer has created the file. */
  isOnDisk = false;
  /** Written since the last fsync. */
  isDirty = false;
  /** The indexes are final and fsynced; only closed segments' ever are. */
  areIndexesSynced = false;
  /** No more appends. */
  isClosed = false;
  /** Producer state at the base offset, to be written with the file. */
  snapshot: Buffer | undefined;
  #maxTimestampOffset = 0;
  #bytesSinceIndexEntry = 0;

  constructor(files: OpenFiles, directory: string, baseOffset: number, createdMs: number) {
    this.baseOffset = baseOffset;
    this.nextOffset = baseOffset;
    this.writtenOffset = baseOffset;
    this.createdMs = createdMs;
    this.path = join(directory, segmentFileName(baseOffset, ".log"));
    this.snapshotPath = join(directory, segmentFileName(baseOffset, ".snapshot"));
    this.index = new OffsetIndex(files, join(directory, segmentFileName(baseOffset, ".index")));
    this.timeIndex = new TimeIndex(files, join(directory, segmentFileName(baseOffset, ".timeindex")));
  }

  /** All files of the segment. */
  get paths(): string[] {
    return [this.path, this.index.file.path, this.timeIndex.file.path, this.snapshotPath];
  }

  /** Kafka's LogSegment.shouldRoll (kafka.md §3.3). */
  shouldRoll(batch: SegmentBatch, config: LogConfig, nowMs: number): boolean {
    if (batch.lastOffset - this.baseOffset > int32Max) return true;
    if (this.sizeBytes === 0) return false;
    if (this.sizeBytes > Math.min(config.segmentBytes, int32Max) - batch.sizeBytes) return true;
    const agedMs =
      this.firstTimestampMs >= 0 ? batch.maxTimestampMs - this.firstTimestampMs : nowMs - this.createdMs;
    if (agedMs > config.segmentMs) return true;
    const isIndexFull = this.index.file.count >= Math.floor(config.segmentIndexBytes / offsetIndexEntryBytes);
    return (
      isIndexFull ||
      this.timeIndex.file.count >= Math.floor(config.segmentIndexBytes / timeIndexEntryBytes) - 1
    );
  }

  /** Takes a batch at the end; returns its position. */
  add(batch: SegmentBatch, indexIntervalBytes: number): number {
    const position = this.sizeBytes;
    if (position === 0) this.firstTimestampMs = batch.maxTimestampMs;
    if (batch.maxTimestampMs > this.maxTimestampMs) {
      this.maxTimestampMs = batch.maxTimestampMs;
      this.#maxTimestampOffset = batch.lastOffset;
    }
    if (this.#bytesSinceIndexEntry > indexIntervalBytes) {
      this.index.append(batch.lastOffset - this.baseOffset, position);
      this.#appendTime();
      this.#bytesSinceIndexEntry = 0;
    }
    this.#bytesSinceIndexEntry += batch.sizeBytes;
    this.sizeBytes += batch.sizeBytes;
    this.nextOffset = batch.lastOffset + 1;
    return position;
  }

  /** No more appends: the final time index entry is added. */
  seal(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#appendTime();
  }

  /** Forgets what was counted; the caller walks the file and adds batch by batch. */
  async resetForRebuild(): Promise<void> {
    this.sizeBytes = 0;
    this.nextOffset = this.baseOffset;
    this.maxTimestampMs = -1;
    this.firstTimestampMs = -1;
    this.#bytesSinceIndexEntry = 0;
    await this.index.file.clear();
    await this.timeIndex.clear();
    this.areIndexesSynced = false;
  }

  /** Bytes of the file that no batch counts (a quarantined stretch): positions go on behind them. */
  skipTo(position: number, nextOffset: number): void {
    this.sizeBytes = position;
    this.nextOffset = nextOffset;
  }

  /** What a loaded time index says. */
  restoreTime(entry: { timestampMs: number; relativeOffset: number }): void {
    this.maxTimestampMs = entry.timestampMs;
    this.#maxTimestampOffset = this.baseOffset + entry.relativeOffset;
  }

  /** Index entries on disk, all or only when a good deal has gathered. */
  async flushIndexes(isForced: boolean): Promise<void> {
    for (const file of [this.index.file, this.timeIndex.file]) {
      if (!isForced && !file.wantsFlush) continue;
      if (file.count === 0) await file.clear();
      else await file.flush();
    }
  }

  #appendTime(): void {
    if (this.maxTimestampMs >= 0) {
      this.timeIndex.append(this.maxTimestampMs, this.#maxTimestampOffset - this.baseOffset);
    }
  }
}
