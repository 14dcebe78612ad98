/**
 * The files of the journal: `<number>.journal`, the one being written, older ones still needed, and spare ones.
 *
 * The number is the generation in header and entries. A file no longer needed is renamed to the next free number and
 * waits there with its old content; its old generation tells recovery that it was not begun. Every rename is made durable before
 * the next, so that the numbers on disk never have a gap. At most `journalFilesMax` files: when none is free the
 * writer waits for the checkpoint.
 */
import { join } from "node:path";
import { invariant } from "@millrace/base";
import type { Disk, DiskFile } from "@millrace/runtime";
import { syncOnce } from "./disk-guard.ts";
import { journalFilesMax } from "./limits.ts";

const suffix = ".journal";

/** Path of a journal file. */
export function journalFilePath(journalPath: string, generation: number): string {
  return join(journalPath, `${String(generation).padStart(20, "0")}${suffix}`);
}

/** Generations of the journal files in a folder, ascending. */
export async function listJournalFiles(disk: Disk, journalPath: string): Promise<number[]> {
  const names = await disk.list(journalPath);
  return names
    .filter((name) => /^\d{20}\.journal$/.test(name))
    .map((name) => Number(name.slice(0, -suffix.length)))
    .sort((a, b) => a - b);
}

/** A file to write the next generation into. `allocatedBytes` of it are allocated on disk. */
export interface NextFile {
  readonly generation: number;
  readonly file: DiskFile;
  readonly allocatedBytes: number;
  readonly isReused: boolean;
}

/** Owns the names in `journal/`; contents are the writer's. */
export class JournalFiles {
  readonly #disk: Disk;
  readonly #path: string;
  /** Generations in use, oldest first; the last one is being written. */
  #used: number[];
  /** Spare files, numbered upwards from the last one in use. */
  #spare: number[];
  #isRenaming = false;
  #failure: Error | undefined;
  #onFree: (() => void) | undefined;

  constructor(disk: Disk, journalPath: string, used: readonly number[], spare: readonly number[]) {
    this.#disk = disk;
    this.#path = journalPath;
    this.#used = [...used];
    this.#spare = [...spare];
  }

  /** Number of files in use and spare. */
  get count(): number {
    return this.#used.length + this.#spare.length;
  }

  /** Opens the file for the next generation, waiting until there may be one. Its name is durable on return. */
  async next(): Promise<NextFile> {
    while (this.#isRenaming || (this.#spare.length === 0 && this.count >= journalFilesMax)) {
      await new Promise<void>((resolve) => {
        this.#onFree = resolve;
      });
      if (this.#failure !== undefined) throw this.#failure;
    }
    const reused = this.#spare.shift();
    const generation = reused ?? (this.#used.at(-1) ?? 0) + 1;
    this.#used.push(generation);
    try {
      const file = await this.#disk.open(journalFilePath(this.#path, generation), "create");
      if (reused === undefined) await syncOnce(() => this.#disk.syncDirectory(this.#path));
      return { generation, file, allocatedBytes: await file.size(), isReused: reused !== undefined };
    } catch (error) {
      // A full disk: the caller comes again.
      this.#used.pop();
      if (reused !== undefined) this.#spare.unshift(reused);
      throw error;
    }
  }

  /** The directory is offline: whoever waits for a file learns it. */
  fail(error: Error): void {
    this.#failure = error;
    this.#onFree?.();
  }

  /** Files up to `generation` are not needed any more: each becomes a spare. Never the one being written. */
  async recycleThrough(generation: number, onRecycled: (generation: number) => void): Promise<void> {
    while (this.#used.length > 1 && (this.#used[0] as number) <= generation) {
      const old = this.#used[0] as number;
      const number = Math.max(this.#used.at(-1) as number, this.#spare.at(-1) ?? 0) + 1;
      invariant(number > old, "spare files are numbered upwards");
      this.#isRenaming = true;
      await this.#disk.rename(journalFilePath(this.#path, old), journalFilePath(this.#path, number));
      await syncOnce(() => this.#disk.syncDirectory(this.#path));
      this.#used.shift();
      this.#spare.push(number);
      this.#isRenaming = false;
      onRecycled(old);
      this.#onFree?.();
      this.#onFree = undefined;
    }
  }
}
