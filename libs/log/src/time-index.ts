/**
 * Kafka's `.timeindex` (kafka.md §3.2): entries of (largest timestamp so far i64, last offset of the batch that has it
 * minus base offset i32), appended only when the timestamp grew.
 */
import { readUint64, writeUint64 } from "./bytes.ts";
import { IndexFile } from "./index-file.ts";
import type { OpenFiles } from "./open-files.ts";

/** Size of one entry. */
export const timeIndexEntryBytes = 12;

/** Time index of one segment. */
export class TimeIndex {
  readonly file: IndexFile;
  #lastTimestampMs = -1;

  constructor(files: OpenFiles, path: string) {
    this.file = new IndexFile(files, path, timeIndexEntryBytes, readUint64);
  }

  /** Timestamp of the last entry, -1 when there is none. */
  get lastTimestampMs(): number {
    return this.#lastTimestampMs;
  }

  append(timestampMs: number, relativeOffset: number): void {
    if (timestampMs <= this.#lastTimestampMs) return;
    const { buffer, at } = this.file.append();
    writeUint64(buffer, at, timestampMs);
    buffer.writeInt32BE(relativeOffset, at + 8);
    this.#lastTimestampMs = timestampMs;
  }

  /** Relative offset of the batch at which a scan for `timestampMs` may start; 0 without an entry. */
  async lookup(timestampMs: number): Promise<number> {
    return (await this.file.greatestAtMost(timestampMs))?.readInt32BE(8) ?? 0;
  }

  /** Takes the file as it is: its last entry (timestamp -1 when empty), or undefined when it cannot be right. */
  async load(
    fileBytes: number,
    relativeEnd: number,
  ): Promise<{ timestampMs: number; relativeOffset: number } | undefined> {
    const last = await this.file.load(fileBytes);
    if (last === undefined) return undefined;
    if (last.length === 0) return fileBytes === 0 ? { timestampMs: -1, relativeOffset: 0 } : undefined;
    const entry = { timestampMs: readUint64(last, 0), relativeOffset: last.readInt32BE(8) };
    const isSane =
      Number.isSafeInteger(entry.timestampMs) &&
      entry.relativeOffset >= 0 &&
      entry.relativeOffset < relativeEnd;
    if (!isSane) return undefined;
    this.#lastTimestampMs = entry.timestampMs;
    return entry;
  }

  /** Forgets all entries, on disk too. */
  async clear(): Promise<void> {
    this.#lastTimestampMs = -1;
    await this.file.clear();
  }
}
