import { AppError } from "@millrace/base";
import { encodeBatch, setBaseOffset } from "@millrace/record";
import { describe, expect, it } from "vitest";
import { type CheckedLog, checkPosition, nextOffsetAfter, toPlainRecords } from "./read.ts";

/** A log with offsets 10 .. 29: epoch 2 up to 20, epoch 5 from there. */
const log: CheckedLog = {
  label: "t-0",
  startOffset: 10,
  durableOffset: 30,
  endOfEpoch: (epoch) =>
    epoch >= 5 ? { epoch: 5, endOffset: 30 } : epoch >= 2 ? { epoch: 2, endOffset: 20 } : undefined,
};

function reasonOf(run: () => void): string {
  try {
    run();
    return "none";
  } catch (thrown) {
    return AppError.from(thrown).reason;
  }
}

describe("L4: where a reader goes on", () => {
  it.each([
    ["the start", 10, -1, "none"],
    ["the start, after an epoch that is gone", 10, 1, "none"],
    ["the end", 30, 5, "none"],
    ["the end of an epoch", 20, 2, "none"],
    ["within an epoch", 25, 5, "none"],
    ["a position without epoch", 25, -1, "none"],
    ["another leader's record", 21, 2, "LOG_TRUNCATED"],
    ["an epoch this log never had", 15, 3, "LOG_TRUNCATED"],
    ["beyond the end of a truncated log", 40, 5, "LOG_TRUNCATED"],
    ["an epoch of the future", 25, 6, "LOG_TRUNCATED"],
    ["beyond the end", 31, -1, "OFFSET_OUT_OF_RANGE"],
    ["what retention removed", 9, 2, "OFFSET_OUT_OF_RANGE"],
  ])("%s: offset %i after epoch %i: %s", (_what, offset, epoch, reason) => {
    expect(reasonOf(() => checkPosition(log, offset, epoch))).toBe(reason);
  });

  it("names the range that is there", () => {
    expect(() => checkPosition(log, 99, -1)).toThrow("t-0: offset 99 is not in the log, which has 10 to 30");
  });
});

function batch(baseOffset: number, values: readonly string[]): Uint8Array {
  const bytes = encodeBatch(
    values.map((value) => ({ key: null, value: Buffer.from(value), headers: [], timestampMs: 5 })),
  );
  setBaseOffset(bytes, 0, baseOffset);
  return bytes;
}

describe("plain records", () => {
  it("gives the records from the wanted offset on", () => {
    const chunks = [Buffer.concat([batch(0, ["a", "b"]), batch(2, ["c"])]), batch(3, ["d"])];
    const { messages } = toPlainRecords(chunks, 1);
    expect(messages).toHaveLength(1);
    expect(
      messages[0]!.records.map((record) => [record.offset, Buffer.from(record.value!).toString()]),
    ).toEqual([
      [1, "b"],
      [2, "c"],
      [3, "d"],
    ]);
    expect(messages[0]!.nextOffset).toBe(4);
    expect(nextOffsetAfter(chunks)).toBe(4);
  });

  it("splits what is large when inflated into messages of bounded size", () => {
    const value = Buffer.alloc(400_000, 7);
    const bytes = encodeBatch(
      Array.from({ length: 6 }, () => ({ key: null, value, headers: [], timestampMs: 5 })),
      { compression: "zstd" },
    );
    const { messages, bytes: counted } = toPlainRecords([bytes], 0);
    expect(messages.map((message) => message.records.length)).toEqual([2, 2, 2]);
    expect(messages.map((message) => message.nextOffset)).toEqual([2, 4, 6]);
    expect(counted).toBeGreaterThanOrEqual(2_400_000);
  });

  it("a batch that does not decode ends the message before it, then is an error that names its offsets", () => {
    const bad = batch(2, ["x", "y"]);
    bad[70] = (bad[70] as number) ^ 0xff;
    const chunks = [batch(0, ["a", "b"]), bad, batch(4, ["z"])];
    const { messages } = toPlainRecords(chunks, 0);
    expect(messages.at(-1)?.nextOffset).toBe(2);
    try {
      toPlainRecords(chunks.slice(1), 2);
      expect.unreachable();
    } catch (thrown) {
      const error = AppError.from(thrown);
      expect(error.reason).toBe("RECORD_CORRUPT");
      expect(error.metadata).toMatchObject({ baseOffset: "2", nextOffset: "4" });
    }
  });
});
