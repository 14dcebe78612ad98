/**
 * Rule S2, pure: `up` keeps topic data and channel within a size, and never outruns the connector.
 *
 * Retention removes only what the connector has published, so a connector that stands still makes the topic grow.
 * Before the limit is reached the sources wait; when it has shrunk again they go on.
 */

/** Most bytes of topic data and channel together. */
export const heldBytesMax = 1024 * 1024 * 1024;

/** Capacity of the channel. What is in it can still move into the topic while the sources wait. */
export const channelBytesMax = 192 * 1024 * 1024;

/** Topic data kept for reading again, all partitions together, when the connector keeps up. */
export const topicBytesKept = 384 * 1024 * 1024;

/** Segments of topic and channel: data goes in these units. */
export const segmentBytes = 16 * 1024 * 1024;

/** Distance kept from the limit: a put under way, indexes, a segment that is about to go. */
const marginBytes = 48 * 1024 * 1024;

/** Sources go on when so much room is there again: no flutter at the limit. */
const hysteresisBytes = 64 * 1024 * 1024;

/** Sizes at one moment, bytes on disk; `channelDepth` is what the channel has not delivered. */
export interface Sizes {
  readonly topic: number;
  readonly channel: number;
  readonly channelDepth: number;
}

/** True when the sources must wait. */
export function mustHold(sizes: Sizes, isHeld: boolean): boolean {
  // The undelivered part of the channel will be in the topic before its place in the channel is free.
  const comingBytes = sizes.topic + sizes.channel + sizes.channelDepth;
  return comingBytes > heldBytesMax - marginBytes - (isHeld ? hysteresisBytes : 0);
}
