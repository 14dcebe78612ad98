/**
 * One log in memory: segments, tail, epochs, producers, and the offsets that divide it.
 *
 *   startOffset <= (written to files) <= durableOffset <= endOffset
 *
 * `assign` is the append: synchronous, infallible after `checkAppend`, so that a commit over several logs is all or
 * nothing. What happens on disk follows later (journal writer, segment writer, checkpoint).
 */
import { AppError, invariant } from "@millrace/base";
import { type BatchHeader, setBaseOffset, setLeaderEpoch } from "@millrace/record";
import { asBuffer, readUint64, writeUint64 } from "./bytes.ts";
import { writeEpochHistory } from "./checkpoints.ts";
import { EpochHistory } from "./epoch-history.ts";
import type { LogContext } from "./log-context.ts";
import { findOffsetForTime, readLog } from "./log-reader.ts";
import { truncateLog } from "./log-truncate.ts";
import { encodeProducerSnapshot } from "./producer-snapshot.ts";
import { isNamedProducer, ProducerStates } from "./producer-state.ts";
import { Quarantine } from "./quarantine.ts";
import { Segment } from "./segment.ts";
import { removedProducerPrefix, replacedProducerPrefix } from "./state-table.ts";
import { Tail, type TailBatch } from "./tail.ts";
import type { Log, LogConfig, LogId, ProducerInfo, SequenceVerdict, StateChange } from "./types.ts";

/** Where a read ended: a reader that goes on there needs no index. */
export interface ReadHint {
  readonly offset: number;
  readonly segment: Segment;
  readonly position: number;
}

interface DurableWaiter {
  readonly offset: number;
  readonly run: () => void;
}

/** Text for messages and metrics. */
export function labelOf(id: LogId): string {
  return id.kind === "topic" ? `${id.topicName}-${id.partition}` : id.channelName;
}

/** A {@link Log} of a data directory. Fields without `#` that are not in the interface are the library's own. */
export class PartitionLog implements Log {
  readonly id: LogId;
  readonly label: string;
  readonly number: number;
  readonly directory: string;
  readonly context: LogContext;
  readonly tail = new Tail();
  readonly epochs = new EpochHistory();
  readonly producerStates: ProducerStates;
  readonly quarantine = new Quarantine();
  config: LogConfig;
  /** Ascending; the last one takes appends. Never empty once loaded. */
  segments: Segment[] = [];
  startOffset = 0;
  endOffset = 0;
  durableOffset = 0;
  retainFrom = Number.POSITIVE_INFINITY;
  failure: Error | undefined;
  /** Truncation or deletion under way: appends are refused, reads wait. */
  changing: Promise<void> | undefined;
  /** Its files are gone or going. */
  isDeleted = false;
  areEpochsDirty = false;
  hasNewNames = false;
  readHints: ReadHint[] = [];
  #waiters: DurableWaiter[] = [];
  #savingEpochs: Promise<void> = Promise.resolve();

  constructor(context: LogContext, number: number, id: LogId, config: LogConfig, directory: string) {
    this.context = context;
    this.number = number;
    this.id = id;
    this.label = labelOf(id);
    this.config = config;
    this.directory = directory;
    this.producerStates = new ProducerStates((producerId, why) =>
      context.emit({ kind: "producerForgotten", log: this.label, producerId, why }),
    );
  }

  get sizeBytes(): number {
    let bytes = 0;
    for (const segment of this.segments) bytes += segment.sizeBytes;
    return bytes;
  }

  get leaderEpoch(): number {
    return this.epochs.latest;
  }

  /** The segment that takes appends. */
  get activeSegment(): Segment {
    const segment = this.segments.at(-1);
    invariant(segment !== undefined, "a loaded log has a segment");
    return segment;
  }

  alterConfig(config: LogConfig): void {
    this.config = config;
  }

  /** Throws when the batch cannot be appended; changes nothing. */
  checkAppend(header: BatchHeader, leaderEpoch: number): void {
    if (this.failure !== undefined) throw this.failure;
    if (this.changing !== undefined) {
      throw new AppError("NODE_STARTING", `${this.label} is being truncated or removed: try again`);
    }
    const bytesMax = Math.min(this.config.batchBytesMax, this.config.segmentBytes);
    if (header.sizeBytes > bytesMax) {
      throw new AppError(
        "RECORD_TOO_LARGE",
        `a batch of ${header.sizeBytes} bytes for ${this.label}; the limit is ${bytesMax} (max.message.bytes, segment.bytes)`,
      );
    }
    if (leaderEpoch < this.epochs.latest) {
      throw new AppError(
        "FENCED_LEADER_EPOCH",
        `an append to ${this.label} under leader epoch ${leaderEpoch}; epoch ${this.epochs.latest} has begun`,
      );
    }
    invariant(
      Number.isSafeInteger(this.endOffset + header.lastOffsetDelta + 1),
      "offsets stay safe integers",
    );
  }

  /**
   * Assigns offset and place to a batch that passed {@link checkAppend} and adds it to the tail. `bytes` is patched and
   * kept; `reuse`, the same batch as another log took it, is shared when offset and epoch are equal.
   */
  assign(
    bytes: Uint8Array,
    header: BatchHeader,
    leaderEpoch: number,
    reuse: TailBatch | undefined,
  ): TailBatch {
    const nowMs = this.context.clock.nowMs();
    const baseOffset = this.endOffset;
    const lastOffset = baseOffset + header.lastOffsetDelta;
    const { maxTimestampMs, sizeBytes } = header;
    const stored = { baseOffset, lastOffset, maxTimestampMs, sizeBytes };
    if (this.activeSegment.shouldRoll(stored, this.config, nowMs)) this.roll();
    const segment = this.activeSegment;
    const position = segment.add(stored, this.config.indexIntervalBytes);
    if (leaderEpoch > this.epochs.latest) this.areEpochsDirty = this.epochs.assign(leaderEpoch, baseOffset);
    this.producerStates.apply(header, baseOffset, nowMs);
    const batch: TailBatch = {
      logNumber: this.number,
      segment,
      position,
      baseOffset,
      nextOffset: lastOffset + 1,
      leaderEpoch,
      bytes: patched(bytes, baseOffset, leaderEpoch, reuse),
    };
    this.endOffset = batch.nextOffset;
    this.tail.push(batch);
    return batch;
  }

  /** Closes the active segment and begins one at the end offset; on disk when the segment writer comes to it. */
  roll(): void {
    const nowMs = this.context.clock.nowMs();
    const old = this.segments.at(-1);
    old?.seal();
    // Its indexes are final now and are fsynced before the mark passes it.
    if (old !== undefined) this.context.noteDirty(this, old);
    const segment = new Segment(this.context.files, this.directory, this.endOffset, nowMs);
    this.producerStates.expire(nowMs);
    if (this.id.kind === "topic") segment.snapshot = encodeProducerSnapshot(this.producerStates.snapshot());
    this.segments.push(segment);
    this.context.emit({ kind: "segmentRolled", log: this.label, baseOffset: segment.baseOffset });
  }

  /** Everything below `offset` is durable now; wakes who waits for it. */
  advanceDurable(offset: number): void {
    if (offset <= this.durableOffset) return;
    this.durableOffset = offset;
    this.#wake();
  }

  onDurablePast(offset: number, run: () => void): () => void {
    if (this.durableOffset > offset) {
      run();
      return () => {};
    }
    const waiter = { offset, run };
    this.#waiters.push(waiter);
    return () => {
      const index = this.#waiters.indexOf(waiter);
      if (index >= 0) this.#waiters.splice(index, 1);
    };
  }

  async startEpoch(epoch: number): Promise<void> {
    this.context.checkUsable();
    if (epoch < this.epochs.latest) {
      throw new AppError(
        "FENCED_LEADER_EPOCH",
        `${this.label} is at leader epoch ${this.epochs.latest}, not at ${epoch}`,
      );
    }
    if (!this.epochs.assign(epoch, this.endOffset)) return;
    this.areEpochsDirty = true;
    await this.saveEpochs();
  }

  /** Writes `leader-epoch-checkpoint` if it has changed; one write after another. */
  saveEpochs(): Promise<void> {
    this.#savingEpochs = this.#savingEpochs.then(async () => {
      if (!this.areEpochsDirty || this.isDeleted) return;
      this.areEpochsDirty = false;
      await this.context.guard(() => writeEpochHistory(this.context.disk, this.directory, this.epochs));
    });
    return this.#savingEpochs;
  }

  epochAt(offset: number): number | undefined {
    return offset < this.startOffset || offset >= this.endOffset ? undefined : this.epochs.epochAt(offset);
  }

  endOfEpoch(epoch: number): { readonly epoch: number; readonly endOffset: number } | undefined {
    return this.epochs.endOfEpoch(epoch, this.endOffset);
  }

  read(offset: number, bytesMax: number, upTo: "durable" | "end" = "durable"): Promise<Uint8Array[]> {
    return readLog(this, offset, bytesMax, upTo);
  }

  offsetForTime(
    timestampMs: number,
  ): Promise<{ readonly offset: number; readonly timestampMs: number } | undefined> {
    return findOffsetForTime(this, timestampMs);
  }

  advanceStart(offset: number): void {
    this.context.checkUsable();
    if (offset > this.durableOffset) {
      throw new AppError(
        "OFFSET_OUT_OF_RANGE",
        `the start of ${this.label} cannot move to ${offset}: only offsets below ${this.durableOffset} are durable`,
      );
    }
    if (offset <= this.startOffset) return;
    this.startOffset = offset;
    if (this.id.kind === "topic" || this.hasSegmentsBelow(offset)) this.context.startMoved(this);
  }

  /** True when a whole segment lies below `offset`. */
  hasSegmentsBelow(offset: number): boolean {
    const second = this.segments[1];
    return second !== undefined && second.baseOffset <= offset;
  }

  truncate(offset: number): Promise<void> {
    return truncateLog(this, offset);
  }

  checkSequence(header: BatchHeader, previousProducerId = 0): SequenceVerdict {
    if (this.#successorOf(header.producerId) !== undefined) {
      return { kind: "refused", reason: "PRODUCER_FENCED", lastSequence: -1 };
    }
    return this.producerStates.check(header, previousProducerId);
  }

  replaceProducer(previousProducerId: number, producerId: number): StateChange[] {
    const mayTakeOver = isNamedProducer(previousProducerId) && isNamedProducer(producerId);
    if (!mayTakeOver || previousProducerId === producerId) return [];
    if (this.#successorOf(previousProducerId) !== undefined) return [];
    const value = Buffer.alloc(8);
    writeUint64(value, 0, producerId);
    return [{ key: `${replacedProducerPrefix(this.number)}${previousProducerId}`, value }];
  }

  /** The id that took over from a producer id (P2), or undefined. */
  #successorOf(producerId: number): number | undefined {
    if (!isNamedProducer(producerId)) return undefined;
    const bytes = this.context.getState(`${replacedProducerPrefix(this.number)}${producerId}`);
    return bytes === undefined ? undefined : readUint64(asBuffer(bytes), 0);
  }

  producers(): ProducerInfo[] {
    return this.producerStates.snapshot();
  }

  removeProducer(producerId: number): StateChange[] {
    if (!this.producerStates.remove(producerId)) return [];
    const value = Buffer.alloc(8);
    writeUint64(value, 0, this.endOffset);
    const replaced = `${replacedProducerPrefix(this.number)}${producerId}`;
    const isReplaced = this.context.getState(replaced) !== undefined;
    return [
      { key: `${removedProducerPrefix(this.number)}${producerId}`, value },
      ...(isReplaced ? [{ key: replaced, value: null }] : []),
    ];
  }

  /** Stops this log: a broken invariant or a disk content that cannot be trusted. Others go on. */
  fail(error: Error): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.context.emit({ kind: "logFailed", log: this.label, message: error.message });
  }

  #wake(): void {
    if (this.#waiters.length === 0) return;
    const passed = this.#waiters.filter((waiter) => waiter.offset < this.durableOffset);
    if (passed.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => waiter.offset >= this.durableOffset);
    for (const waiter of passed) waiter.run();
  }
}

/** The batch under its final offset and epoch: in place for the first log, a copy for one that stands elsewhere. */
function patched(
  bytes: Uint8Array,
  baseOffset: number,
  leaderEpoch: number,
  reuse: TailBatch | undefined,
): Uint8Array {
  if (reuse !== undefined && reuse.baseOffset === baseOffset && reuse.leaderEpoch === leaderEpoch)
    return reuse.bytes;
  const target = reuse === undefined ? bytes : new Uint8Array(bytes);
  setBaseOffset(target, 0, baseOffset);
  setLeaderEpoch(target, 0, leaderEpoch);
  return target;
}
