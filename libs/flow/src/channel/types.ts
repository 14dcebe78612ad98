/**
 * A channel as sources (through a put transaction) and sinks (through takes) see it.
 *
 *   put transaction --reserve--> Room --commit--> log or memory --(durable)--> takable
 *   take() -> [from, to) outstanding --commit--> position moves --saved--> resolvedThrough
 *                                    --rollback--> taken again, first, in order
 *
 * A record's sequence is fixed at the put (A2); `position` is the first sequence not yet committed by takers.
 */
import type { SinkRecord } from "../contract.ts";
import type { Room } from "./room.ts";

/** Bounds of a channel. */
export interface ChannelLimits {
  /** Records put and not yet committed by takers. */
  readonly records: number;
  /** Bytes of those. */
  readonly bytes: number;
  /** Records in one put transaction. */
  readonly transactionRecords: number;
  /** Bytes of one record, fields and headers. */
  readonly recordBytes: number;
  /** How long a put waits for room unless it says otherwise, milliseconds. */
  readonly keepAliveMs: number;
}

/** Consecutive records handed to one taker. Outstanding until committed or rolled back; parts of it may be. */
export interface Take {
  readonly from: number;
  /** Sequence after the last one. Sequences in between without a record were lost on disk and are counted. */
  readonly to: number;
  readonly records: readonly SinkRecord[];
  /** About as many bytes as the records hold. */
  readonly sizeBytes: number;
}

/** What the sink of a channel wants kept with the take position. */
export interface Checkpoint {
  /** Name of the sink; another sink does not get it. */
  readonly sink: string;
  readonly bytes: Uint8Array;
}

/** Figures of a channel at one moment. */
export interface ChannelFigures {
  /** Records ever put: the next sequence. */
  readonly putCount: number;
  /** Records put and not committed by takers. */
  readonly depthCount: number;
  readonly depthBytes: number;
  /** Records taken and neither committed nor rolled back. */
  readonly takenCount: number;
}

/** A channel of either type. */
export interface Channel {
  readonly name: string;
  readonly type: string;
  /** Durable for a file channel, new at each start for a memory channel (A2). */
  readonly id: string;
  readonly durability: "fsync" | "volatile";
  readonly limits: ChannelLimits;
  readonly room: Room;
  readonly figures: ChannelFigures;
  /** Everything below is committed by takers. */
  readonly position: number;
  /** Lowest sequence that can still be read: how far back `moveTo` may go. */
  readonly startSequence: number;
  /** Next sequence to be put. */
  readonly endSequence: number;
  /** Checkpoint kept with the position, when it is of this sink. */
  checkpoint(sink: string): Uint8Array | undefined;

  /** The next takable records: at least one, at most `recordsMax`, about `bytesMax`; undefined when there are none now. */
  take(recordsMax: number, bytesMax: number): Promise<Take | undefined>;
  /** Resolves when something is takable, or when `signal` aborts. */
  whenTakable(signal: AbortSignal): Promise<void>;
  /** Commits outstanding [from, to): never taken again. The checkpoint is saved in the same step. */
  commit(from: number, to: number, checkpoint?: Checkpoint): void;
  /** Gives outstanding [from, to) back: taken again before anything newer. */
  rollback(from: number, to: number): void;
  /**
   * Sets the position where a sink stands: forth over what it has already, or back (>= startSequence) to what it lost.
   * Nothing may be outstanding.
   */
  moveTo(sequence: number): void;
  /** Position as it is saved: below it nothing is ever given again, not even after a crash. */
  readonly resolvedThrough: number;
  /** Calls back after each growth of `resolvedThrough`; returns the cancellation. */
  onResolved(run: (through: number) => void): () => void;
  /** Saves what is not saved yet and ends the channel. Outstanding takes count as not committed. */
  close(): Promise<void>;
}
