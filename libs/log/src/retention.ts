/**
 * What may go from the front of a log (kafka.md §3.5): decided by pure functions, carried out by `dropSegments`.
 *
 * Order: start offset moved past, then size, then time. Never beyond what is durable, never at or above `retainFrom` (S2), and
 * never by time while the wall clock has just jumped.
 */
import { entryKind } from "./journal-format.ts";
import { clockJumpMsMax } from "./limits.ts";
import { removeSegmentFiles } from "./log-files.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { Segment } from "./segment.ts";
import type { LogConfig } from "./types.ts";

/** A segment as retention sees it. */
export interface RetentionSegment {
  readonly baseOffset: number;
  readonly nextOffset: number;
  readonly sizeBytes: number;
  /** Largest record timestamp; when the file was created where no record has one. */
  readonly newestMs: number;
}

/** What retention decides on. */
export interface RetentionInput {
  /** Ascending; the last one is active. */
  readonly segments: readonly RetentionSegment[];
  readonly config: Pick<LogConfig, "retentionMs" | "retentionBytes">;
  readonly startOffset: number;
  readonly durableOffset: number;
  readonly retainFrom: number;
  /** undefined: time retention pauses. */
  readonly nowMs: number | undefined;
}

/** How many segments from the front go, and why the last of them does. */
export interface RetentionDecision {
  readonly count: number;
  readonly reason: "start" | "size" | "time";
}

/** Which segments go. The active one too when it is breached as a whole: the caller rolls first. */
export function decideRetention(input: RetentionInput): RetentionDecision {
  const { segments, config } = input;
  const total = segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  let decision: RetentionDecision = { count: 0, reason: "start" };
  let removedBytes = 0;
  for (const [index, segment] of segments.entries()) {
    if (segment.nextOffset > input.durableOffset || segment.sizeBytes === 0) break;
    const isBelowStart = segment.nextOffset <= input.startOffset && index < segments.length - 1;
    const mayGo = segment.nextOffset <= input.retainFrom;
    const isTooMuch =
      config.retentionBytes >= 0 && total - removedBytes - segment.sizeBytes >= config.retentionBytes;
    const isTooOld =
      config.retentionMs >= 0 &&
      input.nowMs !== undefined &&
      input.nowMs - segment.newestMs > config.retentionMs;
    if (isBelowStart) decision = { count: index + 1, reason: "start" };
    else if (mayGo && isTooMuch) decision = { count: index + 1, reason: "size" };
    else if (mayGo && isTooOld) decision = { count: index + 1, reason: "time" };
    else break;
    removedBytes += segment.sizeBytes;
  }
  return decision;
}

/** Notices a wall clock that jumps against the monotonic one (design §6). */
export class ClockWatch {
  #wallMs: number | undefined;
  #monotonicMs = 0;

  /** By how much the wall clock jumped since the last look; 0 when it ran along. */
  look(wallMs: number, monotonicMs: number): number {
    const driftMs =
      this.#wallMs === undefined ? 0 : wallMs - this.#wallMs - (monotonicMs - this.#monotonicMs);
    this.#wallMs = wallMs;
    this.#monotonicMs = monotonicMs;
    return Math.abs(driftMs) > clockJumpMsMax ? driftMs : 0;
  }
}

/** Decides for a log as it is now. */
export function decideFor(
  log: PartitionLog,
  nowMs: number | undefined,
  isStartOnly: boolean,
): RetentionDecision {
  const segments = log.segments.map((segment) => ({
    baseOffset: segment.baseOffset,
    nextOffset: segment.nextOffset,
    sizeBytes: segment.sizeBytes,
    newestMs: segment.maxTimestampMs >= 0 ? segment.maxTimestampMs : segment.createdMs,
  }));
  const config = isStartOnly ? { retentionMs: -1, retentionBytes: -1 } : log.config;
  const { startOffset, durableOffset, retainFrom } = log;
  return decideRetention({ segments, config, startOffset, durableOffset, retainFrom, nowMs });
}

/** The structural services dropping needs. */
export interface DropHost {
  ensureOnDisk(log: PartitionLog, segment: Segment): Promise<void>;
  forgetDirty(segments: readonly Segment[]): void;
}

/**
 * Removes the first `count` segments: the start moves, a `drop` entry makes that durable, then the files go. Runs under the
 * structural lock.
 */
export async function dropSegments(
  log: PartitionLog,
  decision: RetentionDecision,
  host: DropHost,
): Promise<void> {
  const { context } = log;
  if (decision.count === log.segments.length) log.roll();
  const first = log.segments[decision.count];
  if (first === undefined) return;
  // The new first segment and its producer snapshot are durable before older ones go (P4).
  await host.ensureOnDisk(log, first);
  const startBefore = log.startOffset;
  log.startOffset = Math.max(startBefore, first.baseOffset);
  await context.submit({
    kind: entryKind.drop,
    logNumber: log.number,
    startOffset: log.startOffset,
    firstSegmentBase: first.baseOffset,
  });
  const dropped = log.segments.splice(0, decision.count);
  host.forgetDirty(dropped);
  await context.guard(async () => {
    for (const each of dropped)
      await removeSegmentFiles(context.disk, context.files, log.directory, each.baseOffset);
  });
  log.hasNewNames = true;
  log.quarantine.keepWithin(log.startOffset, log.endOffset);
  if (log.epochs.truncateFromStart(log.startOffset)) log.areEpochsDirty = true;
  const bytes = dropped.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  const records = Math.max(0, log.startOffset - Math.max(startBefore, dropped[0]?.baseOffset ?? 0));
  const { reason } = decision;
  context.emit({ kind: "segmentsDeleted", log: log.label, count: dropped.length, bytes, records, reason });
}
