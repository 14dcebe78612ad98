/**
 * Carries durable batches from the tails into the segment files: coalesced writes, no fsync (the journal has them).
 *
 * One round at a time; a round takes every log with work, a few side by side. Rounds begin when enough has gathered,
 * after a short time, or when somebody drains. Within a log, batches are written in order.
 */
import { dirname } from "node:path";
import type { Clock, Disk, Timer } from "@millrace/runtime";
import type { DiskGuard } from "./disk-guard.ts";
import {
  backgroundIoMax,
  segmentWriteBytes,
  segmentWriteDelayMs,
  segmentWriteGroupBytesMax,
} from "./limits.ts";
import type { OpenFiles } from "./open-files.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { Segment } from "./segment.ts";
import type { TailBatch, TailCache } from "./tail.ts";

/** Most batches in one write. */
const batchesPerWriteMax = 1024;

/** Runs `work` on the items, at most `count` at a time. */
export async function forEachLimited<T>(
  items: Iterable<T>,
  count: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: count }, worker));
}

/** What the writer works with. */
export interface SegmentWriterHost {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly files: OpenFiles;
  readonly cache: TailCache;
  readonly guard: DiskGuard;
  noteDirty(log: PartitionLog, segment: Segment): void;
  /** Tail memory was given back. */
  onWritten(): void;
}

/** Writes segment files behind the journal. */
export class SegmentWriter {
  readonly #host: SegmentWriterHost;
  readonly #logs = new Set<PartitionLog>();
  #pendingBytes = 0;
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;
  #wantsRound = false;
  #started = 0;
  #completed = 0;

  constructor(host: SegmentWriterHost) {
    this.#host = host;
  }

  /** Bytes durable and not yet in their files. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** A batch of the log is durable and may be written. */
  note(log: PartitionLog, bytes: number): void {
    this.#logs.add(log);
    this.#pendingBytes += bytes;
    if (this.#pendingBytes >= segmentWriteBytes) this.#start();
    else this.#timer ??= this.#host.clock.after(segmentWriteDelayMs, () => this.#start());
  }

  /** Resolves when everything noted so far is in the files; rejects when the directory is offline. */
  async drain(): Promise<void> {
    if (this.#logs.size > 0) this.#start();
    // A round that began before the last note does not cover it; the one after does.
    const needed = this.#started + (this.#wantsRound ? 1 : 0);
    while (this.#completed < needed && this.#round !== undefined) await this.#round;
    if (this.#host.guard.failure !== undefined) throw this.#host.guard.failure;
  }

  /** Makes sure a segment's file exists; for a segment that no batch has reached. */
  async ensureOnDisk(log: PartitionLog, segment: Segment): Promise<void> {
    await this.drain();
    if (!segment.isOnDisk) await this.#host.guard.run(() => this.#create(log, segment));
  }

  /** Forgets a log that is going away. */
  forget(log: PartitionLog): void {
    this.#logs.delete(log);
  }

  /** Waits for the round under way and starts no more by time. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#round;
  }

  #start(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#round !== undefined) {
      this.#wantsRound = true;
      return;
    }
    this.#started++;
    this.#round = this.#run().finally(() => {
      this.#round = undefined;
      this.#completed++;
      if (!this.#wantsRound) return;
      this.#wantsRound = false;
      this.#start();
    });
  }

  async #run(): Promise<void> {
    const logs = [...this.#logs];
    this.#logs.clear();
    this.#pendingBytes = 0;
    try {
      await forEachLimited(logs, backgroundIoMax, (log) => this.#writeLog(log));
    } catch {
      // The guard has taken the directory offline; whoever waits learns it there.
    }
    this.#host.onWritten();
  }

  async #writeLog(log: PartitionLog): Promise<void> {
    for (;;) {
      const batches = log.tail.nextToWrite(log.durableOffset, segmentWriteGroupBytesMax, batchesPerWriteMax);
      const first = batches[0];
      if (first === undefined) return;
      const { segment } = first;
      if (!segment.isOnDisk) await this.#host.guard.run(() => this.#create(log, segment));
      const chunks = batches.map((batch) => batch.bytes);
      await this.#host.guard.run(() =>
        this.#host.files.use(segment.path, (file) => file.write(chunks, first.position)),
      );
      this.#written(log, segment, batches);
      await this.#host.guard.run(() => segment.flushIndexes(false));
    }
  }

  #written(log: PartitionLog, segment: Segment, batches: readonly TailBatch[]): void {
    const last = batches.at(-1) as TailBatch;
    segment.writtenBytes = last.position + last.bytes.length;
    segment.writtenOffset = last.nextOffset;
    this.#host.noteDirty(log, segment);
    log.tail.markWritten(batches.length);
    for (const batch of batches) this.#host.cache.add(log.tail, batch);
  }

  /** Creates the files of a segment and finishes the one before it. The snapshot is durable before anything relies on it (P4). */
  async #create(log: PartitionLog, segment: Segment): Promise<void> {
    const { disk, files } = this.#host;
    const before = log.segments[log.segments.indexOf(segment) - 1];
    if (before?.isOnDisk === true) await before.flushIndexes(true);
    const { snapshot } = segment;
    if (snapshot !== undefined) {
      const file = await disk.open(segment.snapshotPath, "create");
      try {
        await file.truncate(0);
        await file.write([snapshot], 0);
        await this.#host.guard.sync(() => file.dataSync());
      } finally {
        await file.close();
      }
    }
    await files.use(segment.path, () => Promise.resolve(), "create");
    await disk.syncDirectory(dirname(segment.path));
    segment.snapshot = undefined;
    segment.isOnDisk = true;
  }
}
