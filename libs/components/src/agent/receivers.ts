/**
 * The receivers of one opening of the agent sink: the present one, whom the name leads to and who gets the records, and
 * those who are sought because records of unknown outcome may be with them (rules H3, H4).
 *
 * A receiver that is found is only asked: the handshake bumps the session, so nothing sent before can land any more,
 * and its answer says what it holds. All it does not hold may go to anyone.
 */
import { AppError, invariant, RangeSet } from "@millrace/base";
import type { TransferOpen, TransferResult } from "@millrace/proto/ingest";
import { makeHandshake, type TlsClientOptions } from "@millrace/rpc";
import type { SenderParts } from "./parts.ts";
import { ReceiverSession } from "./receiver-session.ts";
import { receiverGivenUp } from "./telemetry.ts";

/** Pause between two attempts to find a receiver that records wait for, ms. */
const seekPauseMs = 500;

/** Numbers the sessions of this process: higher at every connection, whatever sink opens it (H3). */
let sessionCount = 0;

/** What the transmission is told. */
export interface ReceiverEvents {
  readonly onResult: (result: TransferResult) => void;
  /** True while records wait for `receiver`. */
  readonly isAwaited: (receiver: string) => boolean;
  /** `receiver` holds these of what waits for it and nothing else of it. True: some of it is left to be sent. */
  readonly onTold: (receiver: string, held: RangeSet) => boolean;
}

/** See the file's comment. */
export class Receivers {
  readonly #parts: SenderParts;
  readonly #events: ReceiverEvents;
  readonly #stop = new AbortController();
  readonly #sought = new Set<string>();
  #present: ReceiverSession | undefined;
  #seeking: Promise<void> | undefined;

  constructor(parts: SenderParts, events: ReceiverEvents) {
    this.#parts = parts;
    this.#events = events;
  }

  /** Who gets the records. */
  get present(): ReceiverSession {
    invariant(this.#present !== undefined, "the sink is open");
    return this.#present;
  }

  get presentId(): string {
    return this.present.directoryId;
  }

  /** Opens a session with whoever the name leads to. Throws what it refused with, or UNAVAILABLE. */
  async open(): Promise<void> {
    const { feedback } = this.#parts;
    this.#present = await this.#ask("", (error) => {
      if (!this.#stop.signal.aborted) feedback.fail(error);
    });
  }

  /** Looks for `receiver` until it answers or is given up. */
  seek(receiver: string): void {
    this.#sought.add(receiver);
    this.#seeking ??= this.#seekAll()
      .catch((error: unknown) => this.#parts.feedback.fail(error))
      .finally(() => {
        this.#seeking = undefined;
      });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#present?.close();
    await this.#seeking;
  }

  /** Each new connection may lead to another receiver; one that is not the one sought refuses and keeps its session. */
  async #seekAll(): Promise<void> {
    const { clock } = this.#parts.context;
    const { signal } = this.#stop;
    while (this.#sought.size > 0 && !signal.aborted) {
      for (const receiver of [...this.#sought]) {
        if (await this.#isSettled(receiver)) this.#sought.delete(receiver);
      }
      if (this.#sought.size > 0) await clock.sleep(seekPauseMs, signal);
    }
  }

  async #isSettled(receiver: string): Promise<boolean> {
    if (this.#stop.signal.aborted || !this.#events.isAwaited(receiver)) return true;
    try {
      const session = await this.#ask(receiver, () => undefined);
      session.close();
      this.#told(receiver, session.held);
      return true;
    } catch {
      // Not to be reached now; tried again until it is given up.
      return this.#isGivenUp(receiver);
    }
  }

  async #isGivenUp(receiver: string): Promise<boolean> {
    const { config, context, memory } = this.#parts;
    const nowMs = context.clock.monotonicMs();
    const sinceMs = memory.missingSinceMs.get(receiver) ?? nowMs;
    memory.missingSinceMs.set(receiver, sinceMs);
    if (nowMs - sinceMs < config["dispatch.pin.timeout"] || this.#stop.signal.aborted) return false;
    const recordCount = await memory.notes.giveUp(receiver);
    memory.missingSinceMs.delete(receiver);
    context.telemetry.emit(receiverGivenUp, { sink: context.name, receiver, recordCount });
    this.#told(receiver, new RangeSet());
    return true;
  }

  /** What is left of what waited is taken from the channel again: the sink is opened again for it. */
  #told(receiver: string, held: RangeSet): void {
    if (this.#stop.signal.aborted || !this.#events.onTold(receiver, held)) return;
    this.#parts.feedback.fail(
      new AppError("UNAVAILABLE", `records that waited for receiver ${receiver} go to the present one`),
    );
  }

  /** Opens a session: with `expected` only, or with anyone. */
  async #ask(expected: string, onEnd: (error: AppError) => void): Promise<ReceiverSession> {
    const { config, context, memory, feedback } = this.#parts;
    const session = await ReceiverSession.open({
      address: `${config.hostname}:${config.port}`,
      tls: this.#tls(),
      handshakeTimeoutMs: config["connect-timeout"],
      clock: context.clock,
      signal: this.#stop.signal,
      open: this.#opening(expected),
      onResult: this.#events.onResult,
      onEnd,
    });
    const held = new RangeSet(session.held.ranges);
    // Below what is resolved everything counts as held (H2).
    held.add(0, feedback.resolvedThrough);
    memory.notes.answered(session.directoryId, held);
    memory.missingSinceMs.delete(session.directoryId);
    return session;
  }

  #opening(expected: string): TransferOpen {
    const { assignment, origin, feedback, config } = this.#parts;
    return {
      handshake: makeHandshake({
        clusterId: "",
        nodeId: origin.agentName,
        incarnation: assignment.starts.at(-1) ?? "",
      }),
      agentId: origin.agentId,
      channelId: origin.channelId,
      starts: [...assignment.starts],
      startNumber: assignment.epoch,
      session: ++sessionCount,
      resolvedThrough: feedback.resolvedThrough,
      receiverDirectoryId: expected,
      allowVolatile: config.allowVolatile,
      volatileChannel: assignment.isVolatile ?? false,
    };
  }

  #tls(): TlsClientOptions | undefined {
    const { authorityFile, certificateFile, keyFile } = this.#parts.config;
    if (authorityFile === undefined) return undefined;
    return {
      authorityFile,
      ...(certificateFile === undefined ? {} : { certificateFile }),
      ...(keyFile === undefined ? {} : { keyFile }),
    };
  }
}
