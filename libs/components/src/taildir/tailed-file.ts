/**
 * One file being read: an open handle, the position, and what makes it this file and no other.
 *
 * The handle stays open over a rename, so the rest of a rotated file is read to its end. A file that shrank below
 * the position, or whose first bytes changed, was truncated in place: it is read again from 0 as a new generation.
 * What was written and truncated away between two looks is gone (copytruncate's own race; stated on the page).
 */
import { type FileHandle, open } from "node:fs/promises";
import { type FilePosition, fingerprintBytesMax, fingerprintOf, positionKey } from "./file-identity.ts";
import { splitLines } from "./lines.ts";

/** Bytes asked for in one read; grown up to a line's length where a line is longer. */
const chunkBytes = 256 * 1024;

/** A line with the position of its first byte. */
export interface TailedLine {
  readonly bytes: Uint8Array;
  readonly start: number;
  /** Position after the line. */
  readonly end: number;
  /** Set for a line cut at the limit: number of the part, from 0. */
  readonly part?: number;
}

/** What one read of the file gave. */
export interface TailedRead {
  readonly lines: readonly TailedLine[];
  /** True: nothing more to read now. */
  readonly atEnd: boolean;
}

export class TailedFile {
  /** Path at which it was last seen; records carry the path of first sight as their stream. */
  path: string;
  readonly streamId: string;
  readonly group: string;
  /** Number in the order of first sight. */
  readonly born: number;
  readonly device: number;
  readonly inode: number;
  /** True: its name is gone or means another file; it is read to its end and forgotten. */
  isDetached = false;
  lastGrowthMs: number;
  #generation: number;
  #offset: number;
  #fingerprint: string;
  #fingerprintBytes: number;
  #endedOpen: boolean;
  #recordCount: number;
  #part = 0;
  #handle: FileHandle | undefined;
  #sizeSeen = -1;
  #modifiedSeen = -1;

  constructor(path: string, position: FilePosition, nowMs: number) {
    this.path = path;
    this.group = position.group;
    this.born = position.born;
    this.streamId = position.path;
    this.device = position.device;
    this.inode = position.inode;
    this.lastGrowthMs = nowMs;
    this.#generation = position.generation;
    this.#offset = position.offset;
    this.#fingerprint = position.fingerprint;
    this.#fingerprintBytes = position.fingerprintBytes;
    this.#endedOpen = position.endedOpen;
    this.#recordCount = position.recordCount;
  }

  get key(): string {
    return positionKey({ device: this.device, inode: this.inode, generation: this.#generation });
  }

  get isOpen(): boolean {
    return this.#handle !== undefined;
  }

  get position(): FilePosition {
    return {
      path: this.streamId,
      group: this.group,
      born: this.born,
      device: this.device,
      inode: this.inode,
      generation: this.#generation,
      offset: this.#offset,
      fingerprint: this.#fingerprint,
      fingerprintBytes: this.#fingerprintBytes,
      endedOpen: this.#endedOpen,
      recordCount: this.#recordCount,
    };
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  /**
   * Reads up to `linesMax` whole lines. With `final`, a last line without newline counts as one.
   * Returns the key of a generation that ended here, if truncation was found.
   */
  async read(options: {
    linesMax: number;
    lineBytesMax: number;
    final: boolean;
  }): Promise<TailedRead & { endedKey?: string }> {
    const handle = await this.#open();
    const { size, mtimeMs } = await handle.stat();
    const isUnchanged = size === this.#sizeSeen && mtimeMs === this.#modifiedSeen;
    const endedKey = isUnchanged ? undefined : await this.#checkGeneration(handle, size);
    this.#sizeSeen = size;
    this.#modifiedSeen = mtimeMs;
    const result =
      this.#offset >= size ? { lines: [], atEnd: true } : await this.#readLines(handle, size, options);
    this.#recordCount += result.lines.length;
    if (!isUnchanged) await this.#growFingerprint(handle, size);
    return endedKey === undefined ? result : { ...result, endedKey };
  }

  async #open(): Promise<FileHandle> {
    if (this.#handle !== undefined) return this.#handle;
    const handle = await open(this.path, "r");
    const found = await handle.stat();
    if (found.ino !== this.inode || found.dev !== this.device) {
      await handle.close();
      throw Object.assign(new Error(`${this.path} is another file now`), { code: "ESTALE" });
    }
    this.#handle = handle;
    return handle;
  }

  /** Starts a new generation when the file was truncated or rewritten. */
  async #checkGeneration(handle: FileHandle, size: number): Promise<string | undefined> {
    const isSame =
      size >= this.#offset &&
      (this.#fingerprintBytes === 0 ||
        (await fingerprintOf(handle, this.#fingerprintBytes)) === this.#fingerprint);
    if (isSame) return undefined;
    const endedKey = this.key;
    this.#generation++;
    this.#offset = 0;
    this.#fingerprint = "";
    this.#fingerprintBytes = 0;
    this.#endedOpen = false;
    this.#recordCount = 0;
    this.#part = 0;
    return endedKey;
  }

  async #growFingerprint(handle: FileHandle, size: number): Promise<void> {
    const wanted = Math.min(size, fingerprintBytesMax);
    if (wanted <= this.#fingerprintBytes) return;
    const fingerprint = await fingerprintOf(handle, wanted);
    if (fingerprint === undefined) return;
    this.#fingerprint = fingerprint;
    this.#fingerprintBytes = wanted;
  }

  async #readLines(
    handle: FileHandle,
    size: number,
    options: { linesMax: number; lineBytesMax: number; final: boolean },
  ): Promise<TailedRead> {
    let wanted = Math.min(size - this.#offset, chunkBytes);
    for (;;) {
      const chunk = Buffer.allocUnsafeSlow(wanted);
      const { bytesRead } = await handle.read(chunk, 0, wanted, this.#offset);
      const from = this.#offset;
      const lines = this.#takeLines(chunk.subarray(0, bytesRead), options.linesMax);
      if (lines.length > 0) return { lines, atEnd: this.#offset >= size };
      // The newline of a line given without it may have been passed.
      const bytes = chunk.subarray(this.#offset - from, bytesRead);
      if (bytes.length >= options.lineBytesMax)
        return { lines: [this.#cutLine(bytes.subarray(0, options.lineBytesMax))], atEnd: false };
      if (bytes.length === 0 || this.#offset + bytes.length >= size)
        return options.final && bytes.length > 0 ? this.#takeOpenLine(bytes) : { lines: [], atEnd: true };
      wanted = Math.min(wanted * 2, options.lineBytesMax, size - this.#offset);
    }
  }

  #takeLines(bytes: Buffer, linesMax: number): TailedLine[] {
    const lines: TailedLine[] = [];
    let rest = bytes;
    if (this.#endedOpen && rest.length > 0) {
      // The line was given without its newline before; the newline itself is no line.
      if (rest[0] === 10) {
        this.#offset++;
        rest = rest.subarray(1);
      }
      this.#endedOpen = false;
    }
    for (const line of splitLines(rest, linesMax).lines) {
      const start = this.#offset;
      this.#offset += line.byteLength + 1;
      lines.push(
        this.#part > 0
          ? { bytes: line, start, end: this.#offset, part: this.#part }
          : { bytes: line, start, end: this.#offset },
      );
      this.#part = 0;
    }
    return lines;
  }

  #cutLine(bytes: Uint8Array): TailedLine {
    const start = this.#offset;
    this.#offset += bytes.byteLength;
    return { bytes, start, end: this.#offset, part: this.#part++ };
  }

  #takeOpenLine(bytes: Uint8Array): TailedRead {
    const start = this.#offset;
    this.#offset += bytes.byteLength;
    this.#endedOpen = true;
    return { lines: [{ bytes, start, end: this.#offset }], atEnd: true };
  }
}
