/** The public face of a data directory: commit, logs, state, lifecycle. */
import { join } from "node:path";
import { AppError, invariant } from "@millrace/base";
import { type BatchHeader, readBatchHeader } from "@millrace/record";
import {
  type DirectoryLock,
  type Disk,
  directoryError,
  lockDirectory,
  realDisk,
  replaceFile,
} from "@millrace/runtime";
import { DirectoryCore } from "./directory-core.ts";
import { recoverDirectory } from "./directory-recovery.ts";
import { appendEntryBytes, type EntryAppend, type EntryTarget, entryKind } from "./journal-format.ts";
import {
  entryShareMax,
  journalFileBytesDefault,
  journalFileBytesMin,
  pendingBytesMaxDefault,
  stateShareMax,
} from "./limits.ts";
import { createLog, deleteLog } from "./log-lifecycle.ts";
import { logIdKey, registrationChange } from "./log-registry.ts";
import { identifyMeta, openMeta, renewMeta } from "./meta.ts";
import { PartitionLog } from "./partition-log.ts";
import { encodeProducerSnapshot } from "./producer-snapshot.ts";
import { RetentionRunner } from "./retention-runner.ts";
import { segmentFileName } from "./segment.ts";
import { internalKeyPrefix, removedProducerPrefix, replacedProducerPrefix } from "./state-table.ts";
import type { TailBatch } from "./tail.ts";
import type {
  Append,
  Committed,
  DataDirectory,
  DirectoryIdentity,
  DirectoryMeta,
  DirectoryOptions,
  Log,
  LogConfig,
  LogId,
  RecoveryReport,
  StateChange,
} from "./types.ts";

const cleanMarkName = ".kafka_cleanshutdown";

/**
 * Opens (and makes, when absent or empty) a data directory: lock, identity, start history, recovery. Throws
 * ALREADY_LOCKED, INVALID_CONFIG (not a Millrace directory, another role), CLUSTER_MISMATCH, UNSUPPORTED_VERSION,
 * LINEAGE_REFUSED, RECORD_LOST_ON_DISK (the journal itself is damaged), STORAGE_FAILED.
 */
export async function openDataDirectory(options: DirectoryOptions): Promise<DataDirectory> {
  try {
    return await openLocked(options);
  } catch (error) {
    throw directoryError(options.path, error);
  }
}

async function openLocked(options: DirectoryOptions): Promise<DataDirectory> {
  const { path, disk, clock } = options;
  const startedMs = clock.monotonicMs();
  await disk.makeDirectory(path);
  const lock = disk === realDisk ? lockDirectory(path) : undefined;
  try {
    const meta = await openMeta(disk, path, options.identity);
    for (const name of ["journal", "topics", "channels"]) await disk.makeDirectory(join(path, name));
    const journalId = meta.journalId ?? meta.directoryId;
    const core = new DirectoryCore({
      path,
      disk,
      clock,
      directoryId: journalId,
      journalFileBytes: Math.max(options.journalFileBytes ?? journalFileBytesDefault, journalFileBytesMin),
      pendingBytesMax: options.pendingBytesMax ?? pendingBytesMaxDefault,
      skipsFsync: options.unsafeSkipFsync === true,
      onEvent: options.onEvent ?? (() => {}),
    });
    try {
      const recovered = await recoverDirectory(core, path, journalId, core.state);
      await disk.removeFile(join(path, "topics", cleanMarkName));
      await disk.syncDirectory(join(path, "topics"));
      await core.start(recovered.scan, recovered.lastEntry, recovered.logs);
      if (recovered.obsoleteKeys.length > 0) {
        await core.submitState(recovered.obsoleteKeys.map((key) => ({ key, value: null })));
      }
      const recovery = { ...recovered.report, durationMs: clock.monotonicMs() - startedMs };
      const directory = new MillraceDirectory(core, meta, recovery, lock);
      if (meta.clusterId !== null) await directory.writeKafkaMeta();
      return directory;
    } catch (error) {
      await core.abandon();
      throw error;
    }
  } catch (error) {
    lock?.release();
    throw error;
  }
}

/**
 * Gives a copied or restored directory an identity of its own (L1): a new id and an empty start history. Its content
 * stays; to everybody else it is another directory. Returns the new id. Throws ALREADY_LOCKED while a process uses it,
 * INVALID_CONFIG for a directory that is none or of another role.
 */
export async function renewIdentity(options: {
  readonly path: string;
  readonly disk: Disk;
  readonly role: DirectoryIdentity["role"];
}): Promise<string> {
  const { path, disk, role } = options;
  if ((await disk.stat(path))?.kind !== "directory")
    throw new AppError("INVALID_CONFIG", `${path} is no directory: name the data directory that was copied`);
  const lock = disk === realDisk ? lockDirectory(path) : undefined;
  try {
    return (await renewMeta(disk, path, role)).directoryId;
  } finally {
    lock?.release();
  }
}

class MillraceDirectory implements DataDirectory {
  readonly recovery: RecoveryReport;
  readonly #core: DirectoryCore;
  readonly #retention: RetentionRunner;
  readonly #lock: DirectoryLock | undefined;
  readonly #byId = new Map<string, PartitionLog>();
  readonly #creating = new Map<string, Promise<PartitionLog>>();
  #meta: DirectoryMeta;
  #closing: Promise<void> | undefined;

  constructor(
    core: DirectoryCore,
    meta: DirectoryMeta,
    recovery: RecoveryReport,
    lock: DirectoryLock | undefined,
  ) {
    this.#core = core;
    this.#meta = meta;
    this.recovery = recovery;
    this.#lock = lock;
    for (const log of core.logs) this.#byId.set(logIdKey(log.id), log);
    this.#retention = new RetentionRunner(core);
    this.#retention.start();
  }

  get path(): string {
    return this.#core.path;
  }

  get meta(): DirectoryMeta {
    return this.#meta;
  }

  get failure(): Error | undefined {
    return this.#core.diskGuard.failure;
  }

  get logs(): readonly Log[] {
    return this.#core.logs;
  }

  async setIdentity(identity: { clusterId: string; nodeId: string }): Promise<void> {
    this.#core.checkUsable();
    await this.#core.exclusive(async () => {
      this.#meta = await identifyMeta(this.#core.disk, this.path, this.#meta, identity);
      await this.writeKafkaMeta();
    });
  }

  /** Kafka's `meta.properties`, so that its tools take `topics/` for a log directory. */
  async writeKafkaMeta(): Promise<void> {
    const { clusterId, nodeId, directoryId } = this.#meta;
    const text = `version=1\ncluster.id=${clusterId}\nnode.id=${nodeId}\ndirectory.id=${directoryId}\n`;
    await this.#core.guard(() =>
      replaceFile(this.#core.disk, join(this.path, "topics", "meta.properties"), Buffer.from(text)),
    );
  }

  getLog(id: LogId): Log | undefined {
    return this.#byId.get(logIdKey(id));
  }

  async createLog(id: LogId, config: LogConfig): Promise<Log> {
    this.#core.checkUsable();
    const key = logIdKey(id);
    const known = this.#byId.get(key) ?? this.#creating.get(key);
    if (known !== undefined) {
      const existing = await known;
      await this.#adoptConfig(existing, config);
      return existing;
    }
    const creation = this.#core.exclusive(() => createLog(this.#core, id, config));
    this.#creating.set(key, creation);
    try {
      const log = await creation;
      this.#byId.set(key, log);
      return log;
    } finally {
      this.#creating.delete(key);
    }
  }

  async #adoptConfig(log: PartitionLog, config: LogConfig): Promise<void> {
    if (JSON.stringify(log.config) === JSON.stringify(config)) return;
    log.alterConfig(config);
    const { number, id } = log;
    await this.#core.submitState([registrationChange({ number, id, config, isDeleted: false })]);
  }

  async deleteLog(log: Log): Promise<void> {
    this.#core.checkUsable();
    const own = this.#own(log);
    invariant(own.changing === undefined, "one structural change of a log at a time");
    const work = this.#core.exclusive(() => deleteLog(this.#core, own));
    own.changing = work;
    this.#byId.delete(logIdKey(own.id));
    await work;
    own.fail(new AppError("UNKNOWN_TOPIC_ID", `${own.label} was deleted`));
  }

  commit(
    appends: readonly Append[],
    state: readonly StateChange[] = [],
    options: { lazy?: boolean } = {},
  ): Committed {
    this.#core.checkUsable();
    if (this.#core.diskGuard.isFull) {
      throw new AppError(
        "DISK_FULL",
        `the disk of ${this.path} is full: appends go on by themselves when there is room`,
      );
    }
    if (appends.length === 0 && state.length === 0) return { baseOffsets: [], durable: Promise.resolve() };
    const headers = this.#checkAppends(appends);
    if (state.length > 0) this.#checkState(state);
    const sizeBytes = this.#checkSize(appends, state);
    const baseOffsets: number[][] = [];
    const batches: TailBatch[] = [];
    const entries: EntryAppend[] = [];
    let needsSync = state.length > 0;
    for (const [index, append] of appends.entries()) {
      const offsets: number[] = [];
      const targets: EntryTarget[] = [];
      let first: TailBatch | undefined;
      for (const log of append.logs) {
        const own = this.#own(log);
        const batch = own.assign(append.batch, headers[index] as BatchHeader, append.leaderEpoch, first);
        first ??= batch;
        batches.push(batch);
        offsets.push(batch.baseOffset);
        targets.push(targetOf(batch));
        if (own.config.flushPolicy === "fsync") needsSync = true;
      }
      baseOffsets.push(offsets);
      entries.push({ targets, batch: append.batch });
    }
    this.#core.state.apply(state);
    const entry = { kind: entryKind.append, appends: entries, state };
    const durable = this.#core.submitItem({ entry, sizeBytes, needsSync, batches }, options.lazy === true);
    return { baseOffsets, durable };
  }

  #checkAppends(appends: readonly Append[]): BatchHeader[] {
    return appends.map(({ batch, logs, leaderEpoch }) => {
      const header = readBatchHeader(batch, 0);
      invariant(header.sizeBytes === batch.length, "a commit takes exactly one batch per append");
      invariant(logs.length > 0, "an append names a log");
      for (const log of logs) this.#own(log).checkAppend(header, leaderEpoch);
      return header;
    });
  }

  #checkState(state: readonly StateChange[]): void {
    for (const { key } of state) {
      if (!key.startsWith(internalKeyPrefix)) continue;
      if (key.startsWith(removedProducerPrefix()) || key.startsWith(replacedProducerPrefix())) continue;
      throw new AppError("INVALID_REQUEST", "state keys that begin with NUL belong to the data directory");
    }
    this.#core.state.check(state, Math.floor(this.#core.fileBytes * stateShareMax));
  }

  #checkSize(appends: readonly Append[], state: readonly StateChange[]): number {
    const sizeBytes = appendEntryBytes(
      appends.map(({ batch, logs }) => ({ batch, targetCount: logs.length })),
      state,
    );
    const bytesMax = Math.floor(this.#core.fileBytes * entryShareMax);
    if (sizeBytes > bytesMax) {
      throw new AppError(
        "RECORD_TOO_LARGE",
        `a commit of ${sizeBytes} bytes; the journal of ${this.path} takes ${bytesMax}`,
      );
    }
    return sizeBytes;
  }

  #own(log: Log): PartitionLog {
    invariant(log instanceof PartitionLog && log.context === this.#core, "the log is of this directory");
    return log;
  }

  whenWritable(): Promise<void> | undefined {
    return this.#core.whenWritable();
  }

  flush(): Promise<void> {
    this.#core.checkUsable();
    return this.#core.flush();
  }

  getState(key: string): Uint8Array | undefined {
    return this.#core.state.get(key);
  }

  stateKeys(prefix: string): string[] {
    return this.#core.state.keys(prefix);
  }

  async applyRetention(): Promise<void> {
    this.#core.checkUsable();
    await this.#retention.apply();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const core = this.#core;
    core.diskGuard.stopWaiting();
    try {
      await this.#retention.close();
      if (core.diskGuard.failure === undefined) await this.#closeCleanly();
    } finally {
      await core.abandon();
      this.#lock?.release();
    }
  }

  async #closeCleanly(): Promise<void> {
    const core = this.#core;
    await core.flush();
    await core.exclusive(async () => {
      core.isClosed = true;
      await core.flush();
      await core.drainSegments();
      for (const log of core.logs) {
        const { activeSegment } = log;
        await core.segmentWriter.ensureOnDisk(log, activeSegment);
        activeSegment.seal();
        core.noteDirty(log, activeSegment);
        if (log.id.kind === "channel") continue;
        const bytes = encodeProducerSnapshot(log.producerStates.snapshot());
        const path = join(log.directory, segmentFileName(log.endOffset, ".snapshot"));
        await core.guard(() => replaceFile(core.disk, path, bytes));
      }
      await core.checkpoint(true);
      const mark = Buffer.from('{"version":0,"brokerEpoch":-1}');
      await core.guard(() => replaceFile(core.disk, join(this.path, "topics", cleanMarkName), mark));
    });
  }
}

function targetOf(batch: TailBatch): EntryTarget {
  const { logNumber, position, baseOffset, leaderEpoch } = batch;
  return { logNumber, segmentBase: batch.segment.baseOffset, position, baseOffset, leaderEpoch };
}
