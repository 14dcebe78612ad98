/**
 * The parts of an open data directory, wired: journal, logs, state table, background writing, checkpoint, failure.
 * `MillraceDirectory` is its public face; logs see it as their {@link LogContext}.
 */
import { join } from "node:path";
import { AppError, invariant } from "@millrace/base";
import type { Clock, Disk } from "@millrace/runtime";
import { Checkpointer } from "./checkpointer.ts";
import { DiskGuard } from "./disk-guard.ts";
import type { LogEvent } from "./events.ts";
import { JournalFiles } from "./journal-files.ts";
import { entryBytes, entryKind, type JournalEntry } from "./journal-format.ts";
import type { JournalScan } from "./journal-scan.ts";
import { type JournalHost, type JournalItem, JournalWriter } from "./journal-writer.ts";
import { lazyCommitDelayMs, stateShareMax } from "./limits.ts";
import type { LogContext } from "./log-context.ts";
import { OpenFiles } from "./open-files.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { Segment } from "./segment.ts";
import { SegmentWriter } from "./segment-writer.ts";
import { StateTable } from "./state-table.ts";
import { TailCache } from "./tail.ts";
import type { StateChange } from "./types.ts";

/** What a core is made for. */
export interface CoreOptions {
  readonly path: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly directoryId: string;
  readonly journalFileBytes: number;
  readonly pendingBytesMax: number;
  readonly skipsFsync: boolean;
  readonly onEvent: (event: LogEvent) => void;
}

/** See the module comment. */
export class DirectoryCore implements LogContext, JournalHost {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly files: OpenFiles;
  readonly cache = new TailCache();
  readonly state = new StateTable();
  readonly diskGuard: DiskGuard;
  readonly segmentWriter: SegmentWriter;
  readonly checkpointer: Checkpointer;
  readonly directoryId: string;
  readonly fileBytes: number;
  readonly skipsFsync: boolean;
  /** Told that a log's start has moved; set by the retention runner. */
  onStartMoved: (log: PartitionLog) => void = () => {};
  isClosed = false;
  readonly #options: CoreOptions;
  readonly #logs = new Map<number, PartitionLog>();
  #journal: JournalWriter | undefined;
  #journalFiles: JournalFiles | undefined;
  #structural: Promise<unknown> = Promise.resolve();
  #pin: number | undefined;
  #checkpointing: Promise<void> | undefined;
  #wantsCheckpoint = false;
  #writable: PromiseWithResolvers<undefined> | undefined;
  #isLazyTimerSet = false;
  #isStarted = false;

  constructor(options: CoreOptions) {
    this.#options = options;
    this.disk = options.disk;
    this.clock = options.clock;
    this.directoryId = options.directoryId;
    this.fileBytes = options.journalFileBytes;
    this.skipsFsync = options.skipsFsync;
    this.files = new OpenFiles(options.disk);
    const { disk, clock, path } = options;
    const emit = (event: LogEvent): void => this.emit(event);
    this.diskGuard = new DiskGuard({ disk, clock, path, emit, onFailure: (error) => this.#goOffline(error) });
    this.segmentWriter = new SegmentWriter({
      disk,
      clock,
      files: this.files,
      cache: this.cache,
      guard: this.diskGuard,
      noteDirty: (log, segment) => this.noteDirty(log, segment),
      onWritten: () => this.#wakeWriters(),
    });
    this.checkpointer = new Checkpointer({
      path,
      disk,
      clock,
      files: this.files,
      guard: this.diskGuard,
      segmentWriter: this.segmentWriter,
      skipsFsync: options.skipsFsync,
      emit,
      logs: () => this.logs,
      pinnedThrough: () => this.#pin ?? Number.POSITIVE_INFINITY,
    });
  }

  get path(): string {
    return this.#options.path;
  }

  get logs(): PartitionLog[] {
    return [...this.#logs.values()];
  }

  get journal(): JournalWriter {
    invariant(this.#journal !== undefined, "the journal is open");
    return this.#journal;
  }

  /** Takes over what recovery found, makes all of it durable by a checkpoint (J6) and begins a journal file. */
  async start(scan: JournalScan, lastEntry: number, logs: readonly PartitionLog[]): Promise<void> {
    for (const log of logs) this.addLog(log);
    const used = scan.used.map((file) => file.generation);
    this.#journalFiles = new JournalFiles(this.disk, join(this.path, "journal"), used, scan.spare);
    this.#journal = new JournalWriter(this, this.#journalFiles, this.state, lastEntry);
    this.#journal.adoptFull(
      scan.used.map(({ generation, lastEntry: last }) => ({ generation, lastEntry: last })),
    );
    // First, so that files are free again: after a crash all may be in use.
    await this.checkpoint();
    await this.#journal.begin();
    this.#isStarted = true;
  }

  /** Gives files back without finishing anything: the open failed, or the close has. */
  async abandon(): Promise<void> {
    this.isClosed = true;
    await this.segmentWriter.close();
    await this.#journal?.close();
    await this.files.closeAll();
  }

  addLog(log: PartitionLog): void {
    this.#logs.set(log.number, log);
  }

  removeLog(log: PartitionLog): void {
    this.#logs.delete(log.number);
    this.segmentWriter.forget(log);
    this.checkpointer.forget(log.segments);
  }

  getLog(number: number): PartitionLog | undefined {
    return this.#logs.get(number);
  }

  emit(event: LogEvent): void {
    this.#options.onEvent(event);
  }

  checkUsable(): void {
    if (this.diskGuard.failure !== undefined) throw this.diskGuard.failure;
    if (this.isClosed) throw new AppError("NODE_STARTING", `the data directory ${this.path} is closed`);
  }

  submit(entry: JournalEntry, options: { readonly lazy?: boolean } = {}): Promise<void> {
    return this.submitItem(
      { entry, sizeBytes: entryBytes(entry), needsSync: true, batches: [] },
      options.lazy === true,
    );
  }

  /** State changes of the library itself, durable on return. */
  async submitState(state: readonly StateChange[]): Promise<void> {
    this.state.check(state, Math.floor(this.fileBytes * stateShareMax));
    this.state.apply(state);
    await this.submit({ kind: entryKind.append, appends: [], state });
  }

  submitItem(item: JournalItem, isLazy: boolean): Promise<void> {
    if (isLazy && !this.#isLazyTimerSet) {
      this.#isLazyTimerSet = true;
      this.clock.after(lazyCommitDelayMs, () => {
        this.#isLazyTimerSet = false;
        this.#journal?.start();
      });
    }
    return this.journal.submit(item, isLazy);
  }

  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#structural.then(async () => {
      this.#pin = this.#journal?.writtenThrough;
      try {
        return await work();
      } finally {
        this.#pin = undefined;
      }
    });
    this.#structural = result.catch(() => {});
    return result;
  }

  flush(): Promise<void> {
    return this.journal.flush();
  }

  drainSegments(): Promise<void> {
    return this.segmentWriter.drain();
  }

  guard<T>(work: () => Promise<T>): Promise<T> {
    return this.diskGuard.run(work);
  }

  noteDirty(log: PartitionLog, segment: Segment): void {
    this.checkpointer.noteDirty(log, segment);
  }

  getState(key: string): Uint8Array | undefined {
    return this.state.get(key);
  }

  stateKeys(prefix: string): string[] {
    return this.state.keys(prefix);
  }

  startMoved(log: PartitionLog): void {
    this.onStartMoved(log);
  }

  /** A checkpoint that covers everything durable now. */
  async checkpoint(isClean = false): Promise<void> {
    while (this.#checkpointing !== undefined) await this.#checkpointing;
    const files = this.#journalFiles;
    invariant(files !== undefined, "the journal is open");
    this.#checkpointing = this.checkpointer.take(this.journal, files, isClean).finally(() => {
      this.#checkpointing = undefined;
    });
    await this.#checkpointing;
  }

  /** undefined when commits may go on; see `DataDirectory.whenWritable`. */
  whenWritable(): Promise<void> | undefined {
    if (this.#isBelowLimit()) return undefined;
    this.#writable ??= Promise.withResolvers<undefined>();
    return this.#writable.promise;
  }

  async whenRoom(write: () => Promise<void>): Promise<void> {
    await this.diskGuard.run(write);
  }

  onWritten(items: readonly JournalItem[]): void {
    for (const item of items) {
      for (const batch of item.batches) {
        const log = this.#logs.get(batch.logNumber);
        if (log?.config.flushPolicy === "os") log.advanceDurable(batch.nextOffset);
      }
    }
  }

  onDurable(items: readonly JournalItem[]): void {
    for (const item of items) {
      for (const batch of item.batches) {
        const log = this.#logs.get(batch.logNumber);
        if (log === undefined) continue;
        log.advanceDurable(batch.nextOffset);
        this.segmentWriter.note(log, batch.bytes.length);
      }
    }
    this.#wakeWriters();
  }

  onFileBegun(generation: number, isReused: boolean): void {
    this.emit({ kind: "journalFileBegun", generation, isReused });
    if (this.#wantsCheckpoint || !this.#isStarted) return;
    this.#wantsCheckpoint = true;
    // In the background: the journal goes on in the new file meanwhile. A failure has taken the directory offline.
    setImmediate(() => {
      this.#wantsCheckpoint = false;
      if (!this.isClosed) this.checkpoint().catch(() => {});
    });
  }

  onFailure(error: unknown): void {
    this.diskGuard.fail(error);
  }

  #isBelowLimit(): boolean {
    const pending = (this.#journal?.queuedBytes ?? 0) + this.segmentWriter.pendingBytes;
    return pending < this.#options.pendingBytesMax || this.diskGuard.failure !== undefined;
  }

  #wakeWriters(): void {
    if (this.#writable === undefined || !this.#isBelowLimit()) return;
    this.#writable.resolve(undefined);
    this.#writable = undefined;
  }

  #goOffline(error: AppError): void {
    this.#journal?.fail(error);
    this.#wakeWriters();
  }
}
