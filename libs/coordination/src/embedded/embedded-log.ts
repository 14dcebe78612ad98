/**
 * The embedded engine: a metadata log in local files, for one metadata process.
 *
 * Owns `<directory>/*.log`, `*.snapshot` and `durable`. An append is written behind the last entry, fsynced, and only
 * then acknowledged and shown to readers. A failed write is taken back; a failed fsync takes the log offline until the
 * process starts again, because what is on disk is then unknown (design §6). The caller holds the directory's lock.
 */
import { join } from "node:path";
import { AppError, invariant } from "@millrace/base";
import type { Disk, DiskFile } from "@millrace/runtime";
import { errorCode, randomId, readWholeFile, replaceFile } from "@millrace/runtime";
import { batchHash, encodeBatch } from "../batch-codec.ts";
import {
  type AppendOutcome,
  type LoggedBatch,
  type LogPosition,
  type LogSnapshot,
  logStart,
  type MetadataLog,
  type NewBatch,
} from "../types.ts";
import { encodeFrame, encodeHeader, frameBytes, headerBytes } from "./format.ts";
import { type CheckedFile, nextFile, recoverLog, walkEntries } from "./recover.ts";
import { decodeSnapshot, encodeSnapshot, snapshotFileName, snapshotSequenceOf } from "./snapshot-file.ts";

/** How the embedded log is opened. */
export interface EmbeddedLogOptions {
  readonly disk: Disk;
  /** Folder of its own; made when absent. */
  readonly directory: string;
  /** Size beyond which a log file is followed by the next one. */
  readonly fileBytesMax?: number;
}

/** Snapshots kept; the log is purged behind the older one. */
const snapshotsKept = 2;

const defaultFileBytesMax = 8 * 1024 * 1024;

/** Name of the file that remembers a position known to be durable. */
const durableMarkName = "durable";

/** Opens the log in `options.directory`, or makes a new one. */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<EmbeddedLog> {
  const { disk, directory } = options;
  await disk.makeDirectory(directory);
  await removeTemporaries(disk, directory);
  const durableThrough = Math.max(
    await readDurableMark(disk, directory),
    await lastSnapshot(disk, directory),
  );
  const recovered = await recoverLog(disk, directory, durableThrough);
  if (recovered === undefined && durableThrough > 0) {
    throw new AppError(
      "RECORD_LOST_ON_DISK",
      `${directory} has no log files, but batches through ${durableThrough} were durable: restore the metadata directory from a copy`,
    );
  }
  const logId = recovered?.logId ?? randomId();
  const files = recovered?.files ?? [await createFile(disk, directory, logId, logStart)];
  const last = files.at(-1) as CheckedFile;
  const file = await disk.open(join(directory, last.name), "write");
  return new EmbeddedLog(options, logId, files, file, recovered?.tornBytes ?? 0);
}

/** See the module's comment. */
export class EmbeddedLog implements MetadataLog {
  readonly logId: string;
  /** Bytes of a torn append that opening cut. */
  readonly tornBytes: number;
  readonly #options: EmbeddedLogOptions;
  readonly #files: CheckedFile[];
  readonly #followers = new Set<() => void>();
  #file: DiskFile;
  #head: LogPosition;
  #isAppending = false;
  #failure: AppError | undefined;
  #isClosed = false;

  constructor(
    options: EmbeddedLogOptions,
    logId: string,
    files: CheckedFile[],
    file: DiskFile,
    tornBytes: number,
  ) {
    this.#options = options;
    this.logId = logId;
    this.#files = files;
    this.#file = file;
    this.tornBytes = tornBytes;
    this.#head = this.#last.end;
  }

  get head(): LogPosition {
    return this.#head;
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  get #last(): CheckedFile {
    return this.#files.at(-1) as CheckedFile;
  }

  async append(expectedSequence: number, batch: NewBatch): Promise<AppendOutcome> {
    if (this.#failure !== undefined) throw this.#failure;
    invariant(!this.#isClosed, "a closed log is not appended to");
    invariant(!this.#isAppending, "one append is in flight (design §4)");
    if (expectedSequence !== this.#head.sequence) return { kind: "conflict", head: this.#head };
    const payload = encodeBatch(this.logId, this.#head, batch);
    this.#isAppending = true;
    try {
      await this.#write(this.#head.sequence + 1, payload);
    } finally {
      this.#isAppending = false;
    }
    this.#head = { sequence: this.#head.sequence + 1, hash: batchHash(payload) };
    this.#last.end = this.#head;
    for (const wake of this.#followers) wake();
    return { kind: "appended", position: this.#head };
  }

  async *read(fromSequence: number): AsyncIterable<LoggedBatch> {
    const upTo = this.#head.sequence;
    if (fromSequence > upTo) return;
    const first = (this.#files[0] as CheckedFile).header.firstSequence;
    if (fromSequence < first) {
      throw new AppError(
        "INVALID_REQUEST",
        `the metadata log starts at batch ${first}; ${fromSequence} was purged behind a snapshot`,
      );
    }
    for (const file of [...this.#files]) {
      if (file.end.sequence < fromSequence || file.header.firstSequence > upTo) continue;
      yield* await this.#batchesOf(file, fromSequence, upTo);
    }
  }

  async *watch(fromSequence: number, signal: AbortSignal): AsyncIterable<LoggedBatch> {
    let next = fromSequence;
    for (;;) {
      for await (const batch of this.read(next)) {
        if (signal.aborted) return;
        yield batch;
        next = batch.position.sequence + 1;
      }
      if (signal.aborted) return;
      if (this.#head.sequence < next) await this.#changed(signal);
    }
  }

  async saveSnapshot(snapshot: LogSnapshot): Promise<void> {
    const { disk, directory } = this.#options;
    const { sequence } = snapshot.position;
    invariant(sequence <= this.#head.sequence, "a snapshot is of batches in the log");
    const bytes = encodeSnapshot(this.logId, snapshot);
    await replaceFile(disk, join(directory, snapshotFileName(sequence)), bytes);
    await this.#purge();
  }

  async loadSnapshot(): Promise<LogSnapshot | undefined> {
    const { disk, directory } = this.#options;
    const first = (this.#files[0] as CheckedFile).header.firstSequence;
    for (const sequence of (await this.#snapshotSequences()).reverse()) {
      const path = join(directory, snapshotFileName(sequence));
      const bytes = await readWholeFile(disk, path);
      const snapshot = bytes === undefined ? undefined : decodeSnapshot(this.logId, path, bytes);
      if (snapshot !== undefined && sequence + 1 >= first) return snapshot;
    }
    if (first > 1) {
      throw new AppError(
        "RECORD_LOST_ON_DISK",
        `no snapshot in ${directory} is intact and the metadata log starts only at batch ${first}: restore the metadata directory from a copy`,
      );
    }
    return undefined;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const wake of this.#followers) wake();
    await this.#file.close();
    if (this.#failure !== undefined) return;
    const { disk, directory } = this.#options;
    await replaceFile(
      disk,
      join(directory, durableMarkName),
      Buffer.from(`${JSON.stringify(durableMark(this.#head))}\n`),
    );
  }

  /** Appends an entry durably, rolling to the next file first when the present one is full. */
  async #write(sequence: number, payload: Uint8Array): Promise<void> {
    const { disk, directory, fileBytesMax = defaultFileBytesMax } = this.#options;
    const entryBytes = frameBytes + payload.byteLength;
    if (this.#last.sizeBytes > headerBytes && this.#last.sizeBytes + entryBytes > fileBytesMax) {
      const created = await this.#orTakeBack(() => createFile(disk, directory, this.logId, this.#head));
      const opened = await disk.open(join(directory, created.name), "write");
      await this.#file.close();
      this.#file = opened;
      this.#files.push(created);
    }
    await this.#orTakeBack(() =>
      this.#file.write([encodeFrame(sequence, payload), payload], this.#last.sizeBytes),
    );
    try {
      await this.#file.dataSync();
    } catch (error) {
      throw this.#goOffline("cannot be made durable", error);
    }
    this.#last.sizeBytes += entryBytes;
  }

  /** Runs a write; when it fails, the file is cut back to its last entry, so that the next append finds it as it was. */
  async #orTakeBack<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write();
    } catch (error) {
      try {
        await this.#file.truncate(this.#last.sizeBytes);
        await this.#file.dataSync();
      } catch (second) {
        throw this.#goOffline("cannot be cut back after a failed write", second);
      }
      if (errorCode(error) !== "ENOSPC" && errorCode(error) !== "EDQUOT") {
        throw this.#goOffline("cannot be written", error);
      }
      throw new AppError(
        "DISK_FULL",
        `the disk of ${this.#options.directory} is full: changes of metadata wait until there is room`,
        { cause: error },
      );
    }
  }

  #goOffline(what: string, cause: unknown): AppError {
    this.#failure = new AppError(
      "STORAGE_FAILED",
      `the metadata log in ${this.#options.directory} ${what} (${errorCode(cause) ?? String(cause)}): it takes no changes until the process starts again`,
      { cause },
    );
    return this.#failure;
  }

  async #batchesOf(file: CheckedFile, fromSequence: number, upTo: number): Promise<LoggedBatch[]> {
    const { disk, directory } = this.#options;
    const bytes = await readWholeFile(disk, join(directory, file.name));
    if (bytes === undefined) return [];
    const batches: LoggedBatch[] = [];
    walkEntries(bytes, file.header, (batch) => {
      const { sequence } = batch.position;
      if (sequence >= fromSequence && sequence <= upTo) batches.push(batch);
    });
    return batches;
  }

  /** Resolves at the next append, at close, or when `signal` aborts. */
  #changed(signal: AbortSignal): Promise<void> {
    if (this.#isClosed) throw new AppError("CANCELLED", "the metadata log was closed");
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#followers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#followers.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  /** Removes snapshots beyond the kept ones and log files wholly behind the older kept one. */
  async #purge(): Promise<void> {
    const { disk, directory } = this.#options;
    const sequences = await this.#snapshotSequences();
    const kept = sequences.slice(-snapshotsKept);
    for (const sequence of sequences.slice(0, -snapshotsKept)) {
      await disk.removeFile(join(directory, snapshotFileName(sequence)));
    }
    const [older] = kept;
    if (older === undefined || kept.length < snapshotsKept) return;
    while (this.#files.length > 1 && (this.#files[0] as CheckedFile).end.sequence <= older) {
      const [file] = this.#files.splice(0, 1) as [CheckedFile];
      await disk.removeFile(join(directory, file.name));
      // One after the other: a power cut must not leave a gap in the middle.
      await disk.syncDirectory(directory);
    }
  }

  async #snapshotSequences(): Promise<number[]> {
    const names = await this.#options.disk.list(this.#options.directory);
    return names.map(snapshotSequenceOf).filter((sequence) => sequence !== undefined);
  }
}

async function createFile(
  disk: Disk,
  directory: string,
  logId: string,
  end: LogPosition,
): Promise<CheckedFile> {
  const { name, header } = nextFile(logId, end);
  await replaceFile(disk, join(directory, name), encodeHeader(header));
  return { name, header, sizeBytes: headerBytes, end };
}

async function lastSnapshot(disk: Disk, directory: string): Promise<number> {
  const sequences = (await disk.list(directory)).map(snapshotSequenceOf);
  return Math.max(0, ...sequences.filter((sequence) => sequence !== undefined));
}

function durableMark(head: LogPosition): { formatVersion: 1; sequence: number; hash: string } {
  return { formatVersion: 1, ...head };
}

/** The sequence that the last clean close noted; 0 when there is none. */
async function readDurableMark(disk: Disk, directory: string): Promise<number> {
  const path = join(directory, durableMarkName);
  const bytes = await readWholeFile(disk, path);
  if (bytes === undefined) return 0;
  try {
    const mark = JSON.parse(Buffer.from(bytes).toString("utf8")) as Partial<ReturnType<typeof durableMark>>;
    if (mark.formatVersion === 1 && Number.isSafeInteger(mark.sequence)) return mark.sequence as number;
  } catch {
    // Falls through: the file is replaced atomically, so anything else is damage.
  }
  throw new AppError("RECORD_LOST_ON_DISK", `${path} is damaged: restore the metadata directory from a copy`);
}

/** Left-overs of atomic replacements that a crash interrupted. */
async function removeTemporaries(disk: Disk, directory: string): Promise<void> {
  for (const name of await disk.list(directory)) {
    if (name.endsWith(".tmp")) await disk.removeFile(join(directory, name));
  }
}
