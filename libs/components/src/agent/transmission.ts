/** The agent sink between one opening and the next close: parcels out, answers in. See agent-sink.ts. */
import { AppError, type errorTable } from "@millrace/base";
import { encodeRecords, type SinkBatch, type SinkRecord } from "@millrace/flow";
import type { TransferResult } from "@millrace/proto/ingest";
import { readBatchHeader } from "@millrace/record";
import type { Timer } from "@millrace/runtime";
import { Dispatch, type Parcel } from "./dispatch.ts";
import type { SenderParts } from "./parts.ts";
import type { ReceiverSession } from "./receiver-session.ts";
import { Receivers } from "./receivers.ts";

/** Bytes of parcels kept until they are answered. */
const unansweredBytesMax = 32 * 1024 * 1024;
/** Least time between two reports of what is resolved, ms: each is a put at the receiver. */
const resolvedIntervalMs = 100;

/** Refusals that concern the records sent; any other is a failure of the receiver, and the records are kept. */
const recordRefusals: ReadonlySet<string> = new Set([
  "INVALID_RECORD",
  "RECORD_CORRUPT",
  "RECORD_TOO_LARGE",
  "LIMIT_EXCEEDED",
] satisfies (keyof typeof errorTable)[]);

interface Payload {
  readonly batch: Uint8Array;
  readonly records: readonly SinkRecord[];
}

/** See the file's comment. */
export class Transmission {
  readonly #parts: SenderParts;
  readonly #dispatch: Dispatch<Payload>;
  readonly #receivers: Receivers;
  readonly #stop = new AbortController();
  readonly #inFlight = new Map<number, Parcel<Payload>>();
  #correlationId = 0;
  #unansweredBytes = 0;
  #inFlightBytes = 0;
  /** Most records in a parcel: lowered to what the receiver's channels take in one transaction. */
  #parcelRecordsMax = Number.MAX_SAFE_INTEGER;
  #pumping: Promise<void> | undefined;
  #mustPump = false;
  #progress = Promise.withResolvers<undefined>();
  #resolvedTimer: Timer | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(parts: SenderParts) {
    this.#parts = parts;
    this.#dispatch = new Dispatch(parts.assignment.deliveredThrough);
    this.#receivers = new Receivers(parts, {
      onResult: (result) => this.#onResult(result),
      isAwaited: (receiver) => this.#dispatch.awaited.includes(receiver),
      onTold: (receiver, held) => {
        const left = this.#dispatch.told(receiver, held);
        this.#report();
        return left.length > 0;
      },
    });
  }

  async open(): Promise<void> {
    await this.#receivers.open();
    this.#unsubscribe = this.#parts.feedback.onResolved(() => this.#resolvedSoon());
  }

  async write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    let next = batch.from;
    for (let i = 0; i < batch.records.length; ) {
      const first = batch.records[i] as SinkRecord;
      if (first.offset > next) this.#dispatch.addDone(next, first.offset);
      const length = runLength(batch.records, i);
      this.#addRun(batch.records.slice(i, i + length));
      next = first.offset + length;
      i += length;
    }
    if (batch.to > next) this.#dispatch.addDone(next, batch.to);
    this.#report();
    this.#pump();
    while (
      this.#unansweredBytes >= unansweredBytesMax ||
      this.#dispatch.count >= this.#parts.config.inFlight
    ) {
      await this.#nextProgress(signal);
    }
  }

  async flush(signal: AbortSignal): Promise<void> {
    while (!this.#dispatch.isEmpty) await this.#nextProgress(signal);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#unsubscribe?.();
    this.#resolvedTimer?.cancel();
    this.#progress.resolve(undefined);
    await this.#receivers.close();
    await this.#pumping;
  }

  /** Adds records of consecutive sequences, as the notes say. */
  #addRun(records: readonly SinkRecord[]): void {
    const { notes } = this.#parts.memory;
    const first = (records[0] as SinkRecord).offset;
    for (let from = first; from < first + records.length; ) {
      const { receiver, isDoubtful, to } = notes.fateAt(from, first + records.length);
      if (receiver === undefined) this.#addFree(records.slice(from - first, to - first), isDoubtful);
      // Asked at its opening: what is uncertain there it holds.
      else if (receiver === this.#receivers.presentId) this.#dispatch.addDone(from, to);
      else {
        this.#dispatch.addPinned(from, to, receiver);
        this.#receivers.seek(receiver);
      }
      from = to;
    }
  }

  #addFree(records: readonly SinkRecord[], isDoubtful: boolean): void {
    for (let at = 0; at < records.length; at += this.#parcelRecordsMax) {
      for (const parcel of this.#encode(records.slice(at, at + this.#parcelRecordsMax))) {
        this.#dispatch.add(parcel.from, parcel.to, parcel.payload, isDoubtful);
        this.#unansweredBytes += parcel.payload.batch.byteLength;
      }
    }
  }

  /** Batches of consecutive records: one, or more when they are large. */
  #encode(records: readonly SinkRecord[]): { from: number; to: number; payload: Payload }[] {
    const first = (records[0] as SinkRecord).offset;
    let from = first;
    return encodeRecords(records).map((batch) => {
      const to = from + readBatchHeader(batch).recordCount;
      const piece = { from, to, payload: { batch, records: records.slice(from - first, to - first) } };
      from = to;
      return piece;
    });
  }

  #pump(): void {
    this.#mustPump = true;
    this.#pumping ??= this.#pumpAll().finally(() => {
      this.#pumping = undefined;
    });
  }

  async #pumpAll(): Promise<void> {
    try {
      while (this.#mustPump && !this.#stop.signal.aborted) {
        this.#mustPump = false;
        await this.#sendAll();
      }
    } catch (error) {
      this.#parts.feedback.fail(error);
    }
  }

  async #sendAll(): Promise<void> {
    const session = this.#receivers.present;
    for (let parcel = this.#dispatch.next(); parcel !== undefined; parcel = this.#dispatch.next()) {
      const bytes = parcel.payload.batch.byteLength;
      if (this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > session.creditBytes) return;
      await this.#parts.memory.notes.reserve(session.directoryId, parcel.from, parcel.to);
      if (this.#stop.signal.aborted) return;
      this.#send(parcel, session);
    }
  }

  #send(parcel: Parcel<Payload>, session: ReceiverSession): void {
    const correlationId = ++this.#correlationId;
    const { from, to, payload, possibleDuplicate } = parcel;
    parcel.isInFlight = true;
    this.#inFlight.set(correlationId, parcel);
    this.#inFlightBytes += payload.batch.byteLength;
    this.#parts.memory.notes.sent(session.directoryId, from, to);
    session.send({
      message: {
        $case: "batch",
        value: {
          correlationId,
          firstSequence: from,
          recordCount: to - from,
          batch: payload.batch,
          possibleDuplicate,
        },
      },
    });
  }

  #onResult({ correlationId, error }: TransferResult): void {
    const parcel = this.#inFlight.get(correlationId);
    if (parcel === undefined || this.#stop.signal.aborted) return;
    this.#inFlight.delete(correlationId);
    this.#inFlightBytes -= parcel.payload.batch.byteLength;
    if (error === undefined) this.#finish(parcel);
    else this.#refused(parcel, error).catch((failure: unknown) => this.#parts.feedback.fail(failure));
  }

  #finish(parcel: Parcel<Payload>): void {
    if (parcel.possibleDuplicate) this.#parts.memory.possibleDuplicateCount += parcel.to - parcel.from;
    this.#unansweredBytes -= parcel.payload.batch.byteLength;
    this.#dispatch.answered(parcel);
    this.#report();
    this.#pump();
  }

  /** The receiver cannot take the batch: its halves are tried, down to the record it refuses, which is set aside. */
  async #refused(
    parcel: Parcel<Payload>,
    error: { readonly reason: string; readonly message: string },
  ): Promise<void> {
    const { records, batch } = parcel.payload;
    if (!recordRefusals.has(error.reason)) {
      throw new AppError("HOP_REFUSED", `the receiver refused records: ${error.reason}: ${error.message}`);
    }
    if (records.length === 1) {
      await this.#parts.feedback.refuse(records[0] as SinkRecord, `${error.reason}: ${error.message}`);
      if (!this.#stop.signal.aborted) this.#finish(parcel);
      return;
    }
    const half = Math.ceil(records.length / 2);
    if (error.reason === "LIMIT_EXCEEDED") this.#parcelRecordsMax = Math.min(this.#parcelRecordsMax, half);
    const pieces = [...this.#encode(records.slice(0, half)), ...this.#encode(records.slice(half))];
    const bytes = pieces.reduce((sum, piece) => sum + piece.payload.batch.byteLength, 0);
    this.#unansweredBytes += bytes - batch.byteLength;
    this.#dispatch.split(parcel, pieces);
    this.#pump();
  }

  #report(): void {
    if (this.#stop.signal.aborted) return;
    this.#parts.feedback.delivered(this.#dispatch.resolvedThrough);
    this.#progress.resolve(undefined);
    this.#progress = Promise.withResolvers();
  }

  #nextProgress(signal: AbortSignal): Promise<void> {
    if (this.#stop.signal.aborted) return Promise.reject(new AppError("CANCELLED", "the sink is closed"));
    if (signal.aborted) return Promise.reject(stopped());
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(stopped());
      signal.addEventListener("abort", abort, { once: true });
      void this.#progress.promise.then(() => {
        signal.removeEventListener("abort", abort);
        resolve();
      });
    });
  }

  /** H2: tells the receiver what it may forget, now and then. */
  #resolvedSoon(): void {
    this.#resolvedTimer ??= this.#parts.context.clock.after(resolvedIntervalMs, () => {
      this.#resolvedTimer = undefined;
      if (this.#stop.signal.aborted) return;
      const { resolvedThrough } = this.#parts.feedback;
      this.#receivers.present.send({ message: { $case: "resolved", value: { resolvedThrough } } });
    });
  }
}

/** Number of records from index `at` on whose sequences follow each other. */
function runLength(records: readonly SinkRecord[], at: number): number {
  const first = (records[at] as SinkRecord).offset;
  // Without a gap, which is nearly always, the last one says so.
  const rest = records.length - at;
  if ((records.at(-1) as SinkRecord).offset === first + rest - 1) return rest;
  let length = 1;
  while (records[at + length]?.offset === first + length) length++;
  return length;
}

function stopped(): AppError {
  return new AppError("CANCELLED", "stopped while waiting for the receiver's answer");
}
