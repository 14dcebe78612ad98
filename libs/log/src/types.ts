/**
 * The data directory as its users see it: one journal, many logs, one small state table.
 *
 * Data flow (design §6, rules J1-J6):
 *
 *   commit(appends, state)  --sync-->  offsets assigned, batches in the logs' tails, entry queued
 *        journal writer: one writev + fdatasync for all that is queued  -->  `durable` resolves
 *        segment writer: batches written to segment files, no fsync     -->  tail memory given back
 *        checkpoint: segments fsynced, marks and state saved            -->  journal files recycled
 *
 * A *log* is a partition of a topic or an agent's file channel: the same segments, the same recovery. A channel's
 * offsets are its sequences. An entry is atomic: batches into several logs and state changes are in it together
 * or not at all.
 *
 * Invariants: offsets are dense per batch and never reused; nothing is readable below `durable` that a crash can
 * take back; nothing is served that does not match its checksum.
 */
import type { BatchHeader } from "@millrace/record";
import type { Clock, Disk } from "@millrace/runtime";
import type { LogEvent } from "./events.ts";

/** Which log: a partition by topic id (L3), or a channel by its own id. */
export type LogId =
  | {
      readonly kind: "topic";
      readonly topicId: string;
      readonly topicName: string;
      readonly partition: number;
    }
  | { readonly kind: "channel"; readonly channelId: string; readonly channelName: string };

/** Per-log settings, under Kafka's names where Kafka has one. */
export interface LogConfig {
  /** segment.bytes */
  readonly segmentBytes: number;
  /** segment.ms */
  readonly segmentMs: number;
  /** index.interval.bytes */
  readonly indexIntervalBytes: number;
  /** segment.index.bytes: size limit of each index file. */
  readonly segmentIndexBytes: number;
  /** retention.ms, -1 = no limit. */
  readonly retentionMs: number;
  /** retention.bytes, -1 = no limit. */
  readonly retentionBytes: number;
  /** max.message.bytes: largest batch as stored. */
  readonly batchBytesMax: number;
  /** `fsync`: durable before ack; `os`: acknowledged once written to the page cache (flush.policy). */
  readonly flushPolicy: "fsync" | "os";
}

/** Who may open the directory. The first open writes it; later ones compare. */
export interface DirectoryIdentity {
  readonly role: "storage" | "agent" | "connector" | "metadata";
  /** undefined: not yet known (taken from the directory, or set by `setClusterId` after registration). */
  readonly clusterId?: string;
  readonly nodeId?: string;
}

/** How a data directory is opened. */
export interface DirectoryOptions {
  readonly path: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly identity: DirectoryIdentity;
  /** Size of one journal file. */
  readonly journalFileBytes?: number;
  /** Bytes queued for the journal beyond which `whenWritable` waits. */
  readonly pendingBytesMax?: number;
  /** Negative control of the tests only: acknowledges without fsync. */
  readonly unsafeSkipFsync?: boolean;
  /** Told what happens to the directory (rolls, retention, damage, disk full, offline); log lines and metrics. */
  readonly onEvent?: (event: LogEvent) => void;
}

/** What `DIR/meta` holds (format version first; JSON). */
export interface DirectoryMeta {
  readonly formatVersion: number;
  readonly role: DirectoryIdentity["role"];
  readonly clusterId: string | null;
  readonly nodeId: string | null;
  readonly directoryId: string;
  /** Id in the journal's files where it is not the directory's: an identity of its own was given to a copy (L1). */
  readonly journalId?: string;
  /** Start history (L1), oldest first, bounded; the last entry is this start. */
  readonly starts: readonly string[];
}

/** One batch for one or several logs of the directory. */
export interface Append {
  /** All take the same batch; each gets its own base offset. */
  readonly logs: readonly Log[];
  /** One RecordBatch v2. Adopted: the caller does not touch the bytes again; offset and epoch are patched in place. */
  readonly batch: Uint8Array;
  readonly leaderEpoch: number;
}

/** A change of the state table: null removes the key. */
export interface StateChange {
  readonly key: string;
  readonly value: Uint8Array | null;
}

/** What a commit did. Offsets are assigned at once; durability comes later. */
export interface Committed {
  /** Per append, per log: the base offset it got. */
  readonly baseOffsets: readonly (readonly number[])[];
  /**
   * Resolves when the entry is durable (fsync, or for a commit that only touches `os` logs: written).
   * Rejects STORAGE_FAILED when the directory went offline: the outcome is unknown until the next start.
   */
  readonly durable: Promise<void>;
}

/** A data directory: opened once per process under its lock. */
export interface DataDirectory {
  readonly path: string;
  readonly meta: DirectoryMeta;
  /** Set when a disk error took the directory offline; every later commit and read throws it. */
  readonly failure: Error | undefined;
  /** What recovery found and did, for the start-up line and for tests. */
  readonly recovery: RecoveryReport;

  /** Writes the cluster id (and node id) into a directory that has none yet; throws CLUSTER_MISMATCH otherwise. */
  setIdentity(identity: { clusterId: string; nodeId: string }): Promise<void>;

  /** Logs present, opened. */
  readonly logs: readonly Log[];
  getLog(id: LogId): Log | undefined;
  /** Creates the log (durably) or returns the existing one. */
  createLog(id: LogId, config: LogConfig): Promise<Log>;
  /** Removes a log with its data; durable on return (J1: renamed before it is removed). */
  deleteLog(log: Log): Promise<void>;

  /**
   * Appends and state changes as one atomic journal entry. Synchronous: offsets are assigned in call order.
   * `lazy`: nobody waits; the entry goes out with the next group, or after at most a second (take positions).
   * Throws DISK_FULL or STORAGE_FAILED before anything is assigned.
   */
  commit(appends: readonly Append[], state?: readonly StateChange[], options?: { lazy?: boolean }): Committed;
  /** undefined when commits may go on at once; otherwise resolves when queued bytes are below the limit again. */
  whenWritable(): Promise<void> | undefined;
  /** Resolves when everything committed so far is durable. */
  flush(): Promise<void>;

  /** The state table (J5): in memory, durable through the journal. Reads see commits at once. */
  getState(key: string): Uint8Array | undefined;
  stateKeys(prefix: string): string[];

  /** Applies retention (time, size) to all topic logs now; also runs by itself. Never passes `Log.retainFrom`. */
  applyRetention(): Promise<void>;
  /** Flushes, writes checkpoints and the clean-shutdown mark, releases the lock. */
  close(): Promise<void>;
}

/** What recovery found and did. */
export interface RecoveryReport {
  readonly wasClean: boolean;
  readonly replayedEntries: number;
  readonly replayedBytes: number;
  /** Bytes cut as torn beyond the flushed-through mark, by log. */
  readonly tornTails: readonly {
    readonly log: string;
    readonly fromOffset: number;
    readonly bytes: number;
  }[];
  /** Flushed data found corrupt (J4): quarantined, not served. */
  readonly corruptRanges: readonly {
    readonly log: string;
    readonly fromOffset: number;
    readonly toOffset: number;
  }[];
  readonly durationMs: number;
}

/** Where a producer's batch stands against the log (P3). */
export type SequenceVerdict =
  | { readonly kind: "append" }
  /** In the log already: `baseOffset` -1 where it is no longer known; ack once `throughOffset` is durable. */
  | { readonly kind: "duplicate"; readonly baseOffset: number; readonly throughOffset: number }
  /** The first `presentCount` records are there; the sender trims. `lastSequence` is the wire sequence of the last record held. */
  | { readonly kind: "partlyPresent"; readonly lastSequence: number }
  | {
      readonly kind: "refused";
      readonly reason: "OUT_OF_ORDER_SEQUENCE" | "UNKNOWN_PRODUCER" | "PRODUCER_FENCED";
      readonly lastSequence: number;
    };

/** State of one producer in one partition. */
export interface ProducerInfo {
  readonly producerId: number;
  readonly producerEpoch: number;
  /** Wire sequence of the last record, -1 when none. */
  readonly lastSequence: number;
  readonly lastOffset: number;
  readonly lastTimestampMs: number;
}

/** Producer ids from here on belong to named producers, whose state is kept until removed by name (P1). */
export const namedProducerIdMin = 2 ** 40;

/** One log: a partition or a channel. */
export interface Log {
  readonly id: LogId;
  /** Stable text for messages and metrics: `topic-3` or the channel's name. */
  readonly label: string;
  readonly config: LogConfig;
  /** First offset kept. */
  readonly startOffset: number;
  /** Next offset to be assigned. */
  readonly endOffset: number;
  /** Everything below is durable (the flushed offset; equals `endOffset` of written data for `os` logs, J6). */
  readonly durableOffset: number;
  /** Bytes in segments and tail. */
  readonly sizeBytes: number;
  /** Set when an invariant or corruption stopped this log; other logs go on. */
  readonly failure: Error | undefined;

  alterConfig(config: LogConfig): void;
  /** Starts leader epoch `epoch` at the present end (leader-epoch-checkpoint). Lower epochs are refused. */
  startEpoch(epoch: number): Promise<void>;
  readonly leaderEpoch: number;
  /** Leader epoch of the record at `offset` (L4), undefined when out of range. */
  epochAt(offset: number): number | undefined;
  /** Largest epoch <= `epoch` that the log has and the offset after its last record (divergence and L4 checks). */
  endOfEpoch(epoch: number): { readonly epoch: number; readonly endOffset: number } | undefined;

  /**
   * Whole batches from the one that contains `offset`, ascending, until `bytesMax` (at least one batch) or the
   * limit: `durable` (consumers, sinks) or `end` (followers). Empty at the limit. Each chunk holds one or more
   * whole batches; chunks are views that stay valid and unchanged. Throws OFFSET_OUT_OF_RANGE, RECORD_LOST_ON_DISK.
   */
  read(offset: number, bytesMax: number, upTo?: "durable" | "end"): Promise<Uint8Array[]>;
  /** First offset whose record timestamp is >= `timestampMs`, among durable ones. */
  offsetForTime(
    timestampMs: number,
  ): Promise<{ readonly offset: number; readonly timestampMs: number } | undefined>;
  /** Calls back (once) when `durableOffset` passes `offset`; at once if it has. Cancel with the returned function. */
  onDurablePast(offset: number, run: () => void): () => void;

  /** Moves the start forward: DeleteRecords, and a channel's delivered front. Whole segments below are removed lazily. */
  advanceStart(offset: number): void;
  /** Retention by size and time does not remove offsets at or above this (S2). Infinity = no hold. */
  retainFrom: number;
  /** Cuts everything at and above `offset`; the mark is lowered durably before the next append (J4). */
  truncate(offset: number): Promise<void>;

  /**
   * Checks a producer's batch before anything else (P3). Batches without producer id: append. A batch of a named
   * producer not known here is held against `previousProducerId` (P2; 0 = none); a replaced id is fenced.
   */
  checkSequence(header: BatchHeader, previousProducerId?: number): SequenceVerdict;
  /**
   * P2: `producerId` goes on where `previousProducerId` ended, which is fenced from then on. Durable through the commit
   * it is given to, which must be that of the new id's first batch. Empty when there is nothing to note.
   */
  replaceProducer(previousProducerId: number, producerId: number): StateChange[];
  producers(): ProducerInfo[];
  /** Forgets a named producer (P1); durable through the commit it is given to. */
  removeProducer(producerId: number): StateChange[];
}
