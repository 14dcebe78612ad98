/** What a log needs of its directory. */
import type { Clock, Disk } from "@millrace/runtime";
import type { LogEvent } from "./events.ts";
import type { JournalEntry } from "./journal-format.ts";
import type { OpenFiles } from "./open-files.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { Segment } from "./segment.ts";
import type { TailCache } from "./tail.ts";

/** Services of the directory for its logs. */
export interface LogContext {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly files: OpenFiles;
  readonly cache: TailCache;
  emit(event: LogEvent): void;
  /** Throws when the directory is offline or closed. */
  checkUsable(): void;
  /** Queues an entry that carries no batch; resolves when it is durable. */
  submit(entry: JournalEntry, options?: { readonly lazy?: boolean }): Promise<void>;
  /**
   * One structural change (truncation, creation, deletion, retention) at a time, in order. Until it is done no checkpoint
   * counts its journal entries as carried out.
   */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when everything committed so far is durable. */
  flush(): Promise<void>;
  /** Resolves when every batch durable now is in its segment file. */
  drainSegments(): Promise<void>;
  /** Runs disk work; a full disk is waited out, any other failure takes the directory offline. */
  guard<T>(work: () => Promise<T>): Promise<T>;
  /** The segment has content that the next checkpoint must fsync. */
  noteDirty(log: PartitionLog, segment: Segment): void;
  getState(key: string): Uint8Array | undefined;
  stateKeys(prefix: string): string[];
  /** Segments of this log may be removable, or its start has moved: look soon. */
  startMoved(log: PartitionLog): void;
}
