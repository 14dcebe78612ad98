/**
 * Rule S2, pure: `up` keeps topic data and channel within a size, and never outruns the connector.
 *
 * Retention removes only what the connector has published, so a connector that stands still makes the topic grow.
 * Before the limit is reached the sources wait; when it has shrunk again they go on.
 */

const mebibyte = 1024 * 1024;

/** Most bytes of topic data and channel together, unless `--size` says otherwise. */
export const sizeDefault = 1024 * mebibyte;

/** Least that `--size` may say: the parts must still hold a longest record each. */
export const sizeMin = 128 * mebibyte;

/** How the size is shared out. Bytes. */
export interface HoldLimits {
  /** Topic data and channel together. */
  readonly total: number;
  /** Capacity of the channel. What is in it can still move into the topic while the sources wait. */
  readonly channel: number;
  /** Topic data kept for reading again, all partitions together, when the connector keeps up. */
  readonly topic: number;
  /** Segments of topic and channel: data goes in these units. */
  readonly segment: number;
  /** Distance kept from the limit: a put under way, indexes, a segment that is about to go. */
  readonly margin: number;
  /** Sources go on when so much room is there again: no flutter at the limit. */
  readonly hysteresis: number;
  /** Topic data above what is kept at which retention is asked to look. */
  readonly trim: number;
}

/** The shares of a size. */
export function holdLimits(total: number): HoldLimits {
  const share = (of64: number): number => Math.floor((total / 64) * of64);
  return {
    total,
    channel: share(12),
    topic: share(24),
    segment: share(1),
    margin: share(3),
    hysteresis: share(4),
    trim: share(8),
  };
}

/** Sizes at one moment, bytes on disk; `channelDepth` is what the channel has not delivered. */
export interface Sizes {
  readonly topic: number;
  readonly channel: number;
  readonly channelDepth: number;
}

/** True when retention should look: there is more topic data than is kept. It removes only what is published. */
export function mustTrim(sizes: Sizes, limits: HoldLimits): boolean {
  return sizes.topic > limits.topic + limits.trim;
}

/** True when the sources must wait. */
export function mustHold(sizes: Sizes, limits: HoldLimits, isHeld: boolean): boolean {
  // The undelivered part of the channel will be in the topic before its place in the channel is free.
  const coming = sizes.topic + sizes.channel + sizes.channelDepth;
  return coming > limits.total - limits.margin - (isHeld ? limits.hysteresis : 0);
}
