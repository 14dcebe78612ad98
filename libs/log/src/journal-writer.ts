/**
 * The journal's writer: group commit (J2).
 *
 *   submit(item) --> gathering group --> one write (+ one fdatasync) --> `written` / `durable` of the group
 *
 * One loop writes group after group; the next one gathers while the disk works. Entries are numbered in queue order.
 * A group that does not fit the rest of a file is split; the next file opens with header and state snapshot (J5) and is
 * begun only when the old one is fsynced, so that a torn entry can only stand at the journal's end.
 * Invariant: nothing is reported durable that `dataSync` has not returned for.
 */
import { invariant } from "@millrace/base";
import type { DiskFile } from "@millrace/runtime";
import type { JournalFiles, NextFile } from "./journal-files.ts";
import {
  encodeEntryHead,
  encodeJournalHeader,
  entryBytes,
  entryKind,
  type JournalEntry,
  journalHeaderBytes,
} from "./journal-format.ts";
import { inlinePayloadBytesMax, journalExtendBytes, journalGroupBytesMax } from "./limits.ts";
import type { StateTable } from "./state-table.ts";
import type { TailBatch } from "./tail.ts";

/** One entry on its way. */
export interface JournalItem {
  readonly entry: JournalEntry;
  readonly sizeBytes: number;
  /** False for entries that only touch `os` logs: acknowledged once written (J6). */
  readonly needsSync: boolean;
  readonly batches: readonly TailBatch[];
}

/** What the writer needs and tells. */
export interface JournalHost {
  readonly directoryId: string;
  readonly fileBytes: number;
  readonly skipsFsync: boolean;
  /** Runs a write; a full disk is waited out, any other failure thrown. */
  whenRoom(write: () => Promise<void>): Promise<void>;
  /** The items are written; those of `os` logs count as durable now. */
  onWritten(items: readonly JournalItem[]): void;
  /** The items are durable. */
  onDurable(items: readonly JournalItem[]): void;
  /** A new file has begun: the ones before may be checkpointed. */
  onFileBegun(generation: number, isReused: boolean): void;
  /** The disk failed under the journal: the directory is to go offline. */
  onFailure(error: unknown): void;
}

class Group {
  readonly items: JournalItem[] = [];
  bytes = 0;
  readonly written = Promise.withResolvers<undefined>();
  readonly durable = Promise.withResolvers<undefined>();

  constructor() {
    // Nobody may be waiting for one of the two.
    this.written.promise.catch(() => {});
    this.durable.promise.catch(() => {});
  }
}

interface CurrentFile {
  readonly generation: number;
  readonly file: DiskFile;
  position: number;
  allocatedBytes: number;
  /** Position after header and state snapshot. */
  openingEnd: number;
}

/** A file that is full, with its last entry. */
export interface FullFile {
  readonly generation: number;
  readonly lastEntry: number;
}

/** What new journal files are allocated with; never written to, so that its pages stay the kernel's one zero page. */
const zeros = Buffer.alloc(journalExtendBytes);

/** Writes entries to the journal in groups. */
export class JournalWriter {
  readonly #host: JournalHost;
  readonly #files: JournalFiles;
  readonly #state: StateTable;
  #current: CurrentFile | undefined;
  #groups: Group[] = [];
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  /** The group whose bytes are on their way. */
  #writing: Group | undefined;
  #failure: Error | undefined;
  #nextEntry: number;
  #syncedThrough: number;
  #queuedBytes = 0;
  #heads = Buffer.alloc(0);
  /** Full files, oldest first, until they are recycled. */
  #full: FullFile[] = [];

  constructor(host: JournalHost, files: JournalFiles, state: StateTable, lastEntry: number) {
    this.#host = host;
    this.#files = files;
    this.#state = state;
    this.#nextEntry = lastEntry + 1;
    this.#syncedThrough = lastEntry;
  }

  /** Bytes submitted and not yet written. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Last entry known to be fsynced. */
  get syncedThrough(): number {
    return this.#syncedThrough;
  }

  /** Last entry written; what is queued or yet to come has higher numbers. */
  get writtenThrough(): number {
    return this.#nextEntry - 1;
  }

  /** Files whose entries all lie at or below `entryNumber`, newest; undefined when there is none. */
  newestFullThrough(entryNumber: number): number | undefined {
    return this.#full.findLast((file) => file.lastEntry <= entryNumber)?.generation;
  }

  forgetThrough(generation: number): void {
    this.#full = this.#full.filter((file) => file.generation > generation);
  }

  /** Files left by the previous start count as full. */
  adoptFull(files: readonly FullFile[]): void {
    this.#full = [...files];
  }

  /** Queues an item; the promise is shared by all of its group. Lazy items wait for company (or `start`). */
  submit(item: JournalItem, isLazy: boolean): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    let group = this.#groups.at(-1);
    if (group === undefined || (group.bytes > 0 && group.bytes + item.sizeBytes > journalGroupBytesMax)) {
      group = new Group();
      this.#groups.push(group);
    }
    group.items.push(item);
    group.bytes += item.sizeBytes;
    this.#queuedBytes += item.sizeBytes;
    if (!isLazy) this.start();
    return item.needsSync ? group.durable.promise : group.written.promise;
  }

  /** Writes what is queued. */
  start(): void {
    if (this.#groups.length === 0 || this.#isRunning || this.#failure !== undefined) return;
    this.#isRunning = true;
    this.#running = this.#run();
  }

  /** Resolves when everything queued so far is written and fsynced; what is queued later is not waited for. */
  async flush(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const last = this.#groups.at(-1) ?? this.#writing;
    this.start();
    await last?.durable.promise;
    await this.#guarded(() => this.#sync());
  }

  /** Begins the first file of this start. */
  begin(): Promise<void> {
    return this.#guarded(() => this.#beginFile());
  }

  /** Rejects everything queued and to come. */
  fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#files.fail(error);
    const groups = this.#groups;
    this.#groups = [];
    for (const group of groups) reject(group, error);
  }

  async close(): Promise<void> {
    await this.#running;
    await this.#current?.file.close();
    this.#current = undefined;
  }

  async #run(): Promise<void> {
    for (let group = this.#groups[0]; group !== undefined; group = this.#groups[0]) {
      // One turn of the event loop: whoever was woken by the last group gets into this one.
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      if (this.#failure !== undefined) break;
      this.#groups.shift();
      this.#writing = group;
      try {
        await this.#writeGroup(group);
      } catch (error) {
        this.#host.onFailure(error);
        reject(group, this.#failureOr(error));
        break;
      }
    }
    this.#writing = undefined;
    // In the same step as the last look at the queue: whoever comes now starts anew.
    this.#isRunning = false;
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#host.onFailure(error);
      throw this.#failureOr(error);
    }
  }

  /** The directory's failure, which `onFailure` sets through {@link fail}; else what was thrown. */
  #failureOr(error: unknown): unknown {
    return this.#failure ?? error;
  }

  async #writeGroup(group: Group): Promise<void> {
    let from = 0;
    while (from < group.items.length) {
      const to = this.#fitting(group.items, from);
      if (to === from) {
        await this.#beginFile();
        continue;
      }
      const items = from === 0 && to === group.items.length ? group.items : group.items.slice(from, to);
      await this.#writeItems(items);
      from = to;
    }
    group.written.resolve(undefined);
    group.durable.resolve(undefined);
  }

  /** Index after the last item that fits the rest of the current file. */
  #fitting(items: readonly JournalItem[], from: number): number {
    invariant(this.#current !== undefined, "the journal has begun");
    let left = this.#host.fileBytes - this.#current.position;
    let to = from;
    while (to < items.length && (items[to] as JournalItem).sizeBytes <= left) {
      left -= (items[to] as JournalItem).sizeBytes;
      to++;
    }
    invariant(
      to > from || this.#current.position > this.#current.openingEnd,
      "an entry fits an empty journal file",
    );
    return to;
  }

  async #writeItems(items: readonly JournalItem[]): Promise<void> {
    const current = this.#current;
    invariant(current !== undefined, "the journal has begun");
    const chunks = this.#encode(items, current.generation);
    let bytes = 0;
    for (const item of items) bytes += item.sizeBytes;
    await this.#writeAt(current, chunks, bytes);
    this.#nextEntry += items.length;
    this.#queuedBytes -= bytes;
    this.#host.onWritten(items);
    if (items.some((item) => item.needsSync)) await this.#sync();
    this.#host.onDurable(items);
  }

  /** Writes at the end of the file, allocating ahead with zeros where the file is new. */
  async #writeAt(current: CurrentFile, chunks: Uint8Array[], bytes: number): Promise<void> {
    const end = current.position + bytes;
    let allocatedBytes = current.allocatedBytes;
    if (end > allocatedBytes) {
      allocatedBytes = Math.max(end, Math.min(end + journalExtendBytes, this.#host.fileBytes));
      if (allocatedBytes > end) chunks.push(zeros.subarray(0, allocatedBytes - end));
    }
    await this.#host.whenRoom(() => current.file.write(chunks, current.position));
    current.position = end;
    current.allocatedBytes = allocatedBytes;
  }

  async #sync(): Promise<void> {
    // What is written while the disk works is not covered.
    const through = this.#nextEntry - 1;
    if (this.#current === undefined || this.#syncedThrough >= through) return;
    if (!this.#host.skipsFsync) await this.#current.file.dataSync();
    this.#syncedThrough = Math.max(this.#syncedThrough, through);
  }

  /** The bytes of the items as few chunks: heads and small batches side by side, large batches by reference. */
  #encode(items: readonly JournalItem[], generation: number): Uint8Array[] {
    let headBytes = 0;
    for (const item of items) headBytes += inlineBytes(item);
    if (this.#heads.length < headBytes) this.#heads = Buffer.allocUnsafeSlow(Math.max(65_536, headBytes * 2));
    const heads = this.#heads;
    const chunks: Uint8Array[] = [];
    let runStart = 0;
    let at = 0;
    let entryNumber = this.#nextEntry;
    for (const { entry } of items) {
      const numbers = { generation, entryNumber: entryNumber++, durableThrough: this.#syncedThrough };
      at = encodeEntryHead(heads, at, numbers, entry);
      if (entry.kind !== entryKind.append) continue;
      this.#state.applyJournaled(entry.state);
      for (const { batch } of entry.appends) {
        if (batch.length <= inlinePayloadBytesMax) {
          heads.set(batch, at);
          at += batch.length;
          continue;
        }
        chunks.push(heads.subarray(runStart, at), batch);
        runStart = at;
      }
    }
    if (at > runStart) chunks.push(heads.subarray(runStart, at));
    return chunks;
  }

  async #nextFile(): Promise<NextFile> {
    let next: NextFile | undefined;
    await this.#host.whenRoom(async () => {
      next = await this.#files.next();
    });
    invariant(next !== undefined, "a file was opened");
    return next;
  }

  /** Ends the current file and opens the next with header and state snapshot. */
  async #beginFile(): Promise<void> {
    const old = this.#current;
    if (old !== undefined) {
      await this.#sync();
      this.#full.push({ generation: old.generation, lastEntry: this.#nextEntry - 1 });
      this.#current = undefined;
      await old.file.close();
    }
    const { generation, file, allocatedBytes, isReused } = await this.#nextFile();
    const entry: JournalEntry = { kind: entryKind.state, state: this.#state.snapshot() };
    const bytes = entryBytes(entry);
    const opening = Buffer.alloc(journalHeaderBytes + bytes);
    const firstEntryNumber = this.#nextEntry;
    encodeJournalHeader({ generation, firstEntryNumber, directoryId: this.#host.directoryId }).copy(opening);
    const numbers = { generation, entryNumber: firstEntryNumber, durableThrough: this.#syncedThrough };
    encodeEntryHead(opening, journalHeaderBytes, numbers, entry);
    const openingEnd = journalHeaderBytes + bytes;
    const current: CurrentFile = {
      generation,
      file,
      position: 0,
      allocatedBytes,
      openingEnd,
    };
    await this.#writeAt(current, [opening], openingEnd);
    this.#current = current;
    this.#nextEntry++;
    await this.#sync();
    this.#host.onFileBegun(generation, isReused);
  }
}

/** Bytes of an entry that go into the shared buffer: all but its large batches. */
function inlineBytes({ entry, sizeBytes }: JournalItem): number {
  let bytes = sizeBytes;
  if (entry.kind !== entryKind.append) return bytes;
  for (const { batch } of entry.appends) if (batch.length > inlinePayloadBytesMax) bytes -= batch.length;
  return bytes;
}

function reject(group: Group, error: unknown): void {
  group.written.reject(error);
  group.durable.reject(error);
}
