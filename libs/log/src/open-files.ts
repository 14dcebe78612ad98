/**
 * Open files of a directory, shared by readers and writers, least recently used closed first.
 * A file in use is never closed; a file removed while in use stays readable for those who have it.
 */
import type { Disk, DiskFile } from "@millrace/runtime";
import { openFilesMax } from "./limits.ts";

interface OpenFile {
  readonly file: Promise<DiskFile>;
  users: number;
  isForgotten: boolean;
}

/** The cache; `path` is the key. */
export class OpenFiles {
  readonly #disk: Disk;
  readonly #filesMax: number;
  readonly #open = new Map<string, OpenFile>();

  constructor(disk: Disk, filesMax = openFilesMax) {
    this.#disk = disk;
    this.#filesMax = filesMax;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Runs `work` on the open file; `create` makes it when absent. */
  async use<T>(
    path: string,
    work: (file: DiskFile) => Promise<T>,
    mode: "write" | "create" = "write",
  ): Promise<T> {
    const entry = this.#take(path, mode);
    try {
      return await work(await entry.file);
    } finally {
      entry.users--;
      await this.#settle(path, entry);
    }
  }

  /** Closes the file (once nobody uses it): before its name goes or means another file. */
  async forget(path: string): Promise<void> {
    const entry = this.#open.get(path);
    if (entry === undefined) return;
    this.#open.delete(path);
    entry.isForgotten = true;
    await this.#settle(path, entry);
  }

  /** Forgets all files below a folder. */
  async forgetBelow(folder: string): Promise<void> {
    for (const path of [...this.#open.keys()]) if (path.startsWith(`${folder}/`)) await this.forget(path);
  }

  async closeAll(): Promise<void> {
    for (const path of [...this.#open.keys()]) await this.forget(path);
  }

  #take(path: string, mode: "write" | "create"): OpenFile {
    let entry = this.#open.get(path);
    if (entry === undefined) {
      const opened: OpenFile = { file: this.#disk.open(path, mode), users: 0, isForgotten: false };
      // A failed open is seen by its users through `await`; it must not stay in the cache.
      opened.file.catch(() => {
        if (this.#open.get(path) === opened) this.#open.delete(path);
      });
      entry = opened;
    } else {
      this.#open.delete(path);
    }
    this.#open.set(path, entry);
    entry.users++;
    return entry;
  }

  async #settle(path: string, entry: OpenFile): Promise<void> {
    if (entry.users > 0) return;
    if (entry.isForgotten) {
      await close(entry);
      return;
    }
    if (this.#open.size <= this.#filesMax || this.#open.get(path) === undefined) return;
    for (const [oldPath, old] of this.#open) {
      if (this.#open.size <= this.#filesMax) break;
      if (old.users > 0) continue;
      this.#open.delete(oldPath);
      old.isForgotten = true;
      await close(old);
    }
  }
}

async function close(entry: OpenFile): Promise<void> {
  let file: DiskFile;
  try {
    file = await entry.file;
  } catch {
    return; // never opened; its users have the error
  }
  await file.close();
}
