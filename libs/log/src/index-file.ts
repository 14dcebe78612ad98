/**
 * A sorted file of fixed-size entries (`.index`, `.timeindex`): a flushed part on disk and a small pending part in
 * memory. Lookups search whichever part holds the answer; nothing is kept in memory of the flushed part.
 * Index files are a function of their segment: a lost or damaged one is rebuilt.
 */
import type { DiskFile } from "@millrace/runtime";
import { indexPendingBytesMax } from "./limits.ts";
import type { OpenFiles } from "./open-files.ts";

const pageBytes = 4096;

/** Reads an entry's key (what the file is sorted by) at a position. */
type ReadKey = (buffer: Buffer, at: number) => number;

/** Entries of one size, ascending by key. */
export class IndexFile {
  readonly path: string;
  readonly #files: OpenFiles;
  readonly #entryBytes: number;
  readonly #readKey: ReadKey;
  #flushedCount = 0;
  #pending = Buffer.alloc(0);
  #pendingBytes = 0;
  #flushing: Promise<void> = Promise.resolve();

  constructor(files: OpenFiles, path: string, entryBytes: number, readKey: ReadKey) {
    this.#files = files;
    this.path = path;
    this.#entryBytes = entryBytes;
    this.#readKey = readKey;
  }

  get count(): number {
    return this.#flushedCount + this.#pendingBytes / this.#entryBytes;
  }

  /** True when the pending part has grown to its limit. */
  get wantsFlush(): boolean {
    return this.#pendingBytes >= indexPendingBytesMax;
  }

  /** Takes a file of `sizeBytes` as it is; its last entry is returned. undefined: absent, or not a whole number of entries. */
  async load(sizeBytes: number): Promise<Buffer | undefined> {
    if (sizeBytes % this.#entryBytes !== 0) return undefined;
    this.#flushedCount = sizeBytes / this.#entryBytes;
    if (this.#flushedCount === 0) return Buffer.alloc(0);
    return this.#files.use(this.path, (file) => this.#readFlushed(file, this.#flushedCount - 1, 1));
  }

  /** Room for one more entry: the caller writes it at the returned place. */
  append(): { buffer: Buffer; at: number } {
    if (this.#pendingBytes + this.#entryBytes > this.#pending.length) {
      const grown = Buffer.alloc(Math.max(16 * this.#entryBytes, this.#pending.length * 2));
      this.#pending.copy(grown, 0, 0, this.#pendingBytes);
      this.#pending = grown;
    }
    const at = this.#pendingBytes;
    this.#pendingBytes += this.#entryBytes;
    return { buffer: this.#pending, at };
  }

  /** Writes the pending part out; flushes run one after another. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#flushPending());
    return this.#flushing;
  }

  async #flushPending(): Promise<void> {
    const bytes = this.#pendingBytes;
    if (bytes === 0) return;
    const part = Buffer.from(this.#pending.subarray(0, bytes));
    const position = this.#flushedCount * this.#entryBytes;
    await this.#files.use(this.path, (file) => file.write([part], position), "create");
    this.#flushedCount += bytes / this.#entryBytes;
    this.#pending = Buffer.from(this.#pending.subarray(bytes, this.#pendingBytes));
    this.#pendingBytes -= bytes;
  }

  /** The file made anew with no entries, on disk too. */
  async clear(): Promise<void> {
    this.#flushedCount = 0;
    this.#pendingBytes = 0;
    await this.#files.use(this.path, (file) => file.truncate(0), "create");
  }

  /** The last entry whose key is at most `key`. */
  async greatestAtMost(key: number): Promise<Buffer | undefined> {
    if (this.#pendingBytes > 0 && this.#readKey(this.#pending, 0) <= key) {
      return this.#search(this.#pending, this.#pendingBytes, key);
    }
    const count = this.#flushedCount;
    if (count === 0) return undefined;
    return this.#files.use(this.path, async (file) => {
      const perPage = Math.floor(pageBytes / this.#entryBytes);
      let low = 0;
      let high = Math.ceil(count / perPage) - 1;
      while (low < high) {
        const middle = (low + high + 1) >>> 1;
        const first = await this.#readFlushed(file, middle * perPage, 1);
        if (first.length > 0 && this.#readKey(first, 0) <= key) low = middle;
        else high = middle - 1;
      }
      const page = await this.#readFlushed(file, low * perPage, Math.min(perPage, count - low * perPage));
      return this.#search(page, page.length, key);
    });
  }

  async #readFlushed(file: DiskFile, from: number, count: number): Promise<Buffer> {
    const buffer = Buffer.alloc(count * this.#entryBytes);
    const read = await file.read(buffer, 0, buffer.length, from * this.#entryBytes);
    return buffer.subarray(0, read - (read % this.#entryBytes));
  }

  #search(buffer: Buffer, bytes: number, key: number): Buffer | undefined {
    let low = 0;
    let high = bytes / this.#entryBytes;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#readKey(buffer, middle * this.#entryBytes) <= key) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    return Buffer.from(buffer.subarray((low - 1) * this.#entryBytes, low * this.#entryBytes));
  }
}
