/** Walking what a log has in a segment file, stepping over quarantined stretches (J4). */
import type { BatchHeader } from "@millrace/record";
import { type ReadableFile, type WalkEnd, walkBatches } from "./batch-walk.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { LostRange } from "./quarantine.ts";
import type { Segment } from "./segment.ts";

/** Where to walk and whether to believe checksums; from the segment's start by default. */
export interface StoredRange {
  readonly to: number;
  readonly from?: number;
  readonly firstOffset?: number;
  readonly trustsChecksums?: boolean;
  /** Told of each stretch stepped over. */
  readonly onLost?: (range: LostRange) => void;
}

/** Visits the good batches of a segment until the end, a new fault, or the visitor's false. */
export async function walkStored(
  log: PartitionLog,
  segment: Segment,
  file: ReadableFile,
  range: StoredRange,
  visit: (header: BatchHeader, position: number) => boolean | undefined,
): Promise<WalkEnd> {
  let end: WalkEnd = {
    position: range.from ?? 0,
    nextOffset: range.firstOffset ?? segment.baseOffset,
    fault: undefined,
  };
  const walk = { isStopped: false };
  while (end.position < range.to && end.fault === undefined && !walk.isStopped) {
    const { position } = end;
    const lost = log.quarantine.findAt(segment.baseOffset, position);
    if (lost !== undefined) {
      range.onLost?.(lost);
      if (lost.resumePosition <= position) return end;
      end = { position: lost.resumePosition, nextOffset: lost.toOffset, fault: undefined };
      continue;
    }
    const stretch = {
      from: position,
      to: nextStop(log, segment, position, range.to),
      firstOffset: end.nextOffset,
      trustsChecksums: range.trustsChecksums === true,
    };
    end = await walkBatches(file, stretch, (header, at) => {
      walk.isStopped = visit(header, at) === false;
      return !walk.isStopped;
    });
    if (end.position === position) break;
  }
  return end;
}

/** Where a walk from `position` has to stop: the next quarantined stretch, or the end. */
function nextStop(log: PartitionLog, segment: Segment, position: number, to: number): number {
  let stop = to;
  for (const range of log.quarantine.ranges) {
    if (range.segmentBase === segment.baseOffset && range.position > position)
      stop = Math.min(stop, range.position);
  }
  return stop;
}
