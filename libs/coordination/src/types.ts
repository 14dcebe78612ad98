/**
 * The metadata log: an ordered log of batches, appended by compare-and-set on the whole log (design §4).
 *
 * Two engines: embedded (one process, a local file) and, later, NATS JetStream. One conformance suite
 * (`testing/metadata-log-conformance.ts`) runs on each.
 *
 * Invariants: sequences count from 1 without gaps as seen by readers; each batch carries the log's id and the hash of
 * its predecessor; an acknowledged batch survives everything the engine promises to survive; of several appends that
 * expect the same sequence at most one succeeds.
 */
import type { MetadataRecord } from "@millrace/controller";

/** Largest encoded batch; a change beyond it is several batches (see `planChange`). */
export const batchBytesMax = 512 * 1024;

/** A place in the log's history. The hash proves which history. */
export interface LogPosition {
  /** Sequence of the last batch; 0 before the first. */
  readonly sequence: number;
  /** SHA-256 of that batch, hexadecimal; empty at 0. */
  readonly hash: string;
}

/** The position before the first batch. */
export const logStart: LogPosition = { sequence: 0, hash: "" };

/** A batch to append. */
export interface NewBatch {
  /** Random id: how an append of unknown outcome is found again. */
  readonly batchId: string;
  /** The change it is a part of: all parts have the same id. */
  readonly changeId: string;
  /** From 0. */
  readonly part: number;
  readonly partCount: number;
  readonly records: readonly MetadataRecord[];
}

/** A batch as it is in the log. */
export interface LoggedBatch extends NewBatch {
  readonly position: LogPosition;
}

/** What an append did. A thrown TIMED_OUT or STORAGE_FAILED means: unknown, read the log before acting. */
export type AppendOutcome =
  | { readonly kind: "appended"; readonly position: LogPosition }
  /** Somebody else appended: nothing was written. */
  | { readonly kind: "conflict"; readonly head: LogPosition };

/** The whole metadata at a position, as records. */
export interface LogSnapshot {
  readonly position: LogPosition;
  readonly records: readonly MetadataRecord[];
}

/** The metadata log on an engine. */
export interface MetadataLog {
  /** Random id of this log, made with it. */
  readonly logId: string;
  /** The last batch this process knows of. */
  readonly head: LogPosition;
  /** Set when the engine can take no more appends until the process starts again; every later append throws it. */
  readonly failure: Error | undefined;
  /**
   * Appends if the log still ends at `expectedSequence`. Resolves once the batch is as durable as the engine makes it.
   * One append in flight at a time (design §4). Throws LIMIT_EXCEEDED (too large), DISK_FULL (not written),
   * STORAGE_FAILED or TIMED_OUT (unknown outcome).
   */
  append(expectedSequence: number, batch: NewBatch): Promise<AppendOutcome>;
  /** Batches from `fromSequence` to the present head. Throws INVALID_REQUEST when older ones have been purged. */
  read(fromSequence: number): AsyncIterable<LoggedBatch>;
  /** Like `read`, then every batch as it is appended, until `signal` aborts. */
  watch(fromSequence: number, signal: AbortSignal): AsyncIterable<LoggedBatch>;
  /** Saves a snapshot durably; the last two are kept, the log is purged only behind the older one. */
  saveSnapshot(snapshot: LogSnapshot): Promise<void>;
  /** The newest intact snapshot. */
  loadSnapshot(): Promise<LogSnapshot | undefined>;
  close(): Promise<void>;
}
