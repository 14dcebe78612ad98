/**
 * The disk as the log and the channels see it: an interface, so that a simulated disk that loses unsynced
 * writes, tears sectors and fails fsyncs can stand in its place (design §9).
 *
 * Durability contract, the POSIX one and no more: bytes written are durable after `dataSync`; a created, renamed,
 * linked or removed name is durable after `syncDirectory` of its folder. A failed `dataSync` is never retried by
 * callers: the directory goes offline (design §6).
 */
import { constants } from "node:fs";
import * as fs from "node:fs/promises";
import { dirname } from "node:path";

/** What `stat` tells about a name. */
export interface FileStat {
  readonly kind: "file" | "directory" | "symlink" | "other";
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  readonly device: number;
  readonly inode: number;
}

/** How a file is opened: existing for read, existing for read and write, created if absent, created and must be absent. */
export type OpenMode = "read" | "write" | "create" | "createNew";

/** An open file. Positions and lengths in bytes. */
export interface DiskFile {
  readonly path: string;
  /** Reads up to `length` bytes into `target` at `targetOffset`; returns how many there were (0 = end of file). */
  read(target: Uint8Array, targetOffset: number, length: number, position: number): Promise<number>;
  /** Writes all chunks one after another from `position` on; short writes are completed or thrown. */
  write(chunks: readonly Uint8Array[], position: number): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /** fdatasync: data and size durable. */
  dataSync(): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** The operations of a disk. Every failure is the system error (`code` ENOENT, ENOSPC, EIO, ...). */
export interface Disk {
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  /** undefined when the name does not exist. Does not follow a symlink. */
  stat(path: string): Promise<FileStat | undefined>;
  /** Names in a folder, sorted; empty when the folder does not exist. */
  list(path: string): Promise<string[]>;
  /** Creates the folder and its parents, mode 0700; syncs the parent of each folder it made. */
  makeDirectory(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Hard link; fails with EEXIST when `to` exists: the exclusive claim of rule C2. */
  link(from: string, to: string): Promise<void>;
  /** Removes a file; no error when it is absent. */
  removeFile(path: string): Promise<void>;
  /** Removes a folder and all below it; no error when it is absent. */
  removeTree(path: string): Promise<void>;
  /** fsync of a folder: the names in it are durable. */
  syncDirectory(path: string): Promise<void>;
  /** Free bytes for this user on the file system that holds `path`. */
  freeBytes(path: string): Promise<number>;
}

const flags: Record<OpenMode, number> = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT,
  createNew: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
};

/** Linux refuses more than 1024 chunks in one writev. */
const writevChunksMax = 1024;

class RealFile implements DiskFile {
  readonly path: string;
  readonly #handle: fs.FileHandle;

  constructor(path: string, handle: fs.FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  async read(target: Uint8Array, targetOffset: number, length: number, position: number): Promise<number> {
    return (await this.#handle.read(target, targetOffset, length, position)).bytesRead;
  }

  async write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    let at = position;
    for (let first = 0; first < chunks.length; first += writevChunksMax) {
      at = await this.#writeGroup(chunks.slice(first, first + writevChunksMax), at);
    }
  }

  async #writeGroup(chunks: readonly Uint8Array[], position: number): Promise<number> {
    let pending = chunks.filter((chunk) => chunk.byteLength > 0);
    let at = position;
    while (pending.length > 0) {
      const single = pending.length === 1 ? (pending[0] as Uint8Array) : undefined;
      const { bytesWritten } =
        single === undefined
          ? await this.#handle.writev(pending, at)
          : await this.#handle.write(single, 0, single.byteLength, at);
      if (bytesWritten === 0)
        throw Object.assign(new Error(`write of 0 bytes to ${this.path}`), { code: "EIO" });
      at += bytesWritten;
      pending = dropBytes(pending, bytesWritten);
    }
    return at;
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#handle.truncate(sizeBytes);
  }

  dataSync(): Promise<void> {
    return this.#handle.datasync();
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** `chunks` without their first `count` bytes. */
function dropBytes(chunks: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count;
  let index = 0;
  while (index < chunks.length && left >= (chunks[index] as Uint8Array).byteLength) {
    left -= (chunks[index] as Uint8Array).byteLength;
    index++;
  }
  const rest = chunks.slice(index);
  if (left > 0) rest[0] = (rest[0] as Uint8Array).subarray(left);
  return rest;
}

async function unlessAbsent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** The system error code (`ENOENT`, `EEXIST`, ...) of anything thrown, or undefined. */
export function errorCode(thrown: unknown): string | undefined {
  if (typeof thrown !== "object" || thrown === null || !("code" in thrown)) return undefined;
  return typeof thrown.code === "string" ? thrown.code : undefined;
}

class RealDisk implements Disk {
  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    return new RealFile(path, await fs.open(path, flags[mode], 0o600));
  }

  async stat(path: string): Promise<FileStat | undefined> {
    const found = await unlessAbsent(fs.lstat(path));
    if (found === undefined) return undefined;
    const kind = found.isFile()
      ? "file"
      : found.isDirectory()
        ? "directory"
        : found.isSymbolicLink()
          ? "symlink"
          : "other";
    return { kind, sizeBytes: found.size, modifiedMs: found.mtimeMs, device: found.dev, inode: found.ino };
  }

  async list(path: string): Promise<string[]> {
    return ((await unlessAbsent(fs.readdir(path))) ?? []).sort();
  }

  async makeDirectory(path: string): Promise<void> {
    const existing = await unlessAbsent(fs.stat(path));
    if (existing?.isDirectory()) return;
    const parent = dirname(path);
    if (parent !== path) await this.makeDirectory(parent);
    try {
      await fs.mkdir(path, { mode: 0o700 });
    } catch (error) {
      if (errorCode(error) !== "EEXIST" || !(await fs.stat(path)).isDirectory()) throw error;
    }
    await this.syncDirectory(parent);
  }

  rename(from: string, to: string): Promise<void> {
    return fs.rename(from, to);
  }

  link(from: string, to: string): Promise<void> {
    return fs.link(from, to);
  }

  async removeFile(path: string): Promise<void> {
    await unlessAbsent(fs.unlink(path));
  }

  removeTree(path: string): Promise<void> {
    return fs.rm(path, { recursive: true, force: true });
  }

  async syncDirectory(path: string): Promise<void> {
    const handle = await fs.open(path, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async freeBytes(path: string): Promise<number> {
    const found = await fs.statfs(path);
    return found.bavail * found.bsize;
  }
}

/** The machine's own disk. */
export const realDisk: Disk = new RealDisk();
