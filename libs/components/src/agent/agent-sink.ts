/**
 * The agent sink: the sending side of the hop (rules H1, H3, H4).
 *
 *   write --> parcels --> the receiver the name leads to, many in flight --> answers --> contiguous prefix: `delivered`
 *
 * Every failure of the connection, and every restart, takes the same way: the sink is opened again, the channel
 * gives everything unanswered once more, the notes say which receiver may have it, and that receiver says what it
 * holds. Records it does not hold go there again and nowhere else, until it is given up.
 */
import { AppError, invariant } from "@millrace/base";
import {
  type Assignment,
  type ComponentContext,
  encodeRecords,
  type Sink,
  type SinkBatch,
  type SinkFeedback,
  type SinkRecord,
  type Standing,
} from "@millrace/flow";
import type { TransferResult } from "@millrace/proto/ingest";
import { readBatchHeader } from "@millrace/record";
import { makeHandshake, type TlsClientOptions } from "@millrace/rpc";
import type { AgentSinkConfig } from "./config.ts";
import { Dispatch, type Parcel } from "./dispatch.ts";
import { ReceiverNotes } from "./receiver-notes.ts";
import { ReceiverSession } from "./receiver-session.ts";
import { receiverGivenUp } from "./telemetry.ts";

/** Bytes of parcels kept until they are answered. */
const unansweredBytesMax = 32 * 1024 * 1024;
/** Pause between two attempts to find a receiver that records wait for, ms. */
const seekPauseMs = 500;

/** Numbers the sessions of this process: higher at every connection, whatever sink opens it (H3). */
let sessionCount = 0;

interface Payload {
  readonly batch: Uint8Array;
  readonly records: readonly SinkRecord[];
}

export class AgentSink implements Sink {
  readonly #config: AgentSinkConfig;
  readonly #context: ComponentContext;
  /** Since when a receiver that records wait for has not been met, monotonic ms; kept over openings. */
  readonly #missingSinceMs = new Map<string, number>();
  #run: AgentSinkRun | undefined;

  constructor(config: AgentSinkConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
  }

  async open(assignment: Assignment, feedback: SinkFeedback): Promise<Standing> {
    if (assignment.origin.kind !== "channel") {
      throw new AppError("INVALID_CONFIG", "the agent sink delivers from an agent's channel only");
    }
    this.#run = new AgentSinkRun(this.#config, this.#context, assignment, feedback, this.#missingSinceMs);
    await this.#run.open();
    return { resumeFrom: undefined };
  }

  write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    invariant(this.#run !== undefined, "the sink is open");
    return this.#run.write(batch, signal);
  }

  async flush(signal: AbortSignal): Promise<void> {
    await this.#run?.flush(signal);
  }

  async close(): Promise<void> {
    await this.#run?.close();
    this.#run = undefined;
  }
}

/** The sink between one open and the next close. */
class AgentSinkRun {
  readonly #config: AgentSinkConfig;
  readonly #context: ComponentContext;
  readonly #assignment: Assignment;
  readonly #feedback: SinkFeedback;
  readonly #missingSinceMs: Map<string, number>;
  readonly #dispatch: Dispatch<Payload>;
  readonly #notes: ReceiverNotes;
  readonly #stop = new AbortController();
  /** By directory id. The primary gets what is free; others only what is pinned to them. */
  readonly #sessions = new Map<string, ReceiverSession>();
  #primary: ReceiverSession | undefined;
  readonly #inFlight = new Map<
    number,
    { readonly parcel: Parcel<Payload>; readonly session: ReceiverSession }
  >();
  #correlationId = 0;
  #unansweredBytes = 0;
  #inFlightBytes = 0;
  #pumping: Promise<void> | undefined;
  #seeking: Promise<void> | undefined;
  #mustPump = false;
  #progress = Promise.withResolvers<undefined>();
  #unsubscribe: (() => void) | undefined;

  constructor(
    config: AgentSinkConfig,
    context: ComponentContext,
    assignment: Assignment,
    feedback: SinkFeedback,
    missingSinceMs: Map<string, number>,
  ) {
    this.#config = config;
    this.#context = context;
    this.#assignment = assignment;
    this.#feedback = feedback;
    this.#missingSinceMs = missingSinceMs;
    this.#dispatch = new Dispatch(assignment.deliveredThrough);
    this.#notes = new ReceiverNotes(feedback);
  }

  async open(): Promise<void> {
    this.#primary = await this.#connect();
    this.#unsubscribe = this.#feedback.onResolved((through) => {
      for (const session of this.#sessions.values()) {
        session.send({ message: { $case: "resolved", value: { resolvedThrough: through } } });
      }
    });
  }

  async write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    let from = batch.from;
    while (from < batch.to) {
      const owner = this.#notes.ownerAt(from, batch.to);
      this.#add(from, batch.records.slice(from - batch.from, owner.to - batch.from), owner.receiver);
      from = owner.to;
    }
    this.#pump();
    while (this.#unansweredBytes >= unansweredBytesMax || this.#dispatch.count >= this.#config.inFlight) {
      await this.#nextProgress(signal);
    }
  }

  async flush(signal: AbortSignal): Promise<void> {
    while (this.#dispatch.count > 0) await this.#nextProgress(signal);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#unsubscribe?.();
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
    this.#progress.resolve(undefined);
    await this.#pumping;
    await this.#seeking;
  }

  /** Makes parcels of consecutive records; what the owner holds already is done. */
  #add(from: number, records: readonly SinkRecord[], owner: string | undefined): void {
    let next = from;
    for (const batch of encodeRecords(records)) {
      const { recordCount } = readBatchHeader(batch);
      const to = next + recordCount;
      const session = owner === undefined ? undefined : this.#sessions.get(owner);
      if (session?.held.missing(next, to).length === 0) this.#dispatch.addHeld(next, to);
      else {
        const payload = { batch, records: records.slice(next - from, to - from) };
        this.#dispatch.add(next, to, payload, owner, this.#notes.isDoubtful(next));
        this.#unansweredBytes += batch.byteLength;
      }
      next = to;
    }
    if (owner !== undefined && !this.#sessions.has(owner)) this.#seek();
    this.#report();
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
        for (const session of [...this.#sessions.values()]) await this.#sendTo(session);
      }
    } catch (error) {
      this.#feedback.fail(error);
    }
  }

  async #sendTo(session: ReceiverSession): Promise<void> {
    const isPrimary = session === this.#primary;
    while (this.#sessions.get(session.directoryId) === session) {
      const parcel = this.#dispatch.next(session.directoryId, isPrimary);
      if (parcel === undefined) return;
      const bytes = parcel.payload.batch.byteLength;
      if (this.#inFlightBytes > 0 && this.#inFlightBytes + bytes > session.creditBytes) return;
      parcel.isInFlight = true;
      await this.#notes.reserve(session.directoryId, parcel.from, parcel.to);
      if (this.#sessions.get(session.directoryId) !== session) return;
      this.#send(parcel, session);
    }
  }

  #send(parcel: Parcel<Payload>, session: ReceiverSession): void {
    const correlationId = ++this.#correlationId;
    const { from, to, payload, possibleDuplicate } = parcel;
    this.#inFlight.set(correlationId, { parcel, session });
    this.#inFlightBytes += payload.batch.byteLength;
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

  #onResult(result: TransferResult): void {
    const sent = this.#inFlight.get(result.correlationId);
    if (sent === undefined) return;
    this.#inFlight.delete(result.correlationId);
    this.#inFlightBytes -= sent.parcel.payload.batch.byteLength;
    if (result.error === undefined) this.#finish(sent.parcel);
    else this.#refused(sent.parcel, result.error).catch((error: unknown) => this.#feedback.fail(error));
  }

  #finish(parcel: Parcel<Payload>): void {
    this.#unansweredBytes -= parcel.payload.batch.byteLength;
    this.#dispatch.answered(parcel);
    this.#report();
    this.#pump();
  }

  /** The receiver can never take the batch: its records are tried one by one, the one it refuses is set aside. */
  async #refused(
    parcel: Parcel<Payload>,
    error: { readonly reason: string; readonly message: string },
  ): Promise<void> {
    const [first, ...others] = parcel.payload.records;
    invariant(first !== undefined, "a parcel has records");
    if (others.length === 0) {
      await this.#feedback.refuse(first, `${error.reason}: ${error.message}`);
      this.#finish(parcel);
      return;
    }
    const pieces = parcel.payload.records.map((record) => {
      const [batch] = encodeRecords([record]);
      invariant(batch !== undefined, "a record is encoded");
      return { from: record.offset, to: record.offset + 1, payload: { batch, records: [record] } };
    });
    const bytes = pieces.reduce((sum, piece) => sum + piece.payload.batch.byteLength, 0);
    this.#unansweredBytes += bytes - parcel.payload.batch.byteLength;
    this.#dispatch.split(parcel, pieces);
    this.#pump();
  }

  #report(): void {
    if (this.#stop.signal.aborted) return;
    this.#feedback.delivered(this.#dispatch.resolvedThrough);
    this.#progress.resolve(undefined);
    this.#progress = Promise.withResolvers();
  }

  #nextProgress(signal: AbortSignal): Promise<void> {
    if (this.#stop.signal.aborted) return Promise.reject(new AppError("CANCELLED", "the sink is closed"));
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const abort = (): void =>
        reject(new AppError("CANCELLED", "stopped while waiting for the receiver's answer"));
      signal.addEventListener("abort", abort, { once: true });
      void this.#progress.promise.then(() => {
        signal.removeEventListener("abort", abort);
        resolve();
      });
    });
  }

  /** Opens a session with whoever the name leads to, or only with `expected`. */
  async #connect(expected = ""): Promise<ReceiverSession> {
    const { origin, starts, epoch } = this.#assignment;
    invariant(origin.kind === "channel", "the sink was opened on a channel");
    const session = await ReceiverSession.open({
      address: `${this.#config.hostname}:${this.#config.port}`,
      tls: this.#tls(),
      handshakeTimeoutMs: this.#config["connect-timeout"],
      clock: this.#context.clock,
      open: {
        handshake: makeHandshake({
          clusterId: "",
          nodeId: origin.agentName,
          incarnation: starts.at(-1) ?? "",
          nodeEpoch: 0,
        }),
        agentId: origin.agentId,
        channelId: origin.channelId,
        starts: [...starts],
        startNumber: epoch,
        session: ++sessionCount,
        resolvedThrough: this.#feedback.resolvedThrough,
        receiverDirectoryId: expected,
        allowVolatile: this.#config.allowVolatile,
      },
      onResult: (result) => this.#onResult(result),
      onEnd: (ended, error) => this.#onEnd(ended, error),
    });
    this.#sessions.set(session.directoryId, session);
    this.#missingSinceMs.delete(session.directoryId);
    return session;
  }

  #onEnd(session: ReceiverSession, error: AppError): void {
    if (this.#sessions.get(session.directoryId) !== session) return;
    this.#sessions.delete(session.directoryId);
    this.#feedback.fail(error);
  }

  /** Looks for the receivers that records are pinned to: each new connection may lead to another one. */
  #seek(): void {
    this.#seeking ??= this.#seekAll().finally(() => {
      this.#seeking = undefined;
    });
  }

  async #seekAll(): Promise<void> {
    const { clock } = this.#context;
    for (;;) {
      const missing = this.#notes.receivers.filter(
        (receiver) => !this.#sessions.has(receiver) && this.#dispatch.isAwaited(receiver),
      );
      if (missing.length === 0) return;
      for (const receiver of missing) await this.#giveUpIfOverdue(receiver);
      await clock.sleep(seekPauseMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      for (const receiver of missing) await this.#seekOnce(receiver);
    }
  }

  /** A receiver that is not the one sought refuses at the handshake and keeps the session it has. */
  async #seekOnce(receiver: string): Promise<void> {
    try {
      await this.#connect(receiver);
      this.#pump();
    } catch {
      // Not to be reached now; tried again until it is given up.
    }
  }

  async #giveUpIfOverdue(receiver: string): Promise<void> {
    const nowMs = this.#context.clock.monotonicMs();
    const sinceMs = this.#missingSinceMs.get(receiver) ?? nowMs;
    this.#missingSinceMs.set(receiver, sinceMs);
    if (nowMs - sinceMs < this.#config["dispatch.pin.timeout"]) return;
    const recordCount = this.#dispatch.free(receiver);
    await this.#notes.forget(receiver);
    this.#missingSinceMs.delete(receiver);
    this.#context.telemetry.emit(receiverGivenUp, { sink: this.#context.name, receiver, recordCount });
    this.#pump();
  }

  #tls(): TlsClientOptions | undefined {
    const { authorityFile, certificateFile, keyFile } = this.#config;
    if (authorityFile === undefined) return undefined;
    return {
      authorityFile,
      ...(certificateFile === undefined ? {} : { certificateFile }),
      ...(keyFile === undefined ? {} : { keyFile }),
    };
  }
}
