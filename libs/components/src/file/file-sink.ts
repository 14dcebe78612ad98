/**
 * The file sink: `file` in a connector, `file_roll` in an agent.
 *
 *   write: lines into a temporary file  --roll (time, size, count) or flush-->  fsync, commit entry, rename  -->  delivered
 *
 * Invariants: what is not in a commit entry counts as never written: after any error the sink is broken until it is
 * opened again, which deletes the temporary and goes on from the last entry (C5). Calls run one after the other.
 */
import { join, resolve } from "node:path";
import { AppError, invariant } from "@millrace/base";
import type {
  Assignment,
  ComponentContext,
  DestinationBooks,
  Sink,
  SinkBatch,
  SinkFeedback,
  SinkRecord,
  Standing,
} from "@millrace/flow";
import type { Timer } from "@millrace/runtime";
import { CommitLog } from "./commit-log.ts";
import type { FileSinkConfig } from "./config.ts";
import { DataFile } from "./data-file.ts";
import { namedDiskError } from "./disk-error.ts";
import type { ListedFile } from "./entry.ts";
import { type LineFormat, lineFormat } from "./line-format.ts";
import { publishedName, stemLabel } from "./naming.ts";
import { bytesPublished, filePublished, recordsEscaped, recordsPublished } from "./telemetry.ts";

/** Source keys whose positions a file's entry holds; with more it holds none. */
const positionKeysMax = 1000;

/** The file being filled and what its entry will say. */
interface OpenFile {
  readonly data: DataFile;
  readonly temporary: string;
  readonly firstOffset: number;
  lastOffset: number;
  count: number;
  readonly positions: Map<string, number>;
}

/** What is known between `open` and `close`. */
interface Opened {
  readonly log: CommitLog;
  readonly feedback: SinkFeedback;
  readonly format: LineFormat;
  file: OpenFile | undefined;
  /** Everything below is in a committed file, in the open one, or refused. */
  through: number;
  leaderEpoch: number;
  refused: number;
  escapedBefore: number;
  timer: Timer | undefined;
}

/** One output directory for one origin. */
export class FileSink implements Sink {
  readonly #config: FileSinkConfig;
  readonly #context: ComponentContext;
  readonly #directory: string;
  /** What the books said when it was last open. */
  #closedBooks: DestinationBooks = { begun: 0, resume: 0, published: 0, setAside: 0 };
  #opened: Opened | undefined;
  #failure: AppError | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: FileSinkConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
    this.#directory = resolve(config.directory);
  }

  async open(assignment: Assignment, feedback: SinkFeedback): Promise<Standing> {
    invariant(this.#opened === undefined, "a file sink is closed before it is opened again");
    const { disk } = this.#context;
    const { origin, epoch, generation, deliveredThrough } = assignment;
    try {
      await disk.makeDirectory(this.#directory);
      const log = await CommitLog.open({
        disk,
        directory: this.#directory,
        origin,
        ownerId: origin.kind === "channel" ? origin.agentId : this.#context.ownerId,
        epoch,
        generation,
        stemLabel: stemLabel(origin, this.#config.prefix),
        startOffset: deliveredThrough,
      });
      const { offset, leaderEpoch } = log.last.resume;
      const format = lineFormat(this.#config.format, this.#config.newlines, origin);
      const counts = { refused: 0, escapedBefore: 0 };
      this.#opened = {
        log,
        feedback,
        format,
        file: undefined,
        through: offset,
        leaderEpoch,
        timer: undefined,
        ...counts,
      };
      this.#failure = undefined;
      return log.isNew ? { resumeFrom: undefined } : { resumeFrom: offset, leaderEpoch };
    } catch (error) {
      throw namedDiskError(error, this.#directory);
    }
  }

  write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    return this.#exclusive((opened) => this.#take(opened, batch, signal));
  }

  flush(): Promise<void> {
    return this.#exclusive((opened) => this.#commit(opened));
  }

  publishedCount(): number {
    return this.books().published;
  }

  books(): DestinationBooks {
    const last = this.#opened?.log.last;
    if (last === undefined) return this.#closedBooks;
    const { begun, resume, totals } = last;
    const { records: published, refused: setAside, files } = totals;
    return { begun, resume: resume.offset, published, setAside, files };
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#closedBooks = this.books();
    // Calls that come from here on find the sink closed; those before are waited for.
    this.#opened = undefined;
    await this.#queue;
    opened?.timer?.cancel();
    if (opened?.file === undefined) return;
    await opened.file.data.abandon();
    await this.#context.disk.removeFile(join(opened.log.temporaryFolder, opened.file.temporary));
  }

  /** Runs `work` after the calls before it. A throw breaks the sink until it is opened again. */
  #exclusive(work: (opened: Opened) => Promise<void>): Promise<void> {
    const run = this.#queue.then(async () => {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#opened === undefined)
        throw new AppError("CANCELLED", `the sink ${this.#context.name} is closed`);
      try {
        await work(this.#opened);
      } catch (error) {
        this.#failure = namedDiskError(error, this.#directory);
        throw this.#failure;
      }
    });
    this.#queue = run.catch(() => undefined);
    return run;
  }

  async #take(opened: Opened, batch: SinkBatch, signal: AbortSignal): Promise<void> {
    for (const record of batch.records) {
      // Below: delivered before, given again by a replay from the batch that holds the resume offset.
      if (record.offset < opened.through) continue;
      if (signal.aborted) throw new AppError("CANCELLED", `the task of ${this.#context.name} was stopped`);
      const bytes = opened.format.prepare(record);
      if (typeof bytes !== "number") {
        await opened.feedback.refuse(record, bytes.refused);
        opened.refused++;
      } else {
        const file = opened.file ?? (await this.#startFile(opened, record.offset));
        if (bytes > file.data.room) await file.data.makeRoom(bytes);
        file.data.put(opened.format);
        noteRecord(file, record);
      }
      opened.through = record.offset + 1;
      opened.leaderEpoch = batch.leaderEpoch;
      if (this.#isFull(opened.file)) await this.#commit(opened);
    }
    if (batch.to > opened.through) {
      opened.refused += batch.setAsideCount ?? 0;
      opened.through = batch.to;
      opened.leaderEpoch = batch.leaderEpoch;
    }
    if (isDirty(opened)) this.#startTimer(opened);
  }

  #isFull(file: OpenFile | undefined): boolean {
    if (file === undefined) return false;
    const { rollSize, rollCount } = this.#config;
    return (rollSize > 0 && file.data.bytes >= rollSize) || (rollCount > 0 && file.count >= rollCount);
  }

  async #startFile(opened: Opened, firstOffset: number): Promise<OpenFile> {
    const temporary = opened.log.newTemporaryName();
    const path = join(opened.log.temporaryFolder, temporary);
    const data = await DataFile.create(this.#context.disk, path);
    const file = {
      data,
      temporary,
      firstOffset,
      lastOffset: firstOffset,
      count: 0,
      positions: new Map<string, number>(),
    };
    opened.file = file;
    return file;
  }

  #startTimer(opened: Opened): void {
    const { rollInterval } = this.#config;
    if (rollInterval === 0 || opened.timer !== undefined) return;
    opened.timer = this.#context.clock.after(rollInterval * 1000, () => {
      opened.timer = undefined;
      this.flush().catch((error: unknown) => {
        // A sink that was closed meanwhile has nobody to tell.
        if (this.#opened === opened) opened.feedback.fail(error);
      });
    });
  }

  /** Publishes what is held (C3) and says so. */
  async #commit(opened: Opened): Promise<void> {
    opened.timer?.cancel();
    opened.timer = undefined;
    if (!isDirty(opened)) return;
    const { log, file, through, leaderEpoch, refused } = opened;
    const files: ListedFile[] = [];
    if (file !== undefined) {
      opened.file = undefined;
      await file.data.finish();
      files.push(this.#listed(log.last.stem.name, file));
    }
    await log.commit({ files, resume: { offset: through, leaderEpoch }, refused });
    opened.refused -= refused;
    this.#count(opened, files);
    opened.feedback.delivered(through);
  }

  #listed(stem: string, file: OpenFile): ListedFile {
    const { format, extension = format === "json" ? "jsonl" : "log" } = this.#config;
    const { positions } = file;
    const hasPositions = positions.size > 0 && positions.size <= positionKeysMax;
    return {
      name: publishedName(stem, file.firstOffset, extension === "" ? "" : `.${extension}`),
      temporary: file.temporary,
      bucket: "",
      firstOffset: file.firstOffset,
      lastOffset: file.lastOffset,
      count: file.count,
      bytes: file.data.bytes,
      crc32c: file.data.crc32c,
      ...(hasPositions ? { positions: Object.fromEntries(positions) } : {}),
    };
  }

  #count(opened: Opened, files: readonly ListedFile[]): void {
    const { telemetry, name: sink } = this.#context;
    const { escapedCount } = opened.format;
    telemetry.metrics.counter(recordsEscaped).inc({ sink }, escapedCount - opened.escapedBefore);
    opened.escapedBefore = escapedCount;
    for (const { name, count, bytes } of files) {
      telemetry.emit(filePublished, { sink, file: name, records: count, bytes });
      telemetry.metrics.counter(recordsPublished).inc({ sink }, count);
      telemetry.metrics.counter(bytesPublished).inc({ sink }, bytes);
    }
  }
}

/** True when a restart would be given something again. */
function isDirty(opened: Opened): boolean {
  return opened.through > opened.log.last.resume.offset;
}

function noteRecord(file: OpenFile, record: SinkRecord): void {
  file.count++;
  file.lastOffset = record.offset;
  const position = record.sourcePosition;
  if (position !== undefined && file.positions.size <= positionKeysMax) {
    file.positions.set(position.key, Math.max(position.order, file.positions.get(position.key) ?? 0));
  }
}
