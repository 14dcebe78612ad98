/**
 * Cutting a log (a follower that diverged): journaled first, then done (J4).
 *
 * Everything appended before is durable and in the files when the cut is decided; appends and reads wait until it is done. The
 * journal's `truncate` entry lowers the mark durably before the first append after it; replay cuts the files again.
 */
import { AppError, invariant } from "@millrace/base";
import { type ReadableFile, readFully, type WalkEnd } from "./batch-walk.ts";
import { readUint64 } from "./bytes.ts";
import { entryKind } from "./journal-format.ts";
import { removeSegmentFiles } from "./log-files.ts";
import { removeStraySnapshots, restoreProducers } from "./log-producers.ts";
import type { PartitionLog } from "./partition-log.ts";
import { Segment } from "./segment.ts";
import { walkStored } from "./stored-walk.ts";

/** See `Log.truncate`. A batch that `offset` falls into goes whole. */
export async function truncateLog(log: PartitionLog, offset: number): Promise<void> {
  const { context } = log;
  context.checkUsable();
  if (log.failure !== undefined) throw log.failure;
  if (offset >= log.endOffset) return;
  if (offset < log.startOffset) {
    throw new AppError(
      "OFFSET_OUT_OF_RANGE",
      `${log.label} begins at ${log.startOffset}: it cannot be cut at ${offset}`,
    );
  }
  invariant(log.changing === undefined, "one structural change of a log at a time");
  const work = context.exclusive(() => cut(log, offset));
  log.changing = work;
  try {
    await work;
  } finally {
    log.changing = undefined;
  }
}

async function cut(log: PartitionLog, offset: number): Promise<void> {
  const { context, number: logNumber } = log;
  await context.flush();
  await context.drainSegments();
  const index = log.segments.findLastIndex((segment) => segment.baseOffset <= offset);
  const old = log.segments[index] as Segment;
  const place = await placeOf(log, old, offset);
  const { position } = place;
  const segmentBase = old.baseOffset;
  await context.submit({ kind: entryKind.truncate, logNumber, offset: place.offset, segmentBase, position });
  log.tail.clear();
  log.readHints = [];
  log.endOffset = place.offset;
  log.durableOffset = Math.min(log.durableOffset, place.offset);
  const removed = log.segments.splice(index + 1);
  const segment = new Segment(context.files, log.directory, segmentBase, old.createdMs);
  segment.isOnDisk = true;
  log.segments[index] = segment;
  // At once: a checkpoint under way still owes the part below the cut its fsync.
  context.noteDirty(log, segment);
  await context.guard(async () => {
    for (const each of removed)
      await removeSegmentFiles(context.disk, context.files, log.directory, each.baseOffset);
    await context.files.use(segment.path, (file) => file.truncate(position), "create");
    await recount(log, segment, position);
  });
  log.hasNewNames = true;
  context.noteDirty(log, segment);
  log.quarantine.keepWithin(log.startOffset, log.endOffset);
  if (log.epochs.truncateFromEnd(log.endOffset)) log.areEpochsDirty = true;
  await log.saveEpochs();
  await context.guard(async () => {
    await removeStraySnapshots(log);
    await restoreProducers(log, index, false);
  });
}

/** Position and offset of the batch that contains `offset`, found by walking from the index. */
async function placeOf(
  log: PartitionLog,
  segment: Segment,
  offset: number,
): Promise<{ position: number; offset: number }> {
  const relative = offset - segment.baseOffset - 1;
  const from = relative < 0 ? 0 : await segment.index.lookup(relative);
  let place: { position: number; offset: number } | undefined;
  const walk = async (file: ReadableFile): Promise<WalkEnd> => {
    const firstOffset = from === 0 ? segment.baseOffset : readUint64(await readFully(file, 8, from), 0);
    const range = { from, firstOffset, to: segment.writtenBytes };
    return walkStored(log, segment, file, range, (header, position) => {
      if (header.nextOffset <= offset) return true;
      place = { position, offset: header.baseOffset };
      return false;
    });
  };
  const end = await log.context.guard(() => log.context.files.use(segment.path, walk));
  if (end.fault !== undefined) {
    throw new AppError(
      "RECORD_LOST_ON_DISK",
      `${log.label} cannot be cut at ${offset}: ${end.fault} (${segment.path})`,
    );
  }
  return place ?? { position: end.position, offset: end.nextOffset };
}

/** Counts a cut segment anew: sizes, indexes, timestamps. */
async function recount(log: PartitionLog, segment: Segment, fileBytes: number): Promise<void> {
  await segment.resetForRebuild();
  const range = {
    to: fileBytes,
    onLost: (lost: { resumePosition: number; toOffset: number }): void =>
      segment.skipTo(Math.min(lost.resumePosition, fileBytes), lost.toOffset),
  };
  await log.context.files.use(segment.path, (file) =>
    walkStored(log, segment, file, range, (header) => {
      segment.add(header, log.config.indexIntervalBytes);
      return undefined;
    }),
  );
  segment.writtenBytes = segment.sizeBytes;
  segment.writtenOffset = segment.nextOffset;
}
