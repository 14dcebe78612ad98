/**
 * Producer state of one log: a pure function of the batches applied to it (P3, P4).
 *
 * Anonymous producers follow Kafka: epoch and sequence, a window of five batches in which a repeat is recognised, a
 * higher epoch starts at 0, expiry after silence. Named producers (id >= 2^40, P1) go on across epochs, are kept
 * until removed, and every sequence up to the last one counts as held. Sequences are compared in serial arithmetic
 * (P2). After a restart only a producer's last batch is known (Kafka's snapshot holds no more): until the window has
 * filled again, an older sequence of the same epoch counts as held with its offset unknown, because accepted
 * sequences are contiguous.
 */
import { advanceWireSequence, wireDistance } from "@millrace/base";
import type { BatchHeader } from "@millrace/record";
import { anonymousProducerExpiryMs, anonymousProducersMax, producerWindowBatches } from "./limits.ts";
import { namedProducerIdMin, type ProducerInfo, type SequenceVerdict } from "./types.ts";

/** One batch a producer wrote: wire sequences and offsets, both ends inclusive. */
interface WindowBatch {
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly firstOffset: number;
  readonly lastOffset: number;
}

/** A producer's state as the snapshot file holds it. */
export interface ProducerSnapshotEntry extends ProducerInfo {
  /** Last offset minus first offset of the last batch. */
  readonly offsetDelta: number;
}

interface ProducerEntry {
  producerEpoch: number;
  lastTimestampMs: number;
  /** Wall time of the last batch seen by this process; expiry needs both clocks to agree. */
  seenMs: number;
  /** False after a restart until five batches are known again. */
  isWindowFull: boolean;
  /** Oldest first; never empty. */
  window: WindowBatch[];
}

const append: SequenceVerdict = { kind: "append" };

function last(entry: ProducerEntry): WindowBatch {
  return entry.window[entry.window.length - 1] as WindowBatch;
}

/** True for ids of named producers (P1). */
export function isNamedProducer(producerId: number): boolean {
  return producerId >= namedProducerIdMin;
}

/** All producers of one log. */
export class ProducerStates {
  readonly #producers = new Map<number, ProducerEntry>();
  readonly #onForgotten: (producerId: number, why: "expired" | "limit") => void;

  constructor(onForgotten: (producerId: number, why: "expired" | "limit") => void = () => {}) {
    this.#onForgotten = onForgotten;
  }

  get count(): number {
    return this.#producers.size;
  }

  /**
   * Judges a batch before anything else (P3). Changes nothing. A named producer that has not written here is held
   * against the id it had before (P2; 0 = none), whose epochs say nothing about the new id's.
   */
  check(header: BatchHeader, previousProducerId = 0): SequenceVerdict {
    const { producerId, baseSequence } = header;
    if (producerId < 0 || baseSequence < 0) return append;
    const own = this.#producers.get(producerId);
    // 0 is an anonymous producer's id, too.
    const mayTakeOver = isNamedProducer(producerId) && isNamedProducer(previousProducerId);
    const before = own ?? (mayTakeOver ? this.#producers.get(previousProducerId) : undefined);
    if (before === undefined) {
      return baseSequence === 0 ? append : { kind: "refused", reason: "UNKNOWN_PRODUCER", lastSequence: -1 };
    }
    return judge(before, header, own === undefined ? before.producerEpoch : header.producerEpoch);
  }

  /** Takes a batch stored at `baseOffset` into the state. No check: followers and recovery trust the log. */
  apply(header: BatchHeader, baseOffset: number, nowMs: number): void {
    const { producerId, producerEpoch, baseSequence } = header;
    if (producerId < 0 || baseSequence < 0) return;
    const batch: WindowBatch = {
      firstSequence: baseSequence,
      lastSequence: advanceWireSequence(baseSequence, header.lastOffsetDelta),
      firstOffset: baseOffset,
      lastOffset: baseOffset + header.lastOffsetDelta,
    };
    const entry = this.#producers.get(producerId);
    if (entry === undefined) {
      const isWindowFull = baseSequence === 0;
      const lastTimestampMs = header.maxTimestampMs;
      this.#producers.set(producerId, {
        producerEpoch,
        lastTimestampMs,
        seenMs: nowMs,
        isWindowFull,
        window: [batch],
      });
      if (this.#producers.size > anonymousProducersMax) this.#enforceLimit();
      return;
    }
    const startsAnew = producerEpoch !== entry.producerEpoch && !isNamedProducer(producerId);
    if (startsAnew) {
      entry.window = [];
      entry.isWindowFull = true;
    }
    entry.producerEpoch = producerEpoch;
    entry.lastTimestampMs = header.maxTimestampMs;
    entry.seenMs = nowMs;
    entry.window.push(batch);
    if (entry.window.length > producerWindowBatches) entry.window.shift();
    if (entry.window.length === producerWindowBatches) entry.isWindowFull = true;
  }

  /** Forgets one producer. True when it was there. */
  remove(producerId: number): boolean {
    return this.#producers.delete(producerId);
  }

  /** Offset of a producer's last record, or undefined. */
  lastOffsetOf(producerId: number): number | undefined {
    const entry = this.#producers.get(producerId);
    return entry === undefined ? undefined : last(entry).lastOffset;
  }

  /**
   * Forgets anonymous producers silent for a day by the times in their batches *and* by this process's clock: records
   * that carry old times (a replay of last year's logs) must not lose their producer in the middle of a retry.
   */
  expire(nowMs: number): void {
    for (const [producerId, entry] of this.#producers) {
      const silentSinceMs = Math.max(entry.lastTimestampMs, entry.seenMs);
      if (isNamedProducer(producerId) || nowMs - silentSinceMs <= anonymousProducerExpiryMs) continue;
      this.#producers.delete(producerId);
      this.#onForgotten(producerId, "expired");
    }
  }

  /** What the snapshot file holds, in insertion order. */
  snapshot(): ProducerSnapshotEntry[] {
    return [...this.#producers].map(([producerId, entry]) => {
      const { lastSequence, lastOffset, firstOffset } = last(entry);
      const { producerEpoch, lastTimestampMs } = entry;
      return {
        producerId,
        producerEpoch,
        lastSequence,
        lastOffset,
        lastTimestampMs,
        offsetDelta: lastOffset - firstOffset,
      };
    });
  }

  /** Replaces everything by a snapshot. */
  restore(entries: readonly ProducerSnapshotEntry[], nowMs: number): void {
    this.#producers.clear();
    for (const entry of entries) {
      const firstSequence = advanceWireSequence(entry.lastSequence, 2 ** 31 - entry.offsetDelta);
      this.#producers.set(entry.producerId, {
        producerEpoch: entry.producerEpoch,
        lastTimestampMs: entry.lastTimestampMs,
        seenMs: nowMs,
        isWindowFull: firstSequence === 0,
        window: [
          {
            firstSequence,
            lastSequence: entry.lastSequence,
            firstOffset: entry.lastOffset - entry.offsetDelta,
            lastOffset: entry.lastOffset,
          },
        ],
      });
    }
  }

  /** Forgets the anonymous producers silent for longest, a sixteenth at a time so that the cost is shared. */
  #enforceLimit(): void {
    const anonymous = [...this.#producers].filter(([producerId]) => !isNamedProducer(producerId));
    if (anonymous.length <= anonymousProducersMax) return;
    anonymous.sort(([, a], [, b]) => a.seenMs - b.seenMs);
    const tooMany = anonymous.length - anonymousProducersMax + (anonymousProducersMax >>> 4);
    for (const [producerId] of anonymous.slice(0, tooMany)) {
      this.#producers.delete(producerId);
      this.#onForgotten(producerId, "limit");
    }
  }
}

function offsetOf(window: readonly WindowBatch[], sequence: number): number | undefined {
  for (const batch of window) {
    const into = wireDistance(batch.firstSequence, sequence);
    if (into >= 0 && wireDistance(sequence, batch.lastSequence) >= 0) return batch.firstOffset + into;
  }
  return undefined;
}

/** What an entry says of a batch that comes under `producerEpoch`. */
function judge(entry: ProducerEntry, header: BatchHeader, producerEpoch: number): SequenceVerdict {
  const { producerId, baseSequence } = header;
  const { lastSequence } = last(entry);
  if (producerEpoch < entry.producerEpoch)
    return { kind: "refused", reason: "PRODUCER_FENCED", lastSequence };
  const isNamed = isNamedProducer(producerId);
  if (producerEpoch > entry.producerEpoch && !isNamed) {
    return baseSequence === 0 ? append : { kind: "refused", reason: "OUT_OF_ORDER_SEQUENCE", lastSequence };
  }
  const batchLast = advanceWireSequence(baseSequence, header.lastOffsetDelta);
  const ahead = wireDistance(lastSequence, baseSequence);
  if (ahead === 1) return append;
  if (ahead > 1) return { kind: "refused", reason: "OUT_OF_ORDER_SEQUENCE", lastSequence };
  const isWholeHeld = wireDistance(lastSequence, batchLast) <= 0;
  return isNamed
    ? heldByNamed(entry, baseSequence, batchLast, isWholeHeld)
    : heldByAnonymous(entry, baseSequence, batchLast, isWholeHeld);
}

/** Named: whatever lies at or below the last sequence is held, however it was batched (A4 lets retries re-batch). */
function heldByNamed(
  entry: ProducerEntry,
  first: number,
  batchLast: number,
  isWholeHeld: boolean,
): SequenceVerdict {
  const { lastSequence, lastOffset } = last(entry);
  if (!isWholeHeld) return { kind: "partlyPresent", lastSequence };
  return {
    kind: "duplicate",
    baseOffset: offsetOf(entry.window, first) ?? -1,
    throughOffset: offsetOf(entry.window, batchLast) ?? lastOffset,
  };
}

/** Anonymous: Kafka's rule, the very same batch within the window. */
function heldByAnonymous(
  entry: ProducerEntry,
  first: number,
  batchLast: number,
  isWholeHeld: boolean,
): SequenceVerdict {
  const { lastSequence, lastOffset } = last(entry);
  const same = entry.window.find(
    (batch) => batch.firstSequence === first && batch.lastSequence === batchLast,
  );
  if (same !== undefined)
    return { kind: "duplicate", baseOffset: same.firstOffset, throughOffset: same.lastOffset };
  const isBeforeWindow = wireDistance((entry.window[0] as WindowBatch).firstSequence, batchLast) < 0;
  if (isWholeHeld && isBeforeWindow && !entry.isWindowFull) {
    return { kind: "duplicate", baseOffset: -1, throughOffset: lastOffset };
  }
  return { kind: "refused", reason: "OUT_OF_ORDER_SEQUENCE", lastSequence };
}
