/**
 * The taildir source: follows files as they grow, across rotation, and never reads a byte twice.
 *
 *   discovery (every second, or when a folder changed) --> files by (device, inode)
 *   read: each file in turn, whole lines up to the batch --> records + the positions after them, one transaction
 *
 * Invariants: a line is given once its newline is there; positions are those of the channel's transactions and of
 * nothing else (A1); while an older file of a stream has lines left, a newer one of the same stream waits, so the
 * order of a rotated log is kept.
 */
import { type FSWatcher, watch } from "node:fs";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type {
  ComponentContext,
  FlowRecord,
  PullSource,
  ReadResult,
  SkippedInput,
  SourcePosition,
} from "@millrace/flow";
import { errorCode } from "@millrace/runtime";
import type { TaildirConfig } from "./config.ts";
import { FileDiscovery, type FoundFile } from "./discovery.ts";
import { type FilePosition, formatPosition, parsePosition, positionKey } from "./file-identity.ts";
import { TailedFile, type TailedLine } from "./tailed-file.ts";
import { fileGone, filesSkipped, fileTruncated } from "./telemetry.ts";

/** Time between two looks for new files, ms. */
const lookIntervalMs = 1000;
/** Bytes of lines in one batch. */
const batchBytesMax = 4 * 1024 * 1024;
/** Folders watched for changes; more are looked at by polling only. */
const watchersMax = 256;

type Header = FlowRecord["headers"][number];

export class TaildirSource implements PullSource {
  readonly mode = "pull";
  readonly #config: TaildirConfig;
  readonly #context: ComponentContext;
  readonly #discovery: FileDiscovery;
  /** By `device:inode`. */
  readonly #files = new Map<string, TailedFile>();
  readonly #fileHeaders = new WeakMap<TailedFile, readonly Header[]>();
  readonly #watchers = new Map<string, FSWatcher>();
  #skipped: ReadonlyMap<string, string> = new Map();
  #pendingPositions: SourcePosition[] = [];
  #lookedMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #isOpened = false;
  #bornNext = 0;
  #lastStream = "";
  #isFinal = false;
  #onChange: (() => void) | undefined;
  #hasChanged = false;

  constructor(config: TaildirConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
    this.#discovery = new FileDiscovery(config, context.protectedPaths);
  }

  async open(positions: ReadonlyMap<string, string>): Promise<void> {
    await this.#closeFiles();
    this.#pendingPositions = [];
    const saved = newestByInode(this.#config.unsafeForgetPositions ? new Map() : positions);
    for (const old of positions.keys()) {
      if (![...saved.values()].some((entry) => entry.key === old)) this.#pendingPositions.push(ended(old));
    }
    for (const { position } of saved.values()) this.#bornNext = Math.max(this.#bornNext, position.born + 1);
    if (saved.size === 0) await this.#takeOverFlumePositions(saved);
    const { files } = await this.#look();
    for (const found of files) {
      const key = `${found.device}:${found.inode}`;
      const entry = saved.get(key);
      saved.delete(key);
      this.#add(found.path, entry?.position ?? (await this.#firstPosition(found)));
    }
    for (const { key, position } of saved.values()) await this.#followRenamed(key, position);
    this.#isOpened = true;
  }

  read(recordsMax: number): Promise<ReadResult> {
    return this.#readOnce(recordsMax);
  }

  /** Resolves when a folder changed, after the poll interval at the latest. */
  async whenReadable(signal: AbortSignal): Promise<void> {
    if (!this.#hasChanged) {
      const woken = new AbortController();
      this.#onChange = () => woken.abort();
      await this.#context.clock.sleep(this.#config.pollInterval, AbortSignal.any([signal, woken.signal]));
      this.#onChange = undefined;
    }
    this.#hasChanged = false;
  }

  finish(): void {
    this.#isFinal = true;
    this.#lookedMs = Number.NEGATIVE_INFINITY;
  }

  skipped(): readonly SkippedInput[] {
    return [...this.#skipped].map(([name, reason]) => ({ name, reason }));
  }

  streamCount(): number {
    return this.#files.size;
  }

  async close(): Promise<void> {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    this.#onChange?.();
    this.#isOpened = false;
    await this.#refreshing;
    await this.#closeFiles();
  }

  async #closeFiles(): Promise<void> {
    for (const file of this.#files.values()) await file.close();
    this.#files.clear();
  }

  async #readOnce(recordsMax: number): Promise<ReadResult> {
    await this.#refreshing;
    if (this.#context.clock.monotonicMs() - this.#lookedMs >= lookIntervalMs) await this.#refresh();
    const limit = Math.min(recordsMax, this.#config.batchSize);
    const records: FlowRecord[] = [];
    const positions: SourcePosition[] = this.#pendingPositions;
    this.#pendingPositions = [];
    const waitingStreams = new Set<string>();
    let bytes = 0;
    for (const file of this.#inReadingOrder()) {
      if (waitingStreams.has(file.streamId)) continue;
      let isAtEnd = false;
      for (let batches = 0; !isAtEnd && batches < this.#config.maxBatchCount; batches++) {
        if (records.length >= limit || bytes >= batchBytesMax) break;
        const { lines, atEnd } = await this.#readFile(file, limit - records.length, positions);
        isAtEnd = atEnd;
        bytes += this.#addRecords(file, lines, records);
        if (lines.length > 0) setPosition(positions, file);
      }
      if (!isAtEnd) waitingStreams.add(file.streamId);
      if (records.length >= limit || bytes >= batchBytesMax) {
        this.#lastStream = file.streamId;
        return { records, positions, isIdle: false };
      }
    }
    return { records, positions, isIdle: waitingStreams.size === 0 };
  }

  async #readFile(
    file: TailedFile,
    linesMax: number,
    positions: SourcePosition[],
  ): Promise<{ lines: readonly TailedLine[]; atEnd: boolean }> {
    try {
      const { lineBytesMax, final } = { lineBytesMax: this.#config.maxLineBytes, final: this.#isFinal };
      const result = await file.read({ linesMax, lineBytesMax, final });
      if (result.endedKey !== undefined) {
        positions.push(ended(result.endedKey));
        this.#context.telemetry.emit(fileTruncated, { path: file.path });
      }
      if (result.lines.length > 0) file.lastGrowthMs = this.#context.clock.monotonicMs();
      else await this.#retireIfOver(file, positions);
      return result;
    } catch (error) {
      if (errorCode(error) !== "ENOENT" && errorCode(error) !== "ESTALE") throw error;
      this.#lookedMs = Number.NEGATIVE_INFINITY;
      return { lines: [], atEnd: true };
    }
  }

  /** Closes what is idle; forgets what has no name any more and has been read to its end. */
  async #retireIfOver(file: TailedFile, positions: SourcePosition[]): Promise<void> {
    if (
      this.#context.clock.monotonicMs() - file.lastGrowthMs < this.#config.idleTimeout &&
      !(file.isDetached && this.#isFinal)
    )
      return;
    await file.close();
    if (!file.isDetached) return;
    this.#files.delete(`${file.device}:${file.inode}`);
    positions.push(ended(file.key));
  }

  #addRecords(file: TailedFile, lines: readonly TailedLine[], records: FlowRecord[]): number {
    const timestampMs = this.#context.clock.nowMs();
    const fileHeaders = this.#headersOf(file);
    const { key, streamId } = file;
    let bytes = 0;
    for (const line of lines) {
      bytes += line.bytes.byteLength;
      records.push({
        key: null,
        value: line.bytes,
        headers:
          this.#config.byteOffsetHeader || line.part !== undefined
            ? this.#lineHeaders(fileHeaders, line)
            : fileHeaders,
        timestampMs,
        streamId,
        sourcePosition: { key, order: line.end },
      });
    }
    return bytes;
  }

  #headersOf(file: TailedFile): readonly Header[] {
    const known = this.#fileHeaders.get(file);
    if (known !== undefined) return known;
    const headers = Object.entries(this.#config.headers[file.group] ?? {}).map(([key, value]) =>
      header(key, value),
    );
    if (this.#config.fileHeader) headers.push(header(this.#config.fileHeaderKey, file.streamId));
    this.#fileHeaders.set(file, headers);
    return headers;
  }

  #lineHeaders(fileHeaders: readonly Header[], line: TailedLine): readonly Header[] {
    const headers = [...fileHeaders];
    if (this.#config.byteOffsetHeader) headers.push(header("byteoffset", String(line.start)));
    if (line.part !== undefined) headers.push(header("part", String(line.part)));
    return headers;
  }

  /**
   * The files in the order to be read: streams in turn, beginning after the one that filled the last batch, so that
   * a busy one starves no other; the files of a stream oldest first.
   */
  #inReadingOrder(): TailedFile[] {
    const streams = Map.groupBy(
      [...this.#files.values()].sort((a, b) => a.born - b.born),
      (file) => file.streamId,
    );
    const names = [...streams.keys()];
    const start = names.indexOf(this.#lastStream) + 1;
    return [...names.slice(start), ...names.slice(0, start)].flatMap((name) => streams.get(name) ?? []);
  }

  #add(path: string, position: FilePosition): TailedFile {
    this.#bornNext = Math.max(this.#bornNext, position.born + 1);
    const file = new TailedFile(path, position, this.#context.clock.monotonicMs());
    this.#files.set(`${position.device}:${position.inode}`, file);
    return file;
  }

  async #look(): Promise<{ files: readonly FoundFile[] }> {
    const { files, skipped } = await this.#discovery.look();
    const fresh = [...skipped].filter(([name]) => !this.#skipped.has(name));
    if (fresh.length > 0) {
      this.#context.telemetry.emit(filesSkipped, {
        source: this.#context.name,
        files: fresh.map(([name, reason]) => `${name}: ${reason}`).join("; "),
      });
    }
    this.#skipped = skipped;
    this.#lookedMs = this.#context.clock.monotonicMs();
    for (const { path } of files) this.#watchFolder(dirname(path));
    return { files };
  }

  /** Takes up new files, follows renames, detaches what lost its name. */
  async #refresh(): Promise<void> {
    const { files } = await this.#look();
    const present = new Set<string>();
    for (const found of files) {
      const key = `${found.device}:${found.inode}`;
      present.add(key);
      const file = this.#files.get(key);
      if (file === undefined) {
        this.#add(found.path, await this.#firstPosition(found));
      } else {
        file.path = found.path;
        file.isDetached = false;
      }
    }
    for (const [key, file] of this.#files) {
      if (present.has(key) || file.isDetached) continue;
      file.isDetached = true;
      if (!file.isOpen) await this.#reopenByInode(file, dirname(file.path));
    }
  }

  /** Looks also while nothing is read: a full channel must not make a file's name be missed. */
  #refreshSoon(): void {
    this.#lookedMs = Number.NEGATIVE_INFINITY;
    if (!this.#isOpened) return;
    this.#refreshing ??= this.#refresh()
      .catch(() => undefined) // the next read looks again and reports it
      .finally(() => {
        this.#refreshing = undefined;
      });
  }

  /** Where a file without saved position is read from. */
  async #firstPosition(found: FoundFile): Promise<FilePosition> {
    const { path, group, device, inode, sizeBytes } = found;
    const { skipToEnd, firstSightBytes } = this.#config;
    const isWhole = !skipToEnd && (firstSightBytes === 0 || sizeBytes <= firstSightBytes);
    const tail = skipToEnd ? sizeBytes : sizeBytes - firstSightBytes;
    const offset = isWhole ? 0 : skipToEnd ? tail : await startOfNextLine(path, tail);
    const position = newPosition({ path, group, device, inode, offset, born: this.#bornNext++ });
    // Saved with the next transaction, before its first line: if the file is renamed while nobody looks, it is known.
    const value = formatPosition(position);
    this.#pendingPositions.push({ key: positionKey(position), order: offset, value, recordCount: 0 });
    return position;
  }

  /** A file whose saved name is gone: renamed while nobody looked. Its rest is read from where it is now. */
  async #followRenamed(key: string, position: FilePosition): Promise<void> {
    const file = this.#add(position.path, position);
    file.isDetached = true;
    if (await this.#reopenByInode(file, dirname(position.path))) return;
    this.#files.delete(`${position.device}:${position.inode}`);
    this.#pendingPositions.push(ended(key));
  }

  async #reopenByInode(file: TailedFile, folder: string): Promise<boolean> {
    for (const name of await readdir(folder).catch(() => [])) {
      const found = await stat(join(folder, name)).catch(() => undefined);
      if (found?.ino !== file.inode || found.dev !== file.device) continue;
      file.path = join(folder, name);
      return true;
    }
    this.#context.telemetry.emit(fileGone, { path: file.path, offset: file.position.offset });
    return false;
  }

  /** Flume's position file, for the first start after a move from Flume: [{inode, pos, file}]. */
  async #takeOverFlumePositions(saved: Map<string, { key: string; position: FilePosition }>): Promise<void> {
    if (this.#config.positionFile === undefined) return;
    const text = await readFile(this.#config.positionFile, "utf8").catch(() => "[]");
    for (const { inode, pos, file } of JSON.parse(text) as { inode: number; pos: number; file: string }[]) {
      const found = await stat(file).catch(() => undefined);
      if (found?.ino !== inode || found.size < pos) continue;
      const position = newPosition({
        path: file,
        group: "",
        device: found.dev,
        inode,
        offset: pos,
        born: this.#bornNext++,
      });
      saved.set(`${found.dev}:${inode}`, { key: `${found.dev}:${inode}:0`, position });
    }
  }

  #watchFolder(folder: string): void {
    if (this.#watchers.has(folder) || this.#watchers.size >= watchersMax) return;
    try {
      const watcher = watch(folder, { persistent: false }, (kind) => {
        // a rename may be a rotation: look at once, before the next file takes the name
        if (kind === "rename") this.#refreshSoon();
        this.#hasChanged = true;
        this.#onChange?.();
      });
      watcher.on("error", () => this.#watchers.get(folder)?.close());
      this.#watchers.set(folder, watcher);
    } catch {
      // Only a hint: without it the poll interval decides.
    }
  }
}

/** The position of a file that nothing was read of yet. */
function newPosition(
  seen: Pick<FilePosition, "path" | "group" | "device" | "inode" | "offset" | "born">,
): FilePosition {
  return { ...seen, generation: 0, fingerprint: "", fingerprintBytes: 0, endedOpen: false, recordCount: 0 };
}

function header(key: string, value: string): Header {
  return { key, value: Buffer.from(value) };
}

function ended(key: string): SourcePosition {
  return { key, order: Number.MAX_SAFE_INTEGER, value: null };
}

/** Sets the file's position in the list, replacing an earlier one of this read. */
function setPosition(positions: SourcePosition[], file: TailedFile): void {
  const { key, position } = file;
  const { offset: order, recordCount } = position;
  const entry = { key, order, value: formatPosition(position), recordCount };
  const index = positions.findIndex((present) => present.key === key);
  if (index < 0) positions.push(entry);
  else positions[index] = entry;
}

function newestByInode(
  positions: ReadonlyMap<string, string>,
): Map<string, { key: string; position: FilePosition }> {
  const newest = new Map<string, { key: string; position: FilePosition }>();
  for (const [key, text] of positions) {
    const position = parsePosition(text);
    if (position === undefined) continue;
    const inode = `${position.device}:${position.inode}`;
    const known = newest.get(inode);
    if (known === undefined || known.position.generation < position.generation)
      newest.set(inode, { key, position });
  }
  return newest;
}

/** Position after the first newline at or after `offset` (which may be the middle of a line). */
async function startOfNextLine(path: string, offset: number): Promise<number> {
  const handle = await open(path, "r");
  try {
    const chunk = Buffer.allocUnsafe(64 * 1024);
    for (let at = offset - 1; ; at += chunk.length) {
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
      const newline = chunk.subarray(0, bytesRead).indexOf(10);
      if (newline >= 0) return at + newline + 1;
      if (bytesRead < chunk.length) return at + bytesRead;
    }
  } finally {
    await handle.close();
  }
}
