import { describe, expect, test } from "vitest";
import { holdLimits, mustHold, mustTrim, sizeDefault, sizeMin } from "./hold.ts";

const mebibyte = 1024 * 1024;

describe.each([sizeDefault, sizeMin])("S2: topic data and channel stay below %i bytes", (size) => {
  const limits = holdLimits(size);

  test("never held while the connector keeps up: what is kept, and a full channel on its way", () => {
    const keptUp = { topic: limits.topic + 3 * limits.segment, channel: 2 * limits.segment, channelDepth: 0 };
    expect(mustHold(keptUp, limits, false)).toBe(false);
    const full = { ...keptUp, channel: limits.channel, channelDepth: limits.channel };
    expect(mustHold(full, limits, false)).toBe(false);
  });

  test("the sources wait before the limit, with room for what the channel still moves into the topic", () => {
    // The connector stands: the topic grows, the channel is drained into it.
    let topic = 0;
    const channelDepth = limits.channel / 2;
    while (!mustHold({ topic, channel: channelDepth, channelDepth }, limits, false)) topic += mebibyte;
    expect(topic + channelDepth + channelDepth).toBeLessThan(size);
    expect(topic + channelDepth + channelDepth).toBeGreaterThan(size * 0.9);
  });

  test("retention is asked to look well before the sources have to wait", () => {
    expect(mustTrim({ topic: limits.topic, channel: 0, channelDepth: 0 }, limits)).toBe(false);
    let topic = limits.topic;
    while (!mustTrim({ topic, channel: 0, channelDepth: 0 }, limits)) topic += mebibyte;
    const busy = { topic, channel: limits.channel, channelDepth: limits.channel / 4 };
    expect(mustHold(busy, limits, false)).toBe(false);
  });

  test("they go on only when there is room again: no flutter", () => {
    let topic = size;
    while (mustHold({ topic, channel: 0, channelDepth: 0 }, limits, true)) topic -= mebibyte;
    const goesOnAt = topic;
    while (!mustHold({ topic, channel: 0, channelDepth: 0 }, limits, false)) topic += mebibyte;
    expect(topic - goesOnAt).toBeGreaterThanOrEqual(size / 32);
  });

  test("each part holds a longest record", () => {
    expect(Math.min(limits.channel, limits.topic / 3)).toBeGreaterThan(4 * mebibyte);
  });
});
