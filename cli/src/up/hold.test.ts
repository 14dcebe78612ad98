import { describe, expect, test } from "vitest";
import { channelBytesMax, heldBytesMax, mustHold, segmentBytes, topicBytesKept } from "./hold.ts";

const mebibyte = 1024 * 1024;

describe("S2: topic data and channel stay below their limit", () => {
  test("never held while the connector keeps up: what is kept, and a full channel on its way", () => {
    const keptUp = { topic: topicBytesKept + 3 * segmentBytes, channel: 2 * segmentBytes, channelDepth: 0 };
    expect(mustHold(keptUp, false)).toBe(false);
    expect(mustHold({ ...keptUp, channel: channelBytesMax, channelDepth: channelBytesMax }, false)).toBe(
      false,
    );
  });

  test("the sources wait before the limit, with room for what the channel still moves into the topic", () => {
    // The connector stands: the topic grows, the channel is drained into it.
    let topic = 0;
    const channelDepth = 100 * mebibyte;
    while (!mustHold({ topic, channel: channelDepth, channelDepth }, false)) topic += mebibyte;
    expect(topic + channelDepth + channelDepth).toBeLessThan(heldBytesMax);
    expect(topic + channelDepth + channelDepth).toBeGreaterThan(heldBytesMax * 0.9);
  });

  test("they go on only when there is room again: no flutter", () => {
    let topic = heldBytesMax;
    while (mustHold({ topic, channel: 0, channelDepth: 0 }, true)) topic -= mebibyte;
    const goesOnAt = topic;
    while (!mustHold({ topic, channel: 0, channelDepth: 0 }, false)) topic += mebibyte;
    expect(topic - goesOnAt).toBeGreaterThan(32 * mebibyte);
  });
});
