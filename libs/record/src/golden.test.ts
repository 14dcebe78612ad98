/** Batches assembled by hand from the table in kafka.md §4, byte by byte. */
import { describe, expect, test } from "vitest";
import { readBatchHeader, setBaseOffset, setLeaderEpoch, setProducer } from "./batch-header.ts";
import { crc32c } from "./crc32c.ts";
import { decodeBatch } from "./decode.ts";
import { BatchBuilder, encodeBatch } from "./encode.ts";
import type { Record } from "./types.ts";
import { validateProducedBatch, verifyBatch, walkBatch } from "./validate.ts";

const text = (value: string): Buffer => Buffer.from(value);

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
  { key: text(""), value: text(""), headers: [], timestampMs: 1_700_000_000_100 },
];

const goldenHex = [
  "0000000000000007", // baseOffset 7
  "00000059", // batchLength 89 = 49 + 40
  "00000003", // leaderEpoch 3
  "02", // magic
  "XXXXXXXX", // crc
  "0000", // attributes
  "00000002", // lastOffsetDelta 2
  "0000018bcfe56800", // baseTimestamp 1700000000000
  "0000018bcfe56864", // maxTimestamp 1700000000100
  "0000010000000005", // producerId 2^40 + 5
  "0009", // producerEpoch 9
  "7ffffffe", // baseSequence 2^31 - 2
  "00000003", // recordCount
  // record 0: 12 bytes: attributes 0, time +0, offset +0, key 1 "k", value 5 "hello", no headers
  "18 00 00 00 02 6b 0a 68656c6c6f 00",
  // record 1: 18 bytes: attributes 0, time -65, offset +1, key null, value null, two headers "hé" = "x" and null
  "24 00 8101 02 01 01 04 06 68c3a9 02 78 06 68c3a9 01",
  // record 2: 7 bytes: attributes 0, time +100, offset +2, key "", value "", no headers
  "0e 00 c801 04 00 00 00",
];

function goldenBatch(): Buffer {
  const bytes = Buffer.from(goldenHex.join("").replaceAll(" ", "").replace("XXXXXXXX", "00000000"), "hex");
  bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17);
  return bytes;
}

const options = {
  baseOffset: 7,
  leaderEpoch: 3,
  producerId: 2 ** 40 + 5,
  producerEpoch: 9,
  baseSequence: 2 ** 31 - 2,
};

describe("a batch assembled by hand", () => {
  test("is what the encoder writes, byte for byte", () => {
    expect(Buffer.from(encodeBatch(records, options)).toString("hex")).toBe(goldenBatch().toString("hex"));
  });

  test("has the header that was written", () => {
    expect(verifyBatch(goldenBatch())).toEqual({
      baseOffset: 7,
      batchLength: 89,
      sizeBytes: 101,
      leaderEpoch: 3,
      magic: 2,
      crc: goldenBatch().readUInt32BE(17),
      attributes: 0,
      compression: 0,
      isControl: false,
      isTransactional: false,
      timestampType: "create",
      hasDeleteHorizon: false,
      lastOffsetDelta: 2,
      lastOffset: 9,
      nextOffset: 10,
      baseTimestampMs: 1_700_000_000_000,
      maxTimestampMs: 1_700_000_000_100,
      producerId: 2 ** 40 + 5,
      producerEpoch: 9,
      baseSequence: 2 ** 31 - 2,
      recordCount: 3,
    });
  });

  test("decodes to the records, with absolute offsets, views and the shared empty header list", () => {
    const batch = goldenBatch();
    const decoded = decodeBatch(batch);
    expect(decoded).toEqual(records.map((record, i) => ({ ...record, offset: 7 + i })));
    expect(decoded[0]?.value?.buffer).toBe(batch.buffer);
    expect(decoded[0]?.headers).toBe(decoded[2]?.headers);
  });

  test("is accepted by a leader and walked in place", () => {
    expect(() => walkBatch(goldenBatch())).not.toThrow();
    expect(validateProducedBatch(goldenBatch(), { bytesMax: 101 }).recordCount).toBe(3);
  });
});

describe("what a leader sets", () => {
  test("base offset and leader epoch change no other byte and keep the checksum right", () => {
    const bytes = Buffer.concat([Buffer.from("before"), goldenBatch()]);
    setBaseOffset(bytes, 6, Number.MAX_SAFE_INTEGER - 10);
    setLeaderEpoch(bytes, 6, 2 ** 31 - 1);
    const header = verifyBatch(bytes, 6);
    expect(header).toMatchObject({ baseOffset: Number.MAX_SAFE_INTEGER - 10, leaderEpoch: 2 ** 31 - 1 });
    setBaseOffset(bytes, 6, 7);
    setLeaderEpoch(bytes, 6, 3);
    expect(bytes.subarray(6).equals(goldenBatch())).toBe(true);
    expect(bytes.subarray(0, 6).toString()).toBe("before");
  });

  test.each([-1, 2 ** 53, 1.5])("a base offset of %s is a bug", (offset) => {
    expect(() => setBaseOffset(goldenBatch(), 0, offset)).toThrow("base offset");
  });

  test("a new producer stamp is sealed and changes nothing else (P1: sequences go on under a new epoch)", () => {
    const batch = goldenBatch();
    setProducer(batch, 0, { producerId: 2 ** 40 + 5, producerEpoch: 10, baseSequence: 0 });
    expect(verifyBatch(batch)).toMatchObject({ producerEpoch: 10, baseSequence: 0, recordCount: 3 });
    setProducer(batch, 0, options);
    expect(batch.equals(goldenBatch())).toBe(true);
  });

  test("a producer id without epoch or sequence is a bug", () => {
    expect(() => encodeBatch(records, { producerId: 5 })).toThrow("epoch and a sequence");
  });
});

describe("a builder", () => {
  test("takes the header fields known only at the end", () => {
    const builder = new BatchBuilder({ producerId: 1, producerEpoch: 0 });
    for (const record of records) expect(builder.append(record)).toBe(true);
    expect(builder.sizeBytes).toBe(101);
    expect(builder.maxTimestampMs).toBe(1_700_000_000_100);
    const built = builder.build(options);
    expect(Buffer.from(built).equals(goldenBatch())).toBe(true);
    expect(() => builder.append(records[0] as Record)).toThrow("takes no more");
    expect(() => builder.build()).toThrow("built once");
  });

  test("refuses a record that would pass the limit and is not changed by that", () => {
    const builder = new BatchBuilder({ bytesMax: 61 + 13 + 19 });
    expect(builder.append(records[0] as Record)).toBe(true);
    expect(builder.append(records[1] as Record)).toBe(true);
    expect(builder.append(records[2] as Record)).toBe(false);
    expect(builder).toMatchObject({ count: 2, sizeBytes: 93 });
    expect(decodeBatch(builder.build())).toHaveLength(2);
  });

  test("refuses a record that no batch of its limit could hold", () => {
    const builder = new BatchBuilder({ bytesMax: 61 + 12 });
    expect(() => builder.append(records[0] as Record)).toThrow(
      expect.objectContaining({ reason: "RECORD_TOO_LARGE" }),
    );
    expect(builder.append({ ...(records[0] as Record), key: null })).toBe(true);
  });

  test("an empty batch is never built", () => {
    expect(() => encodeBatch([])).toThrow(expect.objectContaining({ reason: "INVALID_RECORD" }));
  });

  test("its header is readable once built, whatever the buffer held before", () => {
    const built = encodeBatch([records[2] as Record]);
    expect(readBatchHeader(built)).toMatchObject({
      baseOffset: 0,
      leaderEpoch: -1,
      producerId: -1,
      producerEpoch: -1,
      baseSequence: -1,
    });
  });
});
