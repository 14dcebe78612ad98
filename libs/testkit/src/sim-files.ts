/**
 * What the simulated disk is made of: file contents and folders, each with a volatile view (what programs see) and a durable one
 * (what a power cut leaves), and the changes in between.
 */
import type { Prng } from "@millrace/base";

/** A sector is written whole or not at all. */
const sectorBytes = 512;

type ContentChange =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: "truncate"; readonly sizeBytes: number };

/** How unsynced changes fare in a crash: the probability that one survives whole, and that it survives in part. */
export interface Survival {
  readonly whole: number;
  readonly torn: number;
}

/** Contents of a file. Arrays are never changed in place once shared with another view. */
export class SimInode {
  readonly id: number;
  modifiedMs = 0;
  #bytes: Uint8Array;
  #sizeBytes: number;
  #durable: Uint8Array;
  #changes: ContentChange[] = [];
  #isShared = true;

  constructor(id: number, durable: Uint8Array = new Uint8Array()) {
    this.id = id;
    this.#durable = durable;
    this.#bytes = durable;
    this.#sizeBytes = durable.length;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** The visible contents, as a view. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#sizeBytes);
  }

  write(position: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const end = position + bytes.length;
    this.#own(Math.max(end, this.#sizeBytes));
    this.#bytes.set(bytes, position);
    this.#sizeBytes = Math.max(end, this.#sizeBytes);
    this.#changes.push({ kind: "write", position, bytes: new Uint8Array(bytes) });
  }

  truncate(sizeBytes: number): void {
    this.#own(sizeBytes);
    if (sizeBytes < this.#sizeBytes) this.#bytes.fill(0, sizeBytes, this.#sizeBytes);
    this.#sizeBytes = sizeBytes;
    this.#changes.push({ kind: "truncate", sizeBytes });
  }

  sync(): void {
    if (this.#changes.length === 0) return;
    this.#durable = new Uint8Array(this.bytes);
    this.#changes = [];
  }

  /** Damages the contents behind everybody's back: durable and visible. */
  corrupt(position: number, change: (byte: number) => number): void {
    const bytes = new Uint8Array(this.bytes);
    bytes[position] = change(bytes[position] as number) & 0xff;
    this.#durable = bytes;
    this.#bytes = bytes;
    this.#changes = [];
    this.#isShared = true;
  }

  /** What is left of the file after a crash. */
  afterCrash(random: Prng, survival: Survival): SimInode {
    if (this.#changes.length === 0) return new SimInode(this.id, this.#durable);
    const left = new SimInode(this.id, this.#durable);
    for (const change of this.#changes) {
      const isWhole = random.chance(survival.whole);
      const isTorn = !isWhole && random.chance(survival.torn);
      if (change.kind === "truncate") {
        if (isWhole) left.truncate(change.sizeBytes);
      } else if (isWhole) left.write(change.position, change.bytes);
      else if (isTorn) writeTorn(left, change.position, change.bytes, random);
    }
    return new SimInode(this.id, new Uint8Array(left.bytes));
  }

  #own(capacity: number): void {
    if (!this.#isShared && this.#bytes.length >= capacity) return;
    const grown = new Uint8Array(Math.max(capacity, this.#isShared ? 0 : this.#bytes.length * 2));
    grown.set(this.bytes.subarray(0, Math.min(this.#sizeBytes, grown.length)));
    this.#bytes = grown;
    this.#isShared = false;
  }
}

/** Some sectors of a write arrive; the file's size may have grown without its data. */
function writeTorn(inode: SimInode, position: number, bytes: Uint8Array, random: Prng): void {
  const end = position + bytes.length;
  if (end > inode.sizeBytes && random.chance(0.5)) inode.truncate(end);
  for (let at = position; at < end; ) {
    const next = Math.min(end, (Math.floor(at / sectorBytes) + 1) * sectorBytes);
    if (random.chance(0.5)) inode.write(at, bytes.subarray(at - position, next - position));
    at = next;
  }
}

/** A folder: visible names and durable names. */
export class SimFolder {
  readonly names = new Map<string, SimNode>();
  readonly durableNames = new Map<string, SimNode>();
}

/** What a name means. */
export type SimNode = SimInode | SimFolder;

/** A change of names, atomic, not yet durable. */
export interface NameChange {
  readonly parts: readonly {
    readonly folder: SimFolder;
    readonly name: string;
    readonly node: SimNode | undefined;
  }[];
}

/** Applies a change to the durable names. */
export function makeDurable(change: NameChange): void {
  for (const { folder, name, node } of change.parts) {
    if (node === undefined) folder.durableNames.delete(name);
    else folder.durableNames.set(name, node);
  }
}
