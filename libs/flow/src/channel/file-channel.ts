/**
 * The file channel: a log of the data directory with a take position in its state table.
 *
 *   put transaction: commit(all file channels of the put + positions) -> one journal entry, one fsync (A1, A3)
 *   take: log.read(durable) -> decoded read-ahead -> [from, to) outstanding in the ledger (A2)
 *   commit: ledger -> position saved lazily, many at once, no fsync of its own -> log lets go of segments (J5)
 *
 * There is no queue checkpoint: sequences are the log's offsets, so a restart needs only the position. The position is
 * saved a moment after a commit; what a crash takes back is delivered again and absorbed by the sink's own standing.
 * Memory: about `readAheadBytes` of decoded records, ranges of takes, one byte mark per MiB of backlog.
 */
import { AppError, invariant } from "@millrace/base";
import type { DataDirectory, Log, StateChange } from "@millrace/log";
import type { Clock, Timer } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { ByteMarks } from "./byte-marks.ts";
import { channelRecordsLost, channelSaveFailed } from "./events.ts";
import {
  advanceStartBytes,
  batchBytesTarget,
  byteMarkInterval,
  countedBytesInterval,
  saveDelayMs,
} from "./limits.ts";
import { countBytes, type LostRange, ReadAhead } from "./read-ahead.ts";
import { Room } from "./room.ts";
import { TakeLedger } from "./take-ledger.ts";
import {
  countedKey,
  decodeCounted,
  decodeTakeState,
  encodeCounted,
  encodeTakeState,
  takeKey,
} from "./take-state.ts";
import type { Channel, ChannelFigures, ChannelLimits, Checkpoint, Take } from "./types.ts";
import { WakeList } from "./wake-list.ts";

/** What a file channel is made of. */
export interface FileChannelOptions {
  readonly name: string;
  readonly directory: DataDirectory;
  readonly log: Log;
  readonly limits: ChannelLimits;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/** How long to wait before a failed save is tried again, milliseconds. */
const saveRetryMs = 1_000;

/** A channel on disk. */
export class FileChannel implements Channel {
  readonly name: string;
  readonly type = "file";
  readonly id: string;
  readonly durability = "fsync";
  readonly limits: ChannelLimits;
  readonly room: Room;
  readonly log: Log;
  readonly #directory: DataDirectory;
  readonly #clock: Clock;
  readonly #telemetry: Telemetry;
  readonly #ledger: TakeLedger;
  readonly #marks: ByteMarks;
  readonly #ahead: ReadAhead;
  readonly #takers = new WakeList();
  readonly #resolved = new Set<(through: number) => void>();
  #checkpoint: Checkpoint | undefined;
  #filling: Promise<void> | undefined;
  #countedBytes: number;
  #advancedBytes: number;
  #resolvedThrough: number;
  #saveTimer: Timer | undefined;
  #isClosed = false;

  /** Opens the channel: its undelivered bytes since the last count are read once. */
  static async open(options: FileChannelOptions): Promise<FileChannel> {
    const { log, directory } = options;
    const id = channelIdOf(log);
    const counted = decodeCounted(directory.getState(countedKey(id)));
    const from = Math.max(counted?.sequence ?? 0, log.startOffset);
    return new FileChannel(options, (counted?.bytes ?? 0) + (await countBytes(log, from)));
  }

  private constructor(options: FileChannelOptions, putBytes: number) {
    this.name = options.name;
    this.limits = options.limits;
    this.log = options.log;
    this.id = channelIdOf(options.log);
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#telemetry = options.telemetry;
    this.room = new Room(options.limits.records, options.limits.bytes);
    const saved = options.directory.getState(takeKey(this.id));
    const state = saved === undefined ? undefined : decodeTakeState(saved);
    const position = state?.position ?? 0;
    if (position > this.log.endOffset) {
      throw new AppError(
        "RECORD_LOST_ON_DISK",
        `channel ${this.name}: delivered through ${position}, but its log ends at ${this.log.endOffset}: the data directory is damaged or put together from different moments`,
      );
    }
    this.#ledger = new TakeLedger(position, state?.ranges ?? []);
    this.#checkpoint = state?.checkpoint;
    const releasedBytes = Math.min(state?.releasedBytes ?? 0, putBytes);
    this.#ahead = new ReadAhead(this.log);
    this.#marks = new ByteMarks({ sequence: position, bytes: releasedBytes }, byteMarkInterval);
    if (this.log.endOffset > position) this.#marks.add(this.log.endOffset, putBytes);
    this.#countedBytes = putBytes;
    this.#advancedBytes = releasedBytes;
    this.#resolvedThrough = position;
    this.#useRoom();
    if (this.log.startOffset > this.#ledger.position) {
      const error = new AppError("OFFSET_OUT_OF_RANGE", "the log starts above the take position");
      this.#skipLost({ from: this.#ledger.position, to: this.log.startOffset, error });
    }
  }

  get position(): number {
    return this.#ledger.position;
  }

  get startSequence(): number {
    return this.log.startOffset;
  }

  get endSequence(): number {
    return this.log.endOffset;
  }

  get resolvedThrough(): number {
    return this.#resolvedThrough;
  }

  get figures(): ChannelFigures {
    const { position, committedCount, outstandingCount } = this.#ledger;
    return {
      putCount: this.endSequence,
      depthCount: this.endSequence - position - committedCount,
      depthBytes: this.room.usedBytes,
      takenCount: outstandingCount,
    };
  }

  checkpoint(sink: string): Uint8Array | undefined {
    return this.#checkpoint?.sink === sink ? this.#checkpoint.bytes : undefined;
  }

  /** Largest batch to put, but for a record that is larger. */
  get batchBytesTarget(): number {
    return Math.min(batchBytesTarget, this.log.config.segmentBytes);
  }

  /** State changes that the next put carries: a count of bytes, now and then. */
  putState(): StateChange[] {
    const { last } = this.#marks;
    if (last.bytes - this.#countedBytes < countedBytesInterval) return [];
    this.#countedBytes = last.bytes;
    return [{ key: countedKey(this.id), value: encodeCounted(last) }];
  }

  /** Books `records` just committed to the log, `bytes` of batches. */
  booked(records: number, bytes: number): void {
    this.#marks.add(this.log.endOffset, this.#marks.last.bytes + bytes);
    this.room.add(records, bytes);
  }

  async take(recordsMax: number, bytesMax: number): Promise<Take | undefined> {
    let filledFrom = -1;
    for (;;) {
      const free = this.#isClosed ? undefined : this.#ledger.nextFree(this.log.durableOffset);
      if (free === undefined) return undefined;
      const take = this.#ahead.cut(free.from, Math.min(free.to, free.from + recordsMax), bytesMax);
      if (take !== undefined) {
        this.#ledger.take(take.from, take.to);
        return take;
      }
      if (this.#filling === undefined) {
        invariant(
          filledFrom !== free.from,
          `channel ${this.name}: a read at ${free.from} gives it or loses it`,
        );
        filledFrom = free.from;
        this.#filling = this.#fill(free.from);
      }
      await this.#filling;
    }
  }

  async whenTakable(signal: AbortSignal): Promise<void> {
    const next = this.#ledger.nextFree(Number.MAX_SAFE_INTEGER);
    if (this.#isClosed || next === undefined || this.log.durableOffset > next.from) return;
    const cancel = this.log.onDurablePast(next.from, () => this.#takers.wake());
    try {
      await this.#takers.wait(signal);
    } finally {
      cancel();
    }
  }

  commit(from: number, to: number, checkpoint?: Checkpoint): void {
    const moved = this.#ledger.commit(from, to);
    if (checkpoint !== undefined) this.#checkpoint = checkpoint;
    if (moved) this.#useRoom();
    this.#saveSoon(saveDelayMs);
  }

  rollback(from: number, to: number): void {
    this.#ledger.rollback(from, to);
    this.#takers.wake();
  }

  moveTo(sequence: number): void {
    invariant(
      sequence >= this.startSequence && sequence <= this.endSequence,
      `channel ${this.name} holds ${sequence}`,
    );
    this.#ledger.moveTo(sequence);
    this.#resolvedThrough = Math.min(this.#resolvedThrough, sequence);
    this.#useRoom();
    this.#takers.wake();
    this.#saveSoon(saveDelayMs);
  }

  onResolved(run: (through: number) => void): () => void {
    this.#resolved.add(run);
    return () => this.#resolved.delete(run);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#takers.wake();
    this.#saveTimer?.cancel();
    await this.#filling?.catch(() => undefined);
    if (this.#directory.failure !== undefined) return;
    try {
      await this.#directory.commit([], this.#saveChanges()).durable;
      this.#setResolved(this.position);
    } catch (error) {
      // a full disk: what was delivered since the last save is delivered again after the restart
      this.#saveFailed(error);
    }
  }

  async #fill(from: number): Promise<void> {
    try {
      const lost = await this.#ahead.fill(from);
      if (lost !== undefined) this.#skipLost(lost);
    } finally {
      this.#filling = undefined;
    }
  }

  /** Flushed data that cannot be read any more: counted as lost, never a stop. */
  #skipLost(lost: LostRange): void {
    const free = this.#ledger.nextFree(Math.min(lost.to, this.log.endOffset));
    // another taker was here first
    if (free?.from !== lost.from) return;
    this.#ledger.take(free.from, free.to);
    this.#ledger.commit(free.from, free.to);
    this.#telemetry.discarded(this.name, "lost_on_disk", free.to - free.from);
    this.#telemetry.emit(channelRecordsLost, {
      channel: this.name,
      fromSequence: free.from,
      toSequence: free.to,
      error: AppError.from(lost.error),
    });
    this.#useRoom();
    this.#saveSoon(saveDelayMs);
  }

  #useRoom(): void {
    const { position } = this.#ledger;
    const releasedBytes = this.#marks.bytesBelow(position);
    this.#marks.dropBelow(position);
    this.room.setUsed(this.endSequence - position, Math.max(0, this.#marks.last.bytes - releasedBytes));
  }

  /** Position and count of bytes go together: what is counted again at the next start is never cut off the log. */
  #saveChanges(): StateChange[] {
    const { position, committedRanges } = this.#ledger;
    const value = encodeTakeState({
      position,
      ranges: committedRanges,
      releasedBytes: this.#marks.bytesBelow(position),
      checkpoint: this.#checkpoint,
    });
    return [
      { key: takeKey(this.id), value },
      { key: countedKey(this.id), value: encodeCounted(this.#marks.last) },
    ];
  }

  #saveSoon(delayMs: number): void {
    if (this.#isClosed) return;
    this.#saveTimer ??= this.#clock.after(delayMs, () => {
      this.#saveTimer = undefined;
      this.#save();
    });
  }

  #save(): void {
    const { position } = this.#ledger;
    const releasedBytes = this.#marks.bytesBelow(position);
    let durable: Promise<void>;
    try {
      ({ durable } = this.#directory.commit([], this.#saveChanges(), { lazy: true }));
    } catch (error) {
      this.#saveFailed(error);
      return;
    }
    durable.then(
      () => {
        this.#setResolved(position);
        const { segmentBytes } = this.log.config;
        if (releasedBytes - this.#advancedBytes < Math.min(advanceStartBytes, segmentBytes)) return;
        this.#advancedBytes = releasedBytes;
        // a rewind since then wants the records back
        this.log.advanceStart(Math.min(position, this.#ledger.position));
      },
      (error: unknown) => this.#saveFailed(error),
    );
  }

  #saveFailed(error: unknown): void {
    this.#telemetry.emit(channelSaveFailed, { channel: this.name, error: AppError.from(error) });
    if (this.#directory.failure === undefined) this.#saveSoon(saveRetryMs);
  }

  #setResolved(through: number): void {
    if (through <= this.#resolvedThrough) return;
    this.#resolvedThrough = through;
    for (const run of [...this.#resolved]) run(through);
  }
}

function channelIdOf(log: Log): string {
  invariant(log.id.kind === "channel", `${log.label} is a channel's log`);
  return log.id.channelId;
}
