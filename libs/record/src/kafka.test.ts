/** Batches that Apache Kafka itself wrote (testdata/kafka-4.3.1.txt): read exactly, and written identically. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { decodeBatch } from "./decode.ts";
import { encodeBatch } from "./encode.ts";
import type { Record } from "./types.ts";
import { validateProducedBatch, verifyBatch, walkBatch } from "./validate.ts";

const written = new Map(
  readFileSync(new URL("./testdata/kafka-4.3.1.txt", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => [line.split(" ")[0] as string, Buffer.from(line.split(" ")[1] as string, "hex")]),
);

function kafkaWrote(name: string): Buffer {
  const bytes = written.get(name);
  if (bytes === undefined) throw new Error(`no ${name} in the test data`);
  return Buffer.from(bytes);
}

const text = (value: string): Buffer => Buffer.from(value);

/** The records that the file's first lines hold. */
const records: Record[] = [
  { key: text("k"), value: text("hello"), headers: [], timestampMs: 1_700_000_000_000 },
  {
    key: null,
    value: null,
    headers: [
      { key: "hé", value: text("x") },
      { key: "hé", value: null },
    ],
    timestampMs: 1_699_999_999_935,
  },
  { key: text(""), value: text(""), headers: [{ key: "", value: text("") }], timestampMs: 1_700_000_000_100 },
  {
    key: text("key-3"),
    value: Buffer.alloc(300, "z"),
    headers: [{ key: "__proto__", value: text("p") }],
    timestampMs: 1_731_536_000_000,
  },
  ...Array.from({ length: 66 }, (_, i) => ({
    key: null,
    value: text(`line ${i + 4}`),
    headers: [],
    timestampMs: 1_700_000_000_000 + (i + 4) * 1_000,
  })),
  { key: text("old"), value: text("epoch"), headers: [], timestampMs: 0 },
];

describe("what Kafka wrote", () => {
  test.each([
    "plain",
    "gzip",
    "zstd",
  ])("%s decodes to its records and would be accepted from a producer", (name) => {
    const bytes = kafkaWrote(name);
    expect(decodeBatch(bytes)).toEqual(records.map((record, i) => ({ ...record, offset: 42 + i })));
    expect(verifyBatch(bytes)).toMatchObject({
      leaderEpoch: 5,
      recordCount: 71,
      nextOffset: 113,
      maxTimestampMs: 1_731_536_000_000,
    });
    expect(() => validateProducedBatch(bytes, { bytesMax: 10_000 })).not.toThrow();
  });

  test("plain is what our encoder writes, byte for byte", () => {
    const ours = encodeBatch(records, { baseOffset: 42, leaderEpoch: 5 });
    expect(Buffer.from(ours).toString("hex")).toBe(kafkaWrote("plain").toString("hex"));
  });

  test("idempotent is what our encoder writes, byte for byte, across a sequence wrap (P2)", () => {
    const stamp = { producerId: 2 ** 40 + 5, producerEpoch: 9, baseSequence: 2 ** 31 - 2 };
    const ours = encodeBatch(records, { leaderEpoch: 3, ...stamp });
    expect(Buffer.from(ours).toString("hex")).toBe(kafkaWrote("idempotent").toString("hex"));
    expect(verifyBatch(ours)).toMatchObject(stamp);
  });

  test.each(["snappy", "lz4"])("%s is named as not available, by a leader and by a reader", (name) => {
    const refused = expect.objectContaining({
      reason: "UNSUPPORTED_COMPRESSION",
      message: expect.stringContaining(name) as string,
    }) as Error;
    expect(() => decodeBatch(kafkaWrote(name))).toThrow(refused);
    expect(() => validateProducedBatch(kafkaWrote(name), { bytesMax: 10_000 })).toThrow(refused);
  });

  test("transactional is read, but not accepted from a producer yet", () => {
    const bytes = kafkaWrote("transactional");
    expect(decodeBatch(bytes)).toHaveLength(71);
    expect(verifyBatch(bytes).isTransactional).toBe(true);
    expect(() => validateProducedBatch(bytes, { bytesMax: 10_000 })).toThrow("transactional");
  });

  test("a commit marker is a control batch and gives no records", () => {
    const bytes = kafkaWrote("marker");
    expect(verifyBatch(bytes)).toMatchObject({
      isControl: true,
      isTransactional: true,
      baseOffset: 5,
      nextOffset: 6,
      producerId: 7,
      baseSequence: -1,
    });
    expect(decodeBatch(bytes)).toEqual([]);
    expect(() => walkBatch(bytes)).not.toThrow();
  });

  test("an empty batch after compaction keeps its offsets and sequence", () => {
    const bytes = kafkaWrote("empty");
    expect(verifyBatch(bytes)).toMatchObject({
      baseOffset: 20,
      nextOffset: 30,
      recordCount: 0,
      producerId: 7,
      baseSequence: 4,
      maxTimestampMs: 1_700_000_000_000,
    });
    expect(decodeBatch(bytes)).toEqual([]);
  });

  test("log append time is every record's time", () => {
    expect(decodeBatch(kafkaWrote("appendTime")).map((record) => record.timestampMs)).toEqual([
      1_700_000_009_999, 1_700_000_009_999,
    ]);
  });

  test("a delete horizon is no record's time, and gaps in offsets stay", () => {
    const bytes = kafkaWrote("deleteHorizon");
    expect(verifyBatch(bytes)).toMatchObject({
      hasDeleteHorizon: true,
      baseTimestampMs: 1_800_000_000_000,
      nextOffset: 13,
    });
    expect(decodeBatch(bytes)).toMatchObject([
      { offset: 8, timestampMs: 1_700_000_000_000, key: text("k"), value: text("v") },
      { offset: 12, timestampMs: 1_700_000_000_007, key: text("k2"), value: null },
    ]);
  });

  test("a timestamp of 2^63-1 is accepted raw and is a poison unit for a reader (design §11)", () => {
    const bytes = kafkaWrote("farFuture");
    expect(validateProducedBatch(bytes, { bytesMax: 10_000 }).maxTimestampMs).toBe(Number.MAX_SAFE_INTEGER);
    expect(() => decodeBatch(bytes)).toThrow(expect.objectContaining({ reason: "INVALID_RECORD" }));
  });
});
