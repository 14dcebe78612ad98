import { SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { readUint64 } from "./bytes.ts";
import { defaultLogConfig } from "./limits.ts";
import { OpenFiles } from "./open-files.ts";
import { Segment } from "./segment.ts";
import type { LogConfig } from "./types.ts";

async function newSegment(baseOffset = 0): Promise<{ disk: SimDisk; segment: Segment }> {
  const disk = new SimDisk();
  await disk.makeDirectory("/s");
  return { disk, segment: new Segment(new OpenFiles(disk), "/s", baseOffset, 1000) };
}

/** A batch of `count` records and `sizeBytes`. */
const batch = (baseOffset: number, count: number, sizeBytes: number, maxTimestampMs: number) => ({
  baseOffset,
  lastOffset: baseOffset + count - 1,
  sizeBytes,
  maxTimestampMs,
});

const int32Pairs = (bytes: Uint8Array | undefined): [number, number][] => {
  const buffer = Buffer.from(bytes ?? []);
  return Array.from({ length: buffer.length / 8 }, (_, i) => [
    buffer.readInt32BE(i * 8),
    buffer.readInt32BE(i * 8 + 4),
  ]);
};

const timePairs = (bytes: Uint8Array | undefined): [number, number][] => {
  const buffer = Buffer.from(bytes ?? []);
  return Array.from({ length: buffer.length / 12 }, (_, i) => [
    readUint64(buffer, i * 12),
    buffer.readInt32BE(i * 12 + 8),
  ]);
};

describe("a segment's indexes (kafka.md §3.2)", () => {
  it("gets an entry when more than the interval has been appended since the last, before the next batch", async () => {
    const { disk, segment } = await newSegment(100);
    const timestamps = [50, 40, 60, 60, 55, 70];
    for (const [i, timestampMs] of timestamps.entries())
      segment.add(batch(100 + i * 2, 2, 100, timestampMs), 150);
    segment.seal();
    await segment.flushIndexes(true);
    // Entries stand before batches 2 and 4 (200 bytes since the last): their last offset, their position.
    expect(int32Pairs(disk.contents(segment.index.file.path))).toEqual([
      [5, 200],
      [9, 400],
    ]);
    // Largest timestamp so far and the last offset of the first batch that has it; the final one at the seal.
    expect(timePairs(disk.contents(segment.timeIndex.file.path))).toEqual([
      [60, 5],
      [70, 11],
    ]);
  });

  it("finds what a linear search finds, in the flushed and in the pending part", async () => {
    const { segment } = await newSegment(10);
    const entries: [number, number][] = [];
    for (let i = 0; i < 3000; i++) {
      segment.index.append(i * 3, i * 1000 + 1);
      entries.push([i * 3, i * 1000 + 1]);
      segment.timeIndex.append(5000 + i * 7, i * 3);
      if (i === 1700) await segment.flushIndexes(true);
      if (i === 2600) await segment.flushIndexes(false);
    }
    for (let target = -1; target < 9100; target += 13) {
      const expected = entries.findLast(([offset]) => offset <= target)?.[1] ?? 0;
      expect(await segment.index.lookup(target), `offset ${target}`).toBe(expected);
    }
    expect(await segment.timeIndex.lookup(4999)).toBe(0);
    expect(await segment.timeIndex.lookup(5000 + 7 * 2000 + 3)).toBe(6000);
    expect(await segment.timeIndex.lookup(1e12)).toBe(2999 * 3);
  });

  it("is not believed when it cannot belong to the segment", async () => {
    const { segment } = await newSegment();
    segment.index.append(5, 300);
    segment.timeIndex.append(1, 5);
    await segment.flushIndexes(true);
    const load = (fileBytes: number, segmentBytes: number, relativeEnd: number): Promise<boolean> =>
      segment.index.load(fileBytes, segmentBytes, relativeEnd);
    expect(await load(8, 301, 6)).toBe(true);
    expect(await load(7, 301, 6)).toBe(false);
    expect(await load(8, 300, 6)).toBe(false);
    expect(await load(8, 301, 5)).toBe(false);
    expect(await segment.timeIndex.load(12, 5)).toBeUndefined();
    expect(await segment.timeIndex.load(12, 6)).toEqual({ timestampMs: 1, relativeOffset: 5 });
  });
});

describe("rolling (kafka.md §3.3)", () => {
  const config: LogConfig = {
    ...defaultLogConfig,
    segmentBytes: 1000,
    segmentMs: 500,
    segmentIndexBytes: 24,
  };

  it("never rolls an empty segment, except for offsets beyond 2^31", async () => {
    const { segment } = await newSegment();
    expect(segment.shouldRoll(batch(0, 1, 5000, 10), config, 1e9)).toBe(false);
    expect(segment.shouldRoll(batch(2 ** 31, 1, 10, 10), config, 0)).toBe(true);
    expect(segment.shouldRoll(batch(2 ** 31 - 1, 1, 10, 10), config, 0)).toBe(false);
  });

  it("rolls by size, by record time, by age without record times, and by a full index", async () => {
    const { segment } = await newSegment();
    segment.add(batch(0, 1, 600, 100), 10_000);
    expect(segment.shouldRoll(batch(1, 1, 400, 100), config, 0)).toBe(false);
    expect(segment.shouldRoll(batch(1, 1, 401, 100), config, 0)).toBe(true);
    expect(segment.shouldRoll(batch(1, 1, 10, 600), config, 0)).toBe(false);
    expect(segment.shouldRoll(batch(1, 1, 10, 601), config, 0)).toBe(true);

    const timeless = (await newSegment()).segment;
    timeless.add(batch(0, 1, 10, -1), 10_000);
    expect(timeless.shouldRoll(batch(1, 1, 10, -1), config, 1500)).toBe(false);
    expect(timeless.shouldRoll(batch(1, 1, 10, -1), config, 1501)).toBe(true);

    const indexed = (await newSegment()).segment;
    for (let i = 0; i < 4; i++) indexed.add(batch(i, 1, 20, 100), 1);
    expect(indexed.index.file.count).toBe(3);
    expect(indexed.shouldRoll(batch(4, 1, 10, 100), config, 0)).toBe(true);
  });
});
