/**
 * The commit log of one owner and origin in an output directory: rules C2 to C5.
 *
 *   open:    entry with our epoch, exclusively created = fence  ->  listing again  ->  finish earlier renames
 *            ->  delete temporaries of earlier openings
 *   commit:  data folder fsynced  ->  entry  ->  its folder  ->  listing again  ->  rename  ->  old entries go
 *
 * Invariants: the entry with the highest number decides; it is never deleted. An entry below the floor named in it
 * says nothing. Who finds a higher entry stops before any rename. A temporary is renamed at most once, by whoever
 * comes first, because rename(2) needs it to be there. Files that a user deletes or moves away stay gone.
 */
import { join } from "node:path";
import { AppError, invariant } from "@millrace/base";
import type { Origin } from "@millrace/flow";
import { createFileExclusively, type Disk, errorCode, randomId, readWholeFile } from "@millrace/runtime";
import {
  type CommitEntry,
  decodeEntry,
  encodeEntry,
  entryFileName,
  entryNumber,
  type ListedFile,
  type ResumePosition,
} from "./entry.ts";
import {
  alternativeName,
  bookkeepingFolder,
  logFolderName,
  parseTemporaryName,
  temporaryName,
} from "./naming.ts";
import { claimStem } from "./stem.ts";

export type { CommitEntry, ListedFile, ResumePosition, Totals } from "./entry.ts";

/**
 * Finished entries kept below the floor. One would do; a few more make sure that a listing which races with a
 * writer that creates and deletes cannot miss all of them.
 */
const finishedEntriesKept = 4;

/** Openings that may lose the race for a number before this one gives up. */
const fenceAttemptsMax = 100;

/** Names tried for a file whose own name is taken by something that is not ours. */
const alternativesMax = 1000;

/** What {@link CommitLog.open} needs to know. */
export interface CommitLogOptions {
  readonly disk: Disk;
  /** Output directory, absolute. */
  readonly directory: string;
  readonly origin: Origin;
  readonly ownerId: string;
  /** Task epoch or number of the agent's start (C1). */
  readonly epoch: number;
  readonly generation: number;
  /** Start of the data files' names before claims. */
  readonly stemLabel: string;
  /** Where a log without entries starts. */
  readonly startOffset: number;
}

/** What a commit publishes: the files and where to resume after them. */
export interface Commit {
  readonly files: readonly ListedFile[];
  readonly resume: ResumePosition;
  /** Records refused for good since the last commit. */
  readonly refused: number;
}

/** An opened, fenced commit log. Used by one caller at a time. */
export class CommitLog {
  readonly #options: CommitLogOptions;
  readonly #folder: string;
  readonly #nonce = randomId();
  #last: CommitEntry | undefined;
  #isNew = true;
  #temporaries = 0;
  /** A rename may not be durable yet: the floor may pass it only after the fsync of both folders. */
  #hasRenames = false;

  private constructor(options: CommitLogOptions) {
    this.#options = options;
    this.#folder = join(options.directory, bookkeepingFolder, logFolderName(options.origin, options.ownerId));
  }

  /** Fences earlier writers, finishes what they committed, and stands where they stood. Throws STALE_TASK. */
  static async open(options: CommitLogOptions): Promise<CommitLog> {
    const log = new CommitLog(options);
    await options.disk.makeDirectory(log.#entriesFolder);
    await options.disk.makeDirectory(log.temporaryFolder);
    await log.#fence();
    await log.#finishEarlier();
    return log;
  }

  /** True when no earlier opening left an entry: the destination does not know where it stands. */
  get isNew(): boolean {
    return this.#isNew;
  }

  /** The last entry: what is committed. */
  get last(): CommitEntry {
    invariant(this.#last !== undefined, "an open commit log has an entry");
    return this.#last;
  }

  /** Folder of the data files until they are renamed. */
  get temporaryFolder(): string {
    return join(this.#folder, "tmp");
  }

  get #entriesFolder(): string {
    return join(this.#folder, "entries");
  }

  /** A new name for a data file, below {@link temporaryFolder}. */
  newTemporaryName(): string {
    return temporaryName(this.#options.epoch, this.#nonce, this.#temporaries++);
  }

  /**
   * Publishes (C3). The files' data is durable already; their names become so here. Throws STALE_TASK when a higher
   * epoch has fenced this one: nothing was renamed then. After any other throw the outcome is unknown: open again.
   */
  async commit(commit: Commit): Promise<void> {
    const { disk, directory } = this.#options;
    if (this.#hasRenames) await disk.syncDirectory(directory);
    await disk.syncDirectory(this.temporaryFolder);
    this.#hasRenames = false;
    const { number: lastNumber, totals } = this.last;
    const entry: CommitEntry = {
      ...this.last,
      number: lastNumber + 1,
      resume: commit.resume,
      files: commit.files,
      buckets: {},
      // Everything before is finished: this log commits one entry after the other.
      floor: lastNumber + 1,
      totals: {
        files: totals.files + commit.files.length,
        records: totals.records + commit.files.reduce((sum, file) => sum + file.count, 0),
        bytes: totals.bytes + commit.files.reduce((sum, file) => sum + file.bytes, 0),
        refused: totals.refused + commit.refused,
      },
    };
    const isOurs = await this.#create(entry);
    if (!isOurs || (await this.#highestNumber()) !== entry.number) throw await this.#superseded();
    this.#last = entry;
    for (const file of commit.files) await this.#publish(file);
    this.#hasRenames = commit.files.length > 0;
    await this.#dropEntriesBelow(entry.floor);
  }

  /** Creates the entry with our epoch that stops every earlier writer (C1, C4). */
  async #fence(): Promise<void> {
    for (let attempt = 0; attempt < fenceAttemptsMax; attempt++) {
      const previous = await this.#readHighest();
      // The same epoch with another nonce is an earlier opening of this very task: the later one wins.
      if (previous !== undefined && previous.epoch > this.#options.epoch) {
        throw this.#stale(`entry ${previous.number} has epoch ${previous.epoch}`);
      }
      const entry = await this.#openingEntry(previous);
      // Refused: somebody was faster. Read again: a lower epoch there means the next number, a higher one stops.
      if (!(await this.#create(entry))) continue;
      // A lower writer may have gone on meanwhile: only the highest entry fences.
      if ((await this.#highestNumber()) !== entry.number) continue;
      this.#isNew = previous === undefined;
      this.#last = entry;
      return;
    }
    throw new AppError("UNAVAILABLE", `${this.#folder}: other writers kept taking the next entry`, {
      metadata: { path: this.#folder },
    });
  }

  async #openingEntry(previous: CommitEntry | undefined): Promise<CommitEntry> {
    const { disk, directory, origin, ownerId, epoch, generation, stemLabel, startOffset } = this.#options;
    const number = (previous?.number ?? 0) + 1;
    const stem =
      previous?.stem.label === stemLabel
        ? previous.stem
        : { label: stemLabel, name: await claimStem(disk, directory, stemLabel, this.#folder) };
    return {
      number,
      origin,
      ownerId,
      epoch,
      nonce: this.#nonce,
      generation,
      begun: previous?.begun ?? startOffset,
      resume: previous?.resume ?? { offset: startOffset, leaderEpoch: -1 },
      files: [],
      buckets: {},
      floor: previous?.floor ?? number,
      stem,
      totals: previous?.totals ?? { files: 0, records: 0, bytes: 0, refused: 0 },
    };
  }

  /** Renames what earlier entries list and deletes what none lists (C4). */
  async #finishEarlier(): Promise<void> {
    const { disk, directory, epoch } = this.#options;
    const entry = this.last;
    for (const number of await this.#numbers()) {
      if (number < entry.floor || number >= entry.number) continue;
      const earlier = await this.#read(number);
      for (const file of earlier?.files ?? []) await this.#publish(file);
    }
    // Only those of openings before this one: a later one's temporaries are listed in no entry yet.
    for (const name of await disk.list(this.temporaryFolder)) {
      const writer = parseTemporaryName(name);
      if (writer !== undefined && writer.epoch <= epoch && writer.nonce !== this.#nonce) {
        await disk.removeFile(join(this.temporaryFolder, name));
      }
    }
    for (const name of await disk.list(this.#entriesFolder)) {
      // Left by a writer that died while creating an entry; a later opening works at higher numbers.
      const isOld = name.endsWith(".tmp") && name <= entryFileName(entry.number + 1);
      if (isOld) await disk.removeFile(join(this.#entriesFolder, name));
    }
    await disk.syncDirectory(directory);
  }

  /** True when entry `number` is ours: created now, or by an attempt of ours whose answer was lost (C4). */
  async #create(entry: CommitEntry): Promise<boolean> {
    const path = join(this.#entriesFolder, entryFileName(entry.number));
    try {
      if (await createFileExclusively(this.#options.disk, path, encodeEntry(entry))) return true;
    } catch (error) {
      // A later opening tidied our unfinished entry away.
      if (errorCode(error) !== "ENOENT") throw error;
    }
    return (await this.#read(entry.number))?.nonce === this.#nonce;
  }

  /**
   * Gives a listed file its final name, unless it has it already (or had it: a user may have moved it on). Never
   * replaces a file: names are claimed per origin, and a foreign file of that name makes ours take another one.
   */
  async #publish(file: ListedFile): Promise<void> {
    const { disk, directory } = this.#options;
    const from = join(this.temporaryFolder, file.temporary);
    const found = await disk.stat(from);
    if (found === undefined) return;
    if (found.sizeBytes !== file.bytes) {
      throw new AppError(
        "STORAGE_FAILED",
        `${from} has ${found.sizeBytes} bytes and was committed with ${file.bytes}: the disk lost fsynced data`,
        { metadata: { path: from } },
      );
    }
    for (let copy = 0; copy < alternativesMax; copy++) {
      const to = join(directory, copy === 0 ? file.name : alternativeName(file.name, copy));
      const present = await disk.stat(to);
      if (present === undefined) {
        await this.#rename(from, to);
        return;
      }
      if (present.device === found.device && present.inode === found.inode) {
        // A power cut kept the new name and brought the old one back.
        await disk.removeFile(from);
        return;
      }
    }
    throw new AppError(
      "STORAGE_FAILED",
      `${directory} holds ${alternativesMax} files named like ${file.name}`,
      {
        metadata: { path: directory },
      },
    );
  }

  async #rename(from: string, to: string): Promise<void> {
    try {
      await this.#options.disk.rename(from, to);
    } catch (error) {
      // A successor was faster: it renamed the file, for us or for itself.
      if (errorCode(error) !== "ENOENT") throw error;
    }
  }

  async #dropEntriesBelow(floor: number): Promise<void> {
    for (const number of await this.#numbers()) {
      if (number >= floor - finishedEntriesKept) return;
      await this.#options.disk.removeFile(join(this.#entriesFolder, entryFileName(number)));
    }
  }

  #numbers(): Promise<number[]> {
    return listEntries(this.#options.disk, this.#entriesFolder);
  }

  async #highestNumber(): Promise<number> {
    return (await this.#numbers()).at(-1) ?? 0;
  }

  #readHighest(): Promise<CommitEntry | undefined> {
    return readHighestEntry(this.#options.disk, this.#entriesFolder);
  }

  #read(number: number): Promise<CommitEntry | undefined> {
    return readEntry(this.#options.disk, this.#entriesFolder, number);
  }

  /** Why a commit was refused: fenced, or (which the rules exclude) an entry of a lower epoch above ours. */
  async #superseded(): Promise<AppError> {
    const highest = await this.#readHighest();
    if (highest === undefined || highest.epoch < this.#options.epoch) {
      return new AppError("STORAGE_FAILED", `${this.#folder}: the highest entry is not ours and not newer`, {
        metadata: { path: this.#folder },
      });
    }
    return this.#stale(`entry ${highest.number} has epoch ${highest.epoch}`);
  }

  #stale(detail: string): AppError {
    const { epoch } = this.#options;
    return new AppError("STALE_TASK", `${this.#folder}: epoch ${epoch} was fenced, ${detail}`, {
      metadata: { path: this.#folder, epoch: String(epoch) },
    });
  }
}

/** Numbers of the entries in a folder, ascending. */
async function listEntries(disk: Disk, folder: string): Promise<number[]> {
  const names = await disk.list(folder);
  return names.map(entryNumber).filter((number) => number !== undefined);
}

/** An entry by its number; undefined when it is not there (any more). */
async function readEntry(disk: Disk, folder: string, number: number): Promise<CommitEntry | undefined> {
  const path = join(folder, entryFileName(number));
  const bytes = await readWholeFile(disk, path);
  return bytes === undefined ? undefined : decodeEntry(bytes, path);
}

/** The entry that decides; undefined when the log has none. */
async function readHighestEntry(disk: Disk, folder: string): Promise<CommitEntry | undefined> {
  for (;;) {
    const number = (await listEntries(disk, folder)).at(-1);
    if (number === undefined) return undefined;
    const entry = await readEntry(disk, folder, number);
    // Gone between the listing and the read: a writer has gone on, so there is a higher one.
    if (entry !== undefined) return entry;
  }
}

/**
 * Where every origin stands in an output directory, by its own books: the highest entry of each commit log. Reads
 * only; a writer may be at work. For `up`'s totals (S1) and for checkers.
 */
export async function readCommitLog(disk: Disk, directory: string): Promise<CommitEntry[]> {
  const root = join(directory, bookkeepingFolder);
  const found: CommitEntry[] = [];
  for (const name of await disk.list(root)) {
    const folder = join(root, name, "entries");
    if ((await disk.stat(folder))?.kind !== "directory") continue;
    const entry = await readHighestEntry(disk, folder);
    if (entry !== undefined) found.push(entry);
  }
  return found;
}
