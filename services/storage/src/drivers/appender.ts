/**
 * One batch into one partition: the leader's checks in their order, the commit, and what to answer.
 *
 * Order (rule P3): leadership, then the producer's sequence, then everything else. A repetition is therefore
 * recognised even where the batch would be refused today (a smaller max.message.bytes), and never refused with an
 * error that makes its sender drop records that are in the log.
 */
import { AppError, invariant } from "@millrace/base";
import { type DataDirectory, namedProducerIdMin, type SequenceVerdict } from "@millrace/log";
import type { RecordList } from "@millrace/proto/common";
import type { ProduceBatch } from "@millrace/proto/storage";
import {
  type BatchHeader,
  encodeBatch,
  type Record,
  readBatchHeader,
  validateProducedBatch,
  verifyBatch,
} from "@millrace/record";
import type { Clock } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { sequenceReset } from "../events.ts";
import type { Partitions, ServedPartition } from "./partitions.ts";

/** What a batch became. */
export interface Appended {
  /** -1 for a recognised repetition whose offset is no longer known. */
  readonly baseOffset: number;
  readonly isDuplicate: boolean;
  readonly recordCount: number;
  readonly leaderEpoch: number;
  /** The answer may be given when this resolves; undefined: at once. Rejects STORAGE_FAILED: outcome unknown. */
  readonly durable: Promise<void> | undefined;
}

/** Counters read at scrape. */
export interface AppendCounts {
  batches: number;
  records: number;
  bytes: number;
  duplicates: number;
}

/** What an appender works with. */
export interface AppenderOptions {
  readonly directory: DataDirectory;
  readonly partitions: Partitions;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** Told of every producer id: the directory remembers the highest (rule L1's floors). */
  readonly onProducerId: (producerId: number) => void;
}

/** See the file's comment. */
export class Appender {
  readonly counts: AppendCounts = { batches: 0, records: 0, bytes: 0, duplicates: 0 };
  readonly #options: AppenderOptions;

  constructor(options: AppenderOptions) {
    this.#options = options;
  }

  /** undefined when a batch may be appended now; otherwise resolves when it may. */
  whenWritable(): Promise<void> | undefined {
    return this.#options.directory.whenWritable();
  }

  /** Appends. Synchronous up to durability; throws AppError when the batch is refused: nothing of it is in the log. */
  append(request: ProduceBatch): Appended {
    const served = this.#options.partitions.serve(request.topicId, request.partition, request.leaderEpoch);
    const bytes = this.#bytesOf(request);
    const header = readBatchHeader(bytes);
    const verdict = served.log.checkSequence(header, request.previousProducerId);
    if (verdict.kind !== "append") {
      verifyBatch(bytes); // the verdict rests on the header: it must be the sender's
      if (!this.#mayReset(request, header, verdict)) return this.#held(served, header, verdict);
    }
    validateProducedBatch(bytes, { bytesMax: served.log.config.batchBytesMax });
    if (verdict.kind === "refused") this.#logReset(served, header, verdict.lastSequence);
    return this.#commit(served, header, bytes, request.previousProducerId);
  }

  #commit(
    { log, leaderEpoch }: ServedPartition,
    header: BatchHeader,
    bytes: Uint8Array,
    previousProducerId: number,
  ): Appended {
    const { directory, onProducerId } = this.#options;
    // P2: with the first batch of the new id, in one entry, the old one is closed.
    const state = log.replaceProducer(previousProducerId, header.producerId);
    const { baseOffsets, durable } = directory.commit([{ logs: [log], batch: bytes, leaderEpoch }], state);
    const baseOffset = baseOffsets[0]?.[0];
    invariant(baseOffset !== undefined, "a commit of one batch into one log gives one offset");
    if (header.producerId >= 0) onProducerId(header.producerId);
    this.counts.batches++;
    this.counts.records += header.recordCount;
    this.counts.bytes += bytes.byteLength;
    return { baseOffset, isDuplicate: false, recordCount: header.recordCount, leaderEpoch, durable };
  }

  /** A batch that is there already, wholly or in part, or that leaves a gap. */
  #held(
    { log, leaderEpoch, hosted }: ServedPartition,
    header: BatchHeader,
    verdict: Exclude<SequenceVerdict, { kind: "append" }>,
  ): Appended {
    if (verdict.kind === "duplicate") {
      this.counts.duplicates++;
      // success only once the high watermark has passed it (P3): the first copy may be in flight itself
      const isDurable = log.durableOffset > verdict.throughOffset;
      return {
        baseOffset: verdict.baseOffset,
        isDuplicate: true,
        recordCount: header.recordCount,
        leaderEpoch,
        durable: isDurable ? undefined : this.#options.directory.flush(),
      };
    }
    const metadata = { lastSequence: String(verdict.lastSequence), sequence: String(header.baseSequence) };
    const who = `${hosted.label}: producer ${header.producerId} epoch ${header.producerEpoch}`;
    if (verdict.kind === "partlyPresent") {
      throw new AppError(
        "SEQUENCE_PARTLY_PRESENT",
        `${who} sent sequences from ${header.baseSequence}, those up to ${verdict.lastSequence} are held; send the rest`,
        { metadata },
      );
    }
    const problem = {
      OUT_OF_ORDER_SEQUENCE: `sent sequence ${header.baseSequence} after ${verdict.lastSequence}`,
      UNKNOWN_PRODUCER: `is not known here and sent sequence ${header.baseSequence}`,
      PRODUCER_FENCED: "is fenced: a newer epoch of it exists",
    }[verdict.reason];
    throw new AppError(verdict.reason, `${who} ${problem}`, { metadata });
  }

  /** Rule P5: a named producer may go on behind a gap when it says so. */
  #mayReset(request: ProduceBatch, header: BatchHeader, verdict: SequenceVerdict): boolean {
    return (
      request.resetSequence &&
      header.producerId >= namedProducerIdMin &&
      verdict.kind === "refused" &&
      verdict.reason !== "PRODUCER_FENCED"
    );
  }

  #logReset({ hosted }: ServedPartition, header: BatchHeader, lastSequence: number): void {
    this.#options.telemetry.emit(sequenceReset, {
      partition: hosted.label,
      producerId: header.producerId,
      producerEpoch: header.producerEpoch,
      lastSequence,
      sequence: header.baseSequence,
    });
  }

  #bytesOf({ data }: ProduceBatch): Uint8Array {
    if (data?.$case === "batch") return data.value;
    if (data?.$case === "records") return encodeBatch(toRecords(data.value, this.#options.clock.nowMs()));
    throw new AppError(
      "INVALID_REQUEST",
      "a produce request carries a batch or records; this one has neither",
    );
  }
}

function toRecords(list: RecordList, nowMs: number): Record[] {
  if (list.records.length === 0) throw new AppError("INVALID_RECORD", "a produce request has no records");
  return list.records.map((record) => ({
    key: record.key ?? null,
    value: record.value ?? null,
    headers: record.headers.map(({ key, value }) => ({ key, value: value ?? null })),
    timestampMs: record.timestampMs ?? nowMs,
  }));
}
