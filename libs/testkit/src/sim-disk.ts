/**
 * A disk in memory that keeps exactly what POSIX promises and no more: bytes are durable after `dataSync`, names
 * after `syncDirectory`. A crash keeps any subset of the rest, writes torn at sectors, chosen by a seed.
 *
 * Every operation that changes something is counted; tests take a crash image after each of them, or make one fail.
 */
import { dirname } from "node:path";
import { Prng } from "@millrace/base";
import type { Disk, DiskFile, FileStat, OpenMode } from "@millrace/runtime";
import {
  makeDurable,
  type NameChange,
  SimFolder,
  SimInode,
  type SimNode,
  type Survival,
} from "./sim-files.ts";

/** An operation that changes the disk. */
export interface SimOperation {
  /** Counts from 1 over the disk's life. */
  readonly number: number;
  readonly kind:
    | "open"
    | "write"
    | "truncate"
    | "dataSync"
    | "rename"
    | "link"
    | "removeFile"
    | "removeTree"
    | "syncDirectory"
    | "makeDirectory";
  readonly path: string;
}

/** Options of a simulated disk. */
export interface SimDiskOptions {
  /** Bytes of all files beyond which writes fail with ENOSPC. */
  readonly capacityBytes?: number;
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

const deviceNumber = 1;

/** The simulated disk. */
export class SimDisk implements Disk {
  /** Called before an operation; a returned code (EIO, ENOSPC, ...) is thrown instead of doing it. */
  inject: ((operation: SimOperation) => string | undefined) | undefined;
  /** How long an operation takes before it has its effect; at once by default. */
  delay: ((operation: SimOperation) => Promise<void> | undefined) | undefined;
  /** Called right before an operation has its effect: what has been told to anybody by now must survive a crash. */
  onOperation: ((operation: SimOperation) => void) | undefined;
  capacityBytes: number;
  #root = new SimFolder();
  #nameChanges: NameChange[] = [];
  #operations = 0;
  #nextInode = 1;

  constructor(options: SimDiskOptions = {}) {
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Changing operations so far. */
  get operations(): number {
    return this.#operations;
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const existing = this.#find(path);
    if (existing instanceof SimFolder) throw systemError("EISDIR", path);
    if (existing !== undefined && mode === "createNew") throw systemError("EEXIST", path);
    if (existing !== undefined) return this.#file(path, existing);
    if (mode === "read" || mode === "write") throw systemError("ENOENT", path);
    return this.#change("open", path, () => {
      const made = this.#find(path);
      if (made instanceof SimInode) return this.#file(path, made);
      const inode = new SimInode(this.#nextInode++);
      this.#rename([{ path, node: inode }]);
      return this.#file(path, inode);
    });
  }

  async stat(path: string): Promise<FileStat | undefined> {
    const node = this.#find(path);
    if (node === undefined) return undefined;
    const isFile = node instanceof SimInode;
    return {
      kind: isFile ? "file" : "directory",
      sizeBytes: isFile ? node.sizeBytes : 0,
      modifiedMs: isFile ? node.modifiedMs : 0,
      device: deviceNumber,
      inode: isFile ? node.id : 0,
    };
  }

  async list(path: string): Promise<string[]> {
    const node = this.#find(path);
    return node instanceof SimFolder ? [...node.names.keys()].sort() : [];
  }

  async makeDirectory(path: string): Promise<void> {
    const existing = this.#find(path);
    if (existing instanceof SimFolder) return;
    if (existing !== undefined) throw systemError("EEXIST", path);
    if (dirname(path) !== path) await this.makeDirectory(dirname(path));
    await this.#change("makeDirectory", path, () => {
      if (this.#find(path) !== undefined) return;
      this.#rename([{ path, node: new SimFolder() }]);
      this.#syncNames(this.#folderOf(path).folder);
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#change("rename", to, () => {
      const node = this.#find(from);
      if (node === undefined) throw systemError("ENOENT", from);
      this.#rename([
        { path: from, node: undefined },
        { path: to, node },
      ]);
    });
  }

  async link(from: string, to: string): Promise<void> {
    await this.#change("link", to, () => {
      const node = this.#find(from);
      if (node === undefined) throw systemError("ENOENT", from);
      if (this.#find(to) !== undefined) throw systemError("EEXIST", to);
      this.#rename([{ path: to, node }]);
    });
  }

  async removeFile(path: string): Promise<void> {
    if (this.#find(path) === undefined) return;
    await this.#change("removeFile", path, () => this.#rename([{ path, node: undefined }]));
  }

  async removeTree(path: string): Promise<void> {
    if (this.#find(path) === undefined) return;
    await this.#change("removeTree", path, () => this.#rename([{ path, node: undefined }]));
  }

  async syncDirectory(path: string): Promise<void> {
    const folder = this.#find(path);
    if (!(folder instanceof SimFolder)) throw systemError("ENOENT", path);
    await this.#change("syncDirectory", path, () => this.#syncNames(folder));
  }

  async freeBytes(_path: string): Promise<number> {
    return Math.max(0, this.capacityBytes - usedBytes(this.#root));
  }

  /** The contents of a file as programs see them; undefined when there is none. */
  contents(path: string): Uint8Array | undefined {
    const node = this.#find(path);
    return node instanceof SimInode ? node.bytes : undefined;
  }

  /** Damages one byte of a file, durably. */
  corrupt(path: string, position: number, change: (byte: number) => number): void {
    const node = this.#find(path);
    if (!(node instanceof SimInode)) throw systemError("ENOENT", path);
    node.corrupt(position, change);
  }

  /**
   * The disk that a power cut at this moment leaves; this one stays as it is. Seed 0 keeps nothing unsynced, seed 1 everything
   * written, others draw how much and what.
   */
  crash(seed: number): SimDisk {
    const random = new Prng(seed);
    const survival = survivalOf(seed, random);
    const left = new SimDisk({ capacityBytes: this.capacityBytes });
    const surviving = this.#nameChanges.filter(() => random.chance(survival.whole));
    const copies = new Map<SimNode, SimNode>();
    left.#root = copyDurable(this.#root, surviving, copies, (inode) => inode.afterCrash(random, survival));
    left.#nextInode = this.#nextInode;
    return left;
  }

  #file(path: string, inode: SimInode): DiskFile {
    let isOpen = true;
    const whileOpen = (): void => {
      if (!isOpen) throw systemError("EBADF", path);
    };
    return {
      path,
      read: async (target, targetOffset, length, position) => {
        whileOpen();
        const part = inode.bytes.subarray(position, position + length);
        target.set(part, targetOffset);
        return part.length;
      },
      write: async (chunks, position) => {
        whileOpen();
        await this.#change("write", path, () => {
          let at = position;
          for (const chunk of chunks) {
            this.#checkCapacity(inode, at + chunk.length, path);
            inode.write(at, chunk);
            at += chunk.length;
          }
        });
      },
      truncate: async (sizeBytes) => {
        whileOpen();
        await this.#change("truncate", path, () => inode.truncate(sizeBytes));
      },
      dataSync: async () => {
        whileOpen();
        await this.#change("dataSync", path, () => inode.sync());
      },
      size: async () => inode.sizeBytes,
      close: async () => {
        whileOpen();
        isOpen = false;
      },
    };
  }

  #checkCapacity(inode: SimInode, end: number, path: string): void {
    if (this.capacityBytes === Number.POSITIVE_INFINITY) return;
    const grownBytes = Math.max(0, end - inode.sizeBytes);
    if (grownBytes > 0 && usedBytes(this.#root) + grownBytes > this.capacityBytes)
      throw systemError("ENOSPC", path);
  }

  async #change<T>(kind: SimOperation["kind"], path: string, apply: () => T): Promise<T> {
    const operation: SimOperation = { number: ++this.#operations, kind, path };
    await this.delay?.(operation);
    const code = this.inject?.(operation);
    if (code !== undefined) throw systemError(code, path);
    this.onOperation?.(operation);
    return apply();
  }

  #find(path: string): SimNode | undefined {
    let node: SimNode | undefined = this.#root;
    for (const name of path.split("/").filter((part) => part !== "")) {
      if (!(node instanceof SimFolder)) return undefined;
      node = node.names.get(name);
    }
    return node;
  }

  #folderOf(path: string): { folder: SimFolder; name: string } {
    const folder = this.#find(dirname(path));
    if (!(folder instanceof SimFolder)) throw systemError("ENOENT", path);
    return { folder, name: path.slice(path.lastIndexOf("/") + 1) };
  }

  #rename(changes: readonly { readonly path: string; readonly node: SimNode | undefined }[]): void {
    const parts = changes.map(({ path, node }) => ({ ...this.#folderOf(path), node }));
    for (const { folder, name, node } of parts) {
      if (node === undefined) folder.names.delete(name);
      else folder.names.set(name, node);
    }
    this.#nameChanges.push({ parts });
  }

  #syncNames(folder: SimFolder): void {
    const touches = (change: NameChange): boolean => change.parts.some((part) => part.folder === folder);
    for (const change of this.#nameChanges) if (touches(change)) makeDurable(change);
    this.#nameChanges = this.#nameChanges.filter((change) => !touches(change));
  }
}

function survivalOf(seed: number, random: Prng): Survival {
  if (seed === 0) return { whole: 0, torn: 0 };
  if (seed === 1) return { whole: 1, torn: 0 };
  return { whole: random.pick([0.1, 0.5, 0.9]), torn: random.pick([0.2, 0.8]) };
}

function usedBytes(folder: SimFolder): number {
  let bytes = 0;
  for (const node of folder.names.values())
    bytes += node instanceof SimInode ? node.sizeBytes : usedBytes(node);
  return bytes;
}

/** The durable tree with the surviving name changes on top; a node under two names stays one. */
function copyDurable(
  root: SimFolder,
  surviving: readonly NameChange[],
  copies: Map<SimNode, SimNode>,
  copyInode: (inode: SimInode) => SimInode,
): SimFolder {
  const namesOf = (folder: SimFolder): Map<string, SimNode> => {
    const names = new Map(folder.durableNames);
    for (const change of surviving) {
      for (const part of change.parts) {
        if (part.folder !== folder) continue;
        if (part.node === undefined) names.delete(part.name);
        else names.set(part.name, part.node);
      }
    }
    return names;
  };
  const copyNode = (node: SimNode): SimNode => {
    const known = copies.get(node);
    if (known !== undefined) return known;
    if (node instanceof SimInode) {
      const inode = copyInode(node);
      copies.set(node, inode);
      return inode;
    }
    const folder = new SimFolder();
    copies.set(node, folder);
    for (const [name, child] of namesOf(node)) {
      const copy = copyNode(child);
      folder.names.set(name, copy);
      folder.durableNames.set(name, copy);
    }
    return folder;
  };
  return copyNode(root) as SimFolder;
}
