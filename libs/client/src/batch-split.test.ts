import { encodeBatch, setBaseOffset, setLeaderEpoch } from "@millrace/record";
import { describe, expect, it } from "vitest";
import { splitBatches } from "./batch-split.ts";

function batch(baseOffset: number, count: number, leaderEpoch = 0): Uint8Array {
  const records = Array.from({ length: count }, (_, i) => ({
    key: null,
    value: Buffer.from(`record ${baseOffset + i}`),
    headers: [],
    timestampMs: 1_000 + i,
  }));
  const bytes = encodeBatch(records);
  setBaseOffset(bytes, 0, baseOffset);
  setLeaderEpoch(bytes, 0, leaderEpoch);
  return bytes;
}

function offsets(units: Iterable<{ readonly records: readonly { readonly offset: number }[] }>): number[][] {
  return [...units].map((unit) => unit.records.map((record) => record.offset));
}

describe("splitBatches", () => {
  it("gives the records of all batches of one epoch as one unit", () => {
    const bytes = Buffer.concat([batch(0, 2), batch(2, 3)]);
    const units = [...splitBatches(bytes, 0, 5)];
    expect(offsets(units)).toEqual([[0, 1, 2, 3, 4]]);
    expect(units[0]?.nextOffset).toBe(5);
    expect(units[0]?.rawBatches.byteLength).toBe(bytes.byteLength);
  });

  it("leaves out records below the position", () => {
    expect(offsets(splitBatches(batch(10, 5), 13, 15))).toEqual([[13, 14]]);
  });

  it("L4: ends a unit where the leader epoch changes, so that each position has its own epoch", () => {
    const bytes = Buffer.concat([batch(0, 2, 3), batch(2, 1, 3), batch(3, 1, 4)]);
    const units = [...splitBatches(bytes, 0, 4)];
    expect(units.map((unit) => [unit.leaderEpoch, unit.nextOffset])).toEqual([
      [3, 3],
      [4, 4],
    ]);
  });

  it("hands out a batch that does not decode as one poison unit and goes on behind it", () => {
    const bad = batch(2, 3);
    bad[70] = (bad[70] as number) ^ 0xff;
    const bytes = Buffer.concat([batch(0, 2), bad, batch(5, 1)]);
    const units = [...splitBatches(bytes, 0, 6)];
    expect(offsets(units)).toEqual([[0, 1], [], [5]]);
    const { poison } = units[1]!;
    expect(poison?.error.reason).toBe("RECORD_CORRUPT");
    expect([poison?.baseOffset, poison?.nextOffset, units[1]?.nextOffset]).toEqual([2, 5, 5]);
    expect(Buffer.from(poison!.bytes).equals(bad)).toBe(true);
    expect(units[1]?.leaderEpoch).toBe(-1);
  });

  it("does not believe a broken batch about where it ends", () => {
    const bad = batch(2, 3);
    new DataView(bad.buffer, bad.byteOffset).setInt32(23, 1_000_000); // lastOffsetDelta, under the checksum
    const middle = [...splitBatches(Buffer.concat([bad, batch(5, 1)]), 2, 6)];
    expect(middle.map((unit) => unit.nextOffset)).toEqual([5, 6]);
    const last = [...splitBatches(bad, 2, 5)];
    expect(last.map((unit) => unit.nextOffset)).toEqual([5]);
  });

  it("gives the rest as poison when a header cannot be read at all", () => {
    const bad = batch(2, 3);
    new DataView(bad.buffer, bad.byteOffset).setInt32(8, 2 ** 30); // length
    const units = [...splitBatches(Buffer.concat([batch(0, 2), bad, batch(5, 1)]), 0, 6)];
    expect(offsets(units)).toEqual([[0, 1], []]);
    expect(units[1]?.poison?.nextOffset).toBe(6);
  });
});
