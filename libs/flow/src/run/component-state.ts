/** How a component stands, for status and metrics. */

/** starting or trying again; running; waiting for room or its destination; nothing more to read; failed, tried again. */
export type ComponentState = "starting" | "running" | "blocked" | "ended" | "failed";

import type { SourceCounts } from "../put/source-books.ts";

/** A source at one moment. */
export interface SourceStatus {
  readonly name: string;
  readonly type: string;
  readonly state: ComponentState;
  /** Last error; undefined when it runs. */
  readonly error: string | undefined;
  /** Records put into channels since the start. */
  readonly recordCount: number;
  /** Records over all starts, by the source's saved positions (S1). */
  readonly counts: SourceCounts;
  readonly streamCount: number;
  /** A pull source has read everything there is now. */
  readonly isIdle: boolean;
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
}

/** A sink at one moment. */
export interface SinkStatus {
  readonly name: string;
  readonly type: string;
  readonly state: ComponentState;
  readonly error: string | undefined;
  /** Records delivered since the start. */
  readonly deliveredCount: number;
  /** Records refused for good and set aside since the start. */
  readonly refusedCount: number;
  /** Records published ever by the destination's own books (S1); undefined where it has none. */
  readonly publishedCount: number | undefined;
  /** Records of its channel that it refused and that were set aside, over all starts (S1). */
  readonly setAsideCount: number;
  /** 99 % of the records of the last minute were delivered so soon after their timestamps, at most; undefined: none. */
  readonly delayMsP99: number | undefined;
  /** What the sink tells beyond its state. */
  readonly details: Readonly<Record<string, string | number>>;
}

/** A channel at one moment. */
export interface ChannelStatus {
  readonly name: string;
  readonly type: string;
  readonly channelId: string;
  readonly putCount: number;
  readonly depthCount: number;
  readonly depthBytes: number;
  /** Records handed to sinks that they are not done with. */
  readonly takenCount: number;
  /** Bytes on disk or in memory, with what is delivered and not yet removed. */
  readonly sizeBytes: number;
  readonly capacityCount: number;
  readonly capacityBytes: number;
}
