/**
 * Opening one log from its files (J4, J6; kafka.md §3.4).
 *
 * After a clean close sizes and indexes are believed (the end of the last segment is still checked). Otherwise every segment at
 * or above the flushed-through mark is walked: indexes, epochs and producer state are rebuilt from the batches.
 * A fault below `provenEnd` is corruption: quarantined with its offsets, never cut. A fault at or above it is a torn
 * write nobody was told about: the log is cut there. What is kept is fsynced by the checkpoint that ends the open.
 */
import { join } from "node:path";
import { batchHeaderBytes, readBatchHeader } from "@millrace/record";
import { type EpochAt, findNextBatch, type ReadableFile, readFully, walkBatches } from "./batch-walk.ts";
import type { LogMark } from "./checkpoints.ts";
import { readEpochs } from "./checkpoints.ts";
import { EpochHistory } from "./epoch-history.ts";
import { listSegmentBases, removeSegmentFiles } from "./log-files.ts";
import { applyHeaders, removeStraySnapshots, restoreProducers } from "./log-producers.ts";
import type { PartitionLog } from "./partition-log.ts";
import { Segment } from "./segment.ts";

/** What the directory knows of the log before its files are looked at. */
export interface LoadInput {
  readonly mark: LogMark;
  /** Everything below was proven durable: by the mark or by the journal. */
  readonly provenEnd: number;
  readonly isClean: boolean;
}

/** What loading found. */
export interface LoadResult {
  /** Bytes cut beyond the mark, and from which offset; undefined: nothing. */
  readonly torn: { readonly fromOffset: number; readonly bytes: number } | undefined;
  /** Keys of removed producers that no rebuild can bring back any more. */
  readonly obsoleteKeys: readonly string[];
}

/** Loads segments, epochs and producers; afterwards the log serves. */
export async function loadLog(log: PartitionLog, input: LoadInput): Promise<LoadResult> {
  const { disk, files } = log.context;
  await removeLeftovers(log);
  const bases = await listSegmentBases(disk, log.directory);
  for (const base of bases.filter((each) => each < input.mark.firstSegmentBase)) {
    await removeSegmentFiles(disk, files, log.directory, base);
    log.hasNewNames = true;
  }
  const kept = bases.filter((each) => each >= input.mark.firstSegmentBase);
  log.startOffset = Math.max(input.mark.startOffset, input.mark.firstSegmentBase);
  for (const base of kept)
    log.segments.push(new Segment(files, log.directory, base, await createdMs(log, base)));
  const epochs = await readEpochs(disk, log.directory);
  for (const { epoch, startOffset } of epochs ?? []) log.epochs.assign(epoch, startOffset);
  const load = new Load(log, input);
  await load.segments();
  finishOffsets(log, input);
  if (log.epochs.truncateFromEnd(log.endOffset + 1)) log.areEpochsDirty = true;
  // An epoch that has begun and has no record yet is only in the file.
  const begun = epochs?.find(({ startOffset }) => startOffset === log.endOffset);
  if (begun !== undefined) log.epochs.assign(begun.epoch, begun.startOffset);
  log.epochs.truncateFromStart(log.startOffset);
  const obsoleteKeys = await restoreProducers(log, load.firstWalked, input.isClean && !load.hasWalked);
  const hasEpochs = log.endOffset === log.startOffset || log.epochs.epochAt(log.startOffset) !== undefined;
  if (log.id.kind === "topic" && !hasEpochs) {
    log.epochs.clear();
    await applyHeaders(log, 0, log.segments.length, addEpoch(log));
  }
  await removeStraySnapshots(log);
  return { torn: load.torn, obsoleteKeys };
}

/** Unfinished replacements, and indexes whose segment is gone (a removal cut off in the middle). */
async function removeLeftovers(log: PartitionLog): Promise<void> {
  const { disk } = log.context;
  const names = await disk.list(log.directory);
  for (const name of names) {
    const isOrphan =
      /^\d{20}\.(index|timeindex|txnindex)$/.test(name) && !names.includes(`${name.slice(0, 20)}.log`);
    if (isOrphan || name.endsWith(".tmp")) await disk.removeFile(join(log.directory, name));
  }
}

function addEpoch(log: PartitionLog): (header: { leaderEpoch: number; baseOffset: number }) => void {
  return ({ leaderEpoch, baseOffset }) => {
    if (log.epochs.assign(leaderEpoch, baseOffset)) log.areEpochsDirty = true;
  };
}

async function createdMs(log: PartitionLog, base: number): Promise<number> {
  const probe = new Segment(log.context.files, log.directory, base, 0);
  return (await log.context.disk.stat(probe.path))?.modifiedMs ?? log.context.clock.nowMs();
}

function finishOffsets(log: PartitionLog, input: LoadInput): void {
  const last = log.segments.at(-1);
  if (last === undefined) {
    // A new log, or one whose files are gone: what was proven is reported, and offsets are not used again.
    const endOffset = Math.max(input.provenEnd, log.startOffset);
    log.endOffset = endOffset;
    log.durableOffset = endOffset;
    if (endOffset > log.startOffset) {
      quarantine(
        log,
        { fromOffset: log.startOffset, toOffset: endOffset, segmentBase: endOffset, position: 0 },
        "no file",
      );
    }
    log.roll();
    return;
  }
  log.endOffset = last.nextOffset;
  log.startOffset = Math.min(log.startOffset, log.endOffset);
  log.durableOffset = log.endOffset;
  // Nothing is appended behind bytes that no batch owns.
  if (
    log.quarantine.ranges.some(
      (range) => range.toOffset === log.endOffset && range.resumePosition === last.sizeBytes,
    )
  ) {
    log.roll();
  }
}

function quarantine(
  log: PartitionLog,
  range: {
    fromOffset: number;
    toOffset: number;
    segmentBase: number;
    position: number;
    resumePosition?: number;
  },
  fault: string,
): void {
  const { fromOffset, toOffset } = range;
  log.quarantine.add({ resumePosition: range.position, ...range });
  const where = `${log.directory}, segment ${range.segmentBase}, byte ${range.position}: ${fault}`;
  log.context.emit({ kind: "corruptionQuarantined", log: log.label, fromOffset, toOffset, where });
}

/** One load's progress over the segments. */
class Load {
  readonly #log: PartitionLog;
  readonly #input: LoadInput;
  /** Epochs as of the mark: the file was written before it. */
  readonly #flushedEpochs: EpochHistory;
  /** Index of the first segment that was walked; the number of segments when none was. */
  firstWalked: number;
  torn: { fromOffset: number; bytes: number } | undefined;

  constructor(log: PartitionLog, input: LoadInput) {
    this.#log = log;
    this.#input = input;
    this.#flushedEpochs = new EpochHistory(log.epochs.entries);
    this.firstWalked = log.segments.length;
  }

  get hasWalked(): boolean {
    return this.firstWalked < this.#log.segments.length;
  }

  async segments(): Promise<void> {
    const { segments } = this.#log;
    this.#missingFront();
    for (let i = 0; i < segments.length; i++) {
      const segment = segments[i] as Segment;
      const nextBase = segments[i + 1]?.baseOffset;
      segment.isOnDisk = true;
      const isBelieved = await this.#load(segment, nextBase, i);
      if (nextBase !== undefined) this.#checkEnd(segment, nextBase);
      if (this.torn !== undefined) return this.#removeAfter(i);
      if (nextBase === undefined) continue;
      segment.seal();
      if (!isBelieved) await segment.flushIndexes(true);
    }
    const last = segments.at(-1);
    if (last !== undefined && last.nextOffset < this.#input.provenEnd) this.#gap(last, this.#input.provenEnd);
  }

  /** True when the segment was believed, false when it was walked. */
  async #load(segment: Segment, nextBase: number | undefined, index: number): Promise<boolean> {
    // A segment that ends at the mark was active when the mark was taken: its indexes may not be final.
    const reachesMark = nextBase === undefined || nextBase >= this.#input.mark.recoveryPoint;
    const mayBelieve = this.#input.isClean || !reachesMark;
    if (mayBelieve && (await this.#believe(segment, nextBase))) return true;
    // From the first walked segment on the batches say which epoch began where, not the file.
    if (index < this.firstWalked && this.#log.epochs.truncateFromEnd(segment.baseOffset))
      this.#log.areEpochsDirty = true;
    this.firstWalked = Math.min(this.firstWalked, index);
    await this.#walk(segment, nextBase);
    return false;
  }

  /** Segments that are missing at the front were proven: they are lost. */
  #missingFront(): void {
    const { segments, startOffset } = this.#log;
    const firstBase = segments[0]?.baseOffset ?? 0;
    if (firstBase <= startOffset) return;
    const range = { fromOffset: startOffset, toOffset: firstBase, segmentBase: startOffset, position: 0 };
    quarantine(this.#log, range, "the segment is missing");
  }

  /** A segment that ends before the next begins: lost when it was proven, otherwise an unsynced end nobody was promised. */
  #checkEnd(segment: Segment, nextBase: number): void {
    if (this.torn !== undefined || segment.nextOffset >= nextBase) return;
    if (segment.nextOffset >= this.#input.provenEnd) this.torn = { fromOffset: segment.nextOffset, bytes: 0 };
    else this.#gap(segment, nextBase);
  }

  /** Takes a segment from size and indexes. False: they cannot be right. */
  async #believe(segment: Segment, nextBase: number | undefined): Promise<boolean> {
    const { disk, files } = this.#log.context;
    const sizeOf = async (path: string): Promise<number | undefined> => (await disk.stat(path))?.sizeBytes;
    const [logBytes, indexBytes, timeBytes] = [
      await sizeOf(segment.path),
      await sizeOf(segment.index.file.path),
      await sizeOf(segment.timeIndex.file.path),
    ];
    if (logBytes === undefined || indexBytes === undefined || timeBytes === undefined) return false;
    const nextOffset = nextBase ?? this.#input.mark.recoveryPoint;
    const relativeEnd = nextOffset - segment.baseOffset;
    if (relativeEnd < 0 || (logBytes > 0 && relativeEnd === 0)) return false;
    if (!(await segment.index.load(indexBytes, logBytes, relativeEnd))) return false;
    const time = await segment.timeIndex.load(timeBytes, relativeEnd);
    // A closed segment's time index has its final entry; without one it was not finished.
    if (time === undefined || (time.timestampMs < 0 && logBytes > 0)) return false;
    const from = await segment.index.lookup(relativeEnd);
    const check = { firstTimestampMs: -1, nextOffset: -1 };
    await files.use(segment.path, async (file) => {
      await walkBatches(file, { from: 0, to: logBytes, firstOffset: segment.baseOffset }, (header) => {
        check.firstTimestampMs = header.maxTimestampMs;
        return false;
      });
      if (nextBase === undefined) check.nextOffset = await endFrom(file, from, logBytes, segment.baseOffset);
    });
    if (nextBase === undefined && check.nextOffset !== nextOffset) return false;
    segment.restoreTime(time);
    segment.skipTo(logBytes, nextOffset);
    segment.firstTimestampMs = check.firstTimestampMs;
    segment.writtenBytes = logBytes;
    segment.writtenOffset = nextOffset;
    return true;
  }

  async #walk(segment: Segment, nextBase: number | undefined): Promise<void> {
    const log = this.#log;
    const interval = log.config.indexIntervalBytes;
    const note = addEpoch(log);
    const { recoveryPoint } = this.#input.mark;
    const epochAt: EpochAt = (offset) =>
      offset < recoveryPoint ? this.#flushedEpochs.epochAt(offset) : undefined;
    await segment.resetForRebuild();
    const fileBytes = await log.context.files.use(segment.path, async (file) => {
      const size = await file.size();
      while (segment.sizeBytes < size) {
        const range = { from: segment.sizeBytes, to: size, firstOffset: segment.nextOffset, epochAt };
        const end = await walkBatches(file, range, (header) => {
          if (nextBase !== undefined && header.baseOffset >= nextBase) return false;
          segment.add(header, interval);
          note(header);
          return true;
        });
        if (nextBase !== undefined && segment.nextOffset >= nextBase && segment.sizeBytes < size) {
          // Left from before a truncation: the next segment has these offsets.
          await file.truncate(segment.sizeBytes);
          return segment.sizeBytes;
        }
        if (end.fault === undefined) break;
        if (end.nextOffset >= this.#input.provenEnd) {
          await this.#cut(segment, file.truncate.bind(file), size);
          return segment.sizeBytes;
        }
        await this.#quarantineIn(segment, file, size, nextBase, end.fault);
      }
      return size;
    });
    segment.writtenBytes = fileBytes;
    segment.writtenOffset = segment.nextOffset;
    segment.isDirty = true;
  }

  /** Torn: cut the file at the end of its last good batch. */
  async #cut(segment: Segment, truncate: (sizeBytes: number) => Promise<void>, size: number): Promise<void> {
    await truncate(segment.sizeBytes);
    this.torn = { fromOffset: segment.nextOffset, bytes: size - segment.sizeBytes };
  }

  async #quarantineIn(
    segment: Segment,
    file: ReadableFile,
    size: number,
    nextBase: number | undefined,
    fault: string,
  ): Promise<void> {
    const [position, fromOffset] = [segment.sizeBytes, segment.nextOffset];
    const endOffset = nextBase ?? this.#input.provenEnd;
    const maxOffset = nextBase ?? Number.MAX_SAFE_INTEGER;
    const next = await findNextBatch(file, {
      from: position + 1,
      to: size,
      minOffset: fromOffset,
      maxOffset,
    });
    const toOffset = next?.baseOffset ?? endOffset;
    const resumePosition = next?.position ?? size;
    const range = { fromOffset, toOffset, segmentBase: segment.baseOffset, position, resumePosition };
    quarantine(this.#log, range, fault);
    segment.skipTo(resumePosition, toOffset);
  }

  /** The file is shorter than what was proven. */
  #gap(segment: Segment, toOffset: number): void {
    const range = {
      fromOffset: segment.nextOffset,
      toOffset,
      segmentBase: segment.baseOffset,
      position: segment.sizeBytes,
    };
    quarantine(this.#log, range, "the file ends before the batch does");
    segment.skipTo(segment.sizeBytes, toOffset);
    segment.writtenOffset = toOffset;
  }

  async #removeAfter(index: number): Promise<void> {
    const log = this.#log;
    const { disk, files } = log.context;
    for (const segment of log.segments.splice(index + 1)) {
      const bytes = (await disk.stat(segment.path))?.sizeBytes ?? 0;
      if (this.torn !== undefined) this.torn.bytes += bytes;
      await removeSegmentFiles(disk, files, log.directory, segment.baseOffset);
      log.hasNewNames = true;
    }
  }
}

/** Offset after the last batch when walked from an index position, -1 when the bytes are not batches. */
async function endFrom(file: ReadableFile, from: number, to: number, baseOffset: number): Promise<number> {
  let nextOffset = from === 0 ? baseOffset : -1;
  const first = await headerAt(file, from, to);
  if (first === undefined) return from === to ? nextOffset : -1;
  const end = await walkBatches(file, { from, to, firstOffset: first.baseOffset }, () => undefined);
  nextOffset = end.fault === undefined && end.position === to ? end.nextOffset : -1;
  return nextOffset;
}

async function headerAt(
  file: ReadableFile,
  position: number,
  to: number,
): Promise<{ baseOffset: number } | undefined> {
  if (position >= to) return undefined;
  const bytes = await readFully(file, Math.min(batchHeaderBytes, to - position), position);
  try {
    return readBatchHeader(bytes, 0);
  } catch {
    return undefined;
  }
}
