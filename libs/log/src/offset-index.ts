/** Kafka's `.index` (kafka.md §3.2): entries of (last offset of a batch minus base offset i32, its position i32). */
import { IndexFile } from "./index-file.ts";
import type { OpenFiles } from "./open-files.ts";

/** Size of one entry. */
export const offsetIndexEntryBytes = 8;

/** Offset index of one segment. Offsets are relative to the segment's base. */
export class OffsetIndex {
  readonly file: IndexFile;

  constructor(files: OpenFiles, path: string) {
    this.file = new IndexFile(files, path, offsetIndexEntryBytes, (buffer, at) => buffer.readInt32BE(at));
  }

  append(relativeLastOffset: number, position: number): void {
    const { buffer, at } = this.file.append();
    buffer.writeInt32BE(relativeLastOffset, at);
    buffer.writeInt32BE(position, at + 4);
  }

  /** Position from which a scan for `relativeOffset` may start; 0 without an entry. */
  async lookup(relativeOffset: number): Promise<number> {
    return (await this.file.greatestAtMost(relativeOffset))?.readInt32BE(4) ?? 0;
  }

  /** Takes the file as it is. False when it cannot be right for a segment of this size and offset span. */
  async load(fileBytes: number, segmentBytes: number, relativeEnd: number): Promise<boolean> {
    const last = await this.file.load(fileBytes);
    if (last === undefined) return false;
    if (last.length === 0) return fileBytes === 0;
    const position = last.readInt32BE(4);
    const relativeOffset = last.readInt32BE(0);
    return position >= 0 && position < segmentBytes && relativeOffset >= 0 && relativeOffset < relativeEnd;
  }
}
