/**
 * Watchers of the metadata. Recent changes are kept in one bounded backlog; a watcher is a position in it, so a slow
 * one costs nothing. One that falls behind the backlog is told to watch again (it gets a snapshot).
 *
 * A token proves its history by the hash: the log id, the sequence and the hash must be of this log, otherwise the
 * watcher has followed another history and must stop (design §4). Old but true tokens are answered with a snapshot.
 */
import { AppError } from "@millrace/base";
import { type ClusterImage, changesOf } from "@millrace/controller";
import type { LogPosition, MetadataLog } from "@millrace/coordination";
import type { HandshakeReply } from "@millrace/proto/common";
import { MetadataDelta, type WatchMetadataResponse, type WatchToken } from "@millrace/proto/metadata";
import type { OutgoingStream } from "@millrace/rpc";
import type { Clock } from "@millrace/runtime";
import { toDelta, toSnapshot } from "../rpc/to-proto.ts";
import type { CommittedChange } from "./active-controller.ts";

/** Limits of the hub. */
export interface WatchLimits {
  /** Changes kept for watchers that are behind. */
  readonly backlogChangesMax: number;
  /** Encoded bytes of the changes kept. */
  readonly backlogBytesMax: number;
  readonly watchersMax: number;
  /** Longest silence towards a watcher. */
  readonly heartbeatMs: number;
}

/** What the metadata service uses. The contract asks for a heartbeat every 2 s; half of it leaves room for delay. */
export const defaultWatchLimits: WatchLimits = {
  backlogChangesMax: 4_096,
  backlogBytesMax: 8 * 1024 * 1024,
  watchersMax: 2_000,
  heartbeatMs: 1_000,
};

/** An open watch, as the hub needs it. */
export interface Watch {
  readonly token: WatchToken | undefined;
  readonly handshake: HandshakeReply;
  readonly stream: OutgoingStream<WatchMetadataResponse>;
  readonly signal: AbortSignal;
}

interface Kept {
  readonly position: LogPosition;
  readonly delta: MetadataDelta;
  readonly bytes: number;
}

const emptyDelta: MetadataDelta = MetadataDelta.create();

/** See the module's comment. */
export class WatchHub {
  readonly #clock: Clock;
  readonly #limits: WatchLimits;
  readonly #backlog: Kept[] = [];
  readonly #wakes = new Set<() => void>();
  #backlogBytes = 0;
  /** Where the backlog begins: the position before its first change. */
  #base: LogPosition | undefined;
  #head: { readonly position: LogPosition; readonly image: ClusterImage } | undefined;
  #watchers = 0;
  #isClosed = false;

  constructor(clock: Clock, limits: WatchLimits = defaultWatchLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Open watches. */
  get watchers(): number {
    return this.#watchers;
  }

  /** Takes a committed change and wakes the watchers. */
  publish(change: CommittedChange): void {
    this.#base ??= change.previous;
    const delta = toDelta(change.image, changesOf(change.records));
    const bytes = MetadataDelta.encode(delta).finish().byteLength;
    this.#backlog.push({ position: change.position, delta, bytes });
    this.#backlogBytes += bytes;
    while (
      this.#backlog.length > this.#limits.backlogChangesMax ||
      (this.#backlogBytes > this.#limits.backlogBytesMax && this.#backlog.length > 1)
    ) {
      const gone = this.#backlog.shift() as Kept;
      this.#backlogBytes -= gone.bytes;
      this.#base = gone.position;
    }
    this.#head = { position: change.position, image: change.image };
    for (const wake of this.#wakes) wake();
  }

  /** Ends all watches: they are told to come back. */
  close(): void {
    this.#isClosed = true;
    for (const wake of this.#wakes) wake();
  }

  /** Serves a watch until it is cancelled or fails. */
  async serve(watch: Watch, log: MetadataLog): Promise<void> {
    if (this.#watchers >= this.#limits.watchersMax) {
      throw new AppError(
        "CREDIT_EXCEEDED",
        `${this.#limits.watchersMax} watches are open, more are not served: watch another metadata replica or later`,
      );
    }
    this.#watchers++;
    try {
      await this.#follow(watch, log);
    } finally {
      this.#watchers--;
    }
  }

  async #follow(watch: Watch, log: MetadataLog): Promise<void> {
    const { stream, signal, handshake } = watch;
    const resumed = watch.token === undefined ? undefined : await this.#resume(watch.token, log);
    const head = this.#head;
    if (head === undefined) throw new AppError("NODE_STARTING", "the metadata service is starting");
    let at = resumed ?? head.position;
    const token = toToken(log.logId, at);
    let isWritable = stream.write(
      resumed === undefined
        ? { token, handshake, event: { $case: "snapshot", value: toSnapshot(head.image) } }
        : { token, handshake, event: { $case: "delta", value: emptyDelta } },
    );
    const isOver = (): boolean => signal.aborted;
    while (!isOver()) {
      if (!isWritable) await stream.whenWritable();
      if (this.#isClosed)
        throw new AppError("NODE_STARTING", "the metadata service is stopping: watch again");
      const next = this.#after(at);
      if (next === undefined && (await this.#changedWithin(this.#limits.heartbeatMs, signal))) continue;
      if (isOver()) return;
      if (next !== undefined) at = next.position;
      isWritable = stream.write({
        token: toToken(log.logId, at),
        event: { $case: "delta", value: next?.delta ?? emptyDelta },
        handshake: undefined,
      });
    }
  }

  /** Where a watch with this token goes on; undefined = it needs a snapshot. Throws HISTORY_MISMATCH. */
  async #resume(token: WatchToken, log: MetadataLog): Promise<LogPosition | undefined> {
    const head = this.#head?.position;
    if (head === undefined) return undefined;
    if (token.logId !== log.logId) {
      throw mismatch(`the watcher followed metadata log ${token.logId}, this is ${log.logId}`);
    }
    if (token.sequence > head.sequence) {
      throw mismatch(`the watcher saw change ${token.sequence}, this log ends at ${head.sequence}`);
    }
    const known = this.#knownHash(token.sequence) ?? (await loggedHash(log, token.sequence));
    if (known !== undefined && known !== token.hash) {
      throw mismatch(`the watcher saw another change ${token.sequence} than the one in this log`);
    }
    const isTail = this.#base !== undefined && token.sequence >= this.#base.sequence;
    return isTail ? { sequence: token.sequence, hash: token.hash } : undefined;
  }

  #knownHash(sequence: number): string | undefined {
    if (this.#base?.sequence === sequence) return this.#base.hash;
    return this.#backlog.find((kept) => kept.position.sequence === sequence)?.position.hash;
  }

  /** The first change after a position. Throws when it is no longer kept. */
  #after(position: LogPosition): Kept | undefined {
    if (this.#base !== undefined && position.sequence < this.#base.sequence) {
      throw new AppError(
        "CREDIT_EXCEEDED",
        `the watcher is behind by more than ${this.#backlog.length} changes, which is all that is kept: watch again, with the last token or without`,
      );
    }
    // Watchers are nearly always at the end.
    for (let index = this.#backlog.length; index > 0; index--) {
      const kept = this.#backlog[index - 1] as Kept;
      if (kept.position.sequence <= position.sequence) return this.#backlog[index];
    }
    return this.#backlog[0];
  }

  /** True: something changed; false: the time is over or the watch. */
  #changedWithin(limitMs: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const finish = (hasChanged: boolean): void => {
        timer.cancel();
        this.#wakes.delete(wake);
        signal.removeEventListener("abort", giveUp);
        resolve(hasChanged);
      };
      const wake = (): void => finish(true);
      const giveUp = (): void => finish(false);
      const timer = this.#clock.after(limitMs, giveUp);
      this.#wakes.add(wake);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }
}

/** A watch token for a position. */
export function toToken(logId: string, position: LogPosition): WatchToken {
  return { logId, sequence: position.sequence, hash: position.hash };
}

function mismatch(what: string): AppError {
  return new AppError(
    "HISTORY_MISMATCH",
    `${what}: the metadata was restored from a copy or replaced. Stop this node and restore the true metadata directory`,
  );
}

/** The hash of a batch, if the log still has it. */
async function loggedHash(log: MetadataLog, sequence: number): Promise<string | undefined> {
  try {
    for await (const batch of log.read(sequence)) return batch.position.hash;
  } catch (error) {
    // Purged behind a snapshot: too old to be checked.
    if (!(error instanceof AppError) || error.reason !== "INVALID_REQUEST") throw error;
  }
  return undefined;
}
