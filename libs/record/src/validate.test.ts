/** Every refusal, as data: a crafted batch, the reason and a part of the message (reliability.md §6.6 cases 1-24). */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { AppError, type Reason } from "@millrace/base";
import { describe, expect, test } from "vitest";
import { iterateBatches, readBatchHeader } from "./batch-header.ts";
import { decodeBatch } from "./decode.ts";
import { encodeBatch } from "./encode.ts";
import {
  type CraftedHeader,
  type CraftedRecord,
  craftBatch,
  craftRecord,
  varint,
  withLength,
} from "./testing/craft.ts";
import { validateProducedBatch, verifyBatch, walkBatch } from "./validate.ts";

const limits = { bytesMax: 1_000_000 };
const one = craftRecord();

function refusal(run: () => unknown): AppError {
  try {
    run();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("a leader refuses", () => {
  const large = craftBatch(craftRecord({ value: [...varint(900), ...new Array<number>(900).fill(0x61)] }));
  const cases: [string, Uint8Array, Reason, string][] = [
    ["no bytes (1)", new Uint8Array(0), "INVALID_RECORD", "empty"],
    [
      "a batch without records (1)",
      craftBatch(new Uint8Array(0), { recordCount: 0, lastOffsetDelta: 0 }),
      "INVALID_RECORD",
      "no records",
    ],
    ["length 0 (2)", craftBatch(one, { batchLength: 0 }), "RECORD_CORRUPT", "length field is 0"],
    ["length 1 (2)", craftBatch(one, { batchLength: 1 }), "RECORD_CORRUPT", "length field is 1"],
    ["length -1 (2)", craftBatch(one, { batchLength: -1 }), "RECORD_CORRUPT", "length field is -1"],
    ["length -2^31 (2)", craftBatch(one, { batchLength: -(2 ** 31) }), "RECORD_CORRUPT", "length field"],
    [
      "length 2^31-1 (2)",
      craftBatch(one, { batchLength: 2 ** 31 - 1 }),
      "RECORD_TOO_LARGE",
      "2147483659 bytes",
    ],
    [
      "length past the end (3)",
      craftBatch(one, { batchLength: 49 + one.length + 1 }),
      "RECORD_CORRUPT",
      "only 69 are there",
    ],
    [
      "length short of the end",
      craftBatch(one, { batchLength: 49 + one.length - 1 }),
      "RECORD_CORRUPT",
      "checksum",
    ],
    ["11 bytes", craftBatch(one).subarray(0, 11), "RECORD_CORRUPT", "too few"],
    ["60 bytes", craftBatch(one).subarray(0, 60), "RECORD_CORRUPT", "only 60 are there"],
    [
      "bytes after the batch (4)",
      Buffer.concat([craftBatch(one), Buffer.from([0])]),
      "INVALID_RECORD",
      "1 bytes follow",
    ],
    ["two batches", Buffer.concat([craftBatch(one), craftBatch(one)]), "INVALID_RECORD", "exactly one batch"],
    ["a wrong checksum (5)", craftBatch(one, { crc: 1 }), "RECORD_CORRUPT", "checksum is 0x00000001"],
    ["magic 1, checksum right (6)", craftBatch(one, { magic: 1 }), "UNSUPPORTED_VERSION", "magic byte is 1"],
    ["magic 3, checksum right (6)", craftBatch(one, { magic: 3 }), "UNSUPPORTED_VERSION", "magic byte is 3"],
    ["magic 3, checksum wrong", craftBatch(one, { magic: 3, crc: 1 }), "RECORD_CORRUPT", "magic byte is 3"],
    [
      "a count of 2^31-1 (7)",
      craftBatch(one, { recordCount: 2 ** 31 - 1 }),
      "INVALID_RECORD",
      "the limit is 262144",
    ],
    [
      "a count the bytes cannot hold (7)",
      craftBatch(one, { recordCount: 100_000 }),
      "INVALID_RECORD",
      "100000 records in 8 bytes",
    ],
    [
      "a negative count",
      craftBatch(one, { recordCount: -1, lastOffsetDelta: 0 }),
      "RECORD_CORRUPT",
      "out of range",
    ],
    [
      "a count over the cap, compressed (24)",
      craftBatch(gzipSync(one), { attributes: 1, recordCount: 10_000_000 }),
      "INVALID_RECORD",
      "the limit is 262144",
    ],
    [
      "fewer records than counted (8)",
      craftBatch(craftRecord({ value: [16, 1, 2, 3, 4, 5, 6, 7, 8] }), { recordCount: 2 }),
      "INVALID_RECORD",
      "record 1",
    ],
    [
      "more records than counted (8)",
      craftBatch(Buffer.concat([one, craftRecord({ offsetDelta: 1 })])),
      "INVALID_RECORD",
      "8 bytes follow its last record",
    ],
    [
      "a last offset delta beyond the count",
      craftBatch(one, { lastOffsetDelta: 1 }),
      "INVALID_RECORD",
      "last offset delta is 1",
    ],
    [
      "a negative last offset delta",
      craftBatch(one, { lastOffsetDelta: -1 }),
      "RECORD_CORRUPT",
      "out of range",
    ],
    [
      "codec snappy (19)",
      craftBatch(one, { attributes: 2 }),
      "UNSUPPORTED_COMPRESSION",
      '"snappy" is not available',
    ],
    [
      "codec lz4 (19)",
      craftBatch(one, { attributes: 3 }),
      "UNSUPPORTED_COMPRESSION",
      '"lz4" is not available',
    ],
    ["codec 5 (19)", craftBatch(one, { attributes: 5 }), "UNSUPPORTED_COMPRESSION", "codec 5 is unknown"],
    ["codec 7 (19)", craftBatch(one, { attributes: 7 }), "UNSUPPORTED_COMPRESSION", "codec 7 is unknown"],
    ["the append-time bit", craftBatch(one, { attributes: 1 << 3 }), "INVALID_RECORD", "append-time"],
    [
      "the transactional bit (22)",
      craftBatch(one, { attributes: 1 << 4, producerId: 1n, producerEpoch: 0, baseSequence: 0 }),
      "INVALID_RECORD",
      "transactional",
    ],
    ["the control bit (22)", craftBatch(one, { attributes: 1 << 5 }), "INVALID_RECORD", "control"],
    ["the delete-horizon bit", craftBatch(one, { attributes: 1 << 6 }), "INVALID_RECORD", "delete horizon"],
    ["an unknown attribute bit", craftBatch(one, { attributes: 1 << 7 }), "INVALID_RECORD", "0x80"],
    ["the highest attribute bit", craftBatch(one, { attributes: 1 << 15 }), "INVALID_RECORD", "0x8000"],
    [
      "a producer without a sequence",
      craftBatch(one, { producerId: 1n, producerEpoch: 0 }),
      "INVALID_RECORD",
      "sequence -1",
    ],
    [
      "a producer without an epoch",
      craftBatch(one, { producerId: 1n, baseSequence: 0 }),
      "INVALID_RECORD",
      "epoch -1",
    ],
    ["producer id -2", craftBatch(one, { producerId: -2n }), "INVALID_RECORD", "producer id is -2"],
    [
      "a producer id beyond 2^53",
      craftBatch(one, { producerId: 2n ** 53n, producerEpoch: 0, baseSequence: 0 }),
      "RECORD_CORRUPT",
      "producer id",
    ],
    [
      "a base offset beyond 2^53 (23)",
      craftBatch(one, { baseOffset: 2n ** 53n }),
      "RECORD_CORRUPT",
      "out of range",
    ],
    [
      "a last offset beyond 2^53",
      craftBatch(one, { baseOffset: 2n ** 53n - 1n }),
      "RECORD_CORRUPT",
      "out of range",
    ],
    ["a negative base offset (23)", craftBatch(one, { baseOffset: -1n }), "RECORD_CORRUPT", "out of range"],
  ];
  test.each(cases)("%s", (_, bytes, reason, text) => {
    const error = refusal(() => validateProducedBatch(bytes, limits));
    expect(error.message).toContain(text);
    expect(error).toMatchObject({ reason, metadata: { position: "0" } });
  });

  test("a batch one byte over the limit, and takes one of exactly the limit (20)", () => {
    expect(validateProducedBatch(large, { bytesMax: large.length }).sizeBytes).toBe(large.length);
    const error = refusal(() => validateProducedBatch(large, { bytesMax: large.length - 1 }));
    expect(error.reason).toBe("RECORD_TOO_LARGE");
  });
});

describe("a record is refused, by the walk, by a leader and by the decoder", () => {
  const nullKeyHeader = [2, 1, 1];
  const cases: [string, CraftedRecord | Buffer, string][] = [
    ["a length of -1", Buffer.from([1, 0, 0, 0, 1, 1, 0]), "length is -1"],
    ["a length past the batch", Buffer.from([20, 0, 0, 0, 1, 1, 0]), "10 bytes is longer"],
    ["a length that cuts its last field", Buffer.from([10, 0, 0, 0, 1, 1, 0]), "ends in the middle"],
    ["a byte after its headers", { after: [0] }, "1 bytes of it follow"],
    ["attributes", { attributes: 1 }, "attributes are 1"],
    ["an offset delta of 1 as the first", { offsetDelta: 1 }, "offset delta is 1"],
    ["an offset delta of -1", { offsetDelta: -1 }, "offset delta is -1"],
    [
      "a varint of eleven bytes (9)",
      { timestampDelta: [...new Array<number>(10).fill(0x80), 1] },
      "longer than 64 bits",
    ],
    ["a varint not in its shortest form (9)", { timestampDelta: [0x80, 0] }, "shortest form"],
    ["a key length of -2 (10)", { key: [3] }, "length is -2"],
    ["a key length past the record (10)", { key: [0x80, 1] }, "64 bytes is longer"],
    ["a key length of 2^31-1 (10)", { key: [0xfe, 0xff, 0xff, 0xff, 0x0f] }, "2147483647 bytes is longer"],
    ["a value length of -2 (10)", { value: [3] }, "length is -2"],
    ["a value length past the record (10)", { value: [10, 1, 2] }, "5 bytes is longer"],
    ["-1 headers", { headers: [1] }, "-1 headers"],
    ["10^6 headers (11)", { headers: varint(1_000_000) }, "the limit is 1024"],
    [
      "1025 headers (11)",
      { headers: [...varint(1025), ...new Array<number[]>(1025).fill([0, 1]).flat()] },
      "1025 headers",
    ],
    ["more headers than bytes", { headers: varint(1000) }, "ends in the middle"],
    ["a null header key (12)", { headers: nullKeyHeader }, "length is -1"],
    ["a header value length of -2 (10)", { headers: [2, 2, 0x61, 3] }, "length is -2"],
    ["a header key that is no UTF-8", { headers: [2, 4, 0x61, 0xff, 1] }, "not valid UTF-8"],
    ["a header key with a lone surrogate", { headers: [2, 6, 0xed, 0xa0, 0x80, 1] }, "not valid UTF-8"],
    ["a header key cut inside a character", { headers: [2, 2, 0xc3, 1] }, "not valid UTF-8"],
  ];
  test.each(cases)("with %s", (_, parts, text) => {
    const record = Buffer.isBuffer(parts) ? parts : craftRecord(parts);
    const spare = withLength([0, 0, 2, 1, 1, 0]);
    const plain = craftBatch(record);
    for (const run of [
      () => walkBatch(plain),
      () => validateProducedBatch(plain, limits),
      () => decodeBatch(plain),
    ]) {
      expect(refusal(run)).toMatchObject({ reason: "INVALID_RECORD" });
    }
    const error = refusal(() => validateProducedBatch(plain, limits));
    expect(error.message).toContain("record 0 (byte ");
    // inside a batch that goes on and inside compressed ones the decoder refuses it likewise
    expect(
      refusal(() => decodeBatch(craftBatch(zstdCompressSync(record), { attributes: 4 }))).message,
    ).toContain(text);
    expect(refusal(() => decodeBatch(craftBatch(gzipSync(record), { attributes: 1 }))).message).toContain(
      text,
    );
    expect(
      refusal(() => decodeBatch(craftBatch(Buffer.concat([record, spare]), { recordCount: 2 }))).reason,
    ).toBe("INVALID_RECORD");
  });

  test("whose offset deltas are not 0 .. n-1 (14)", () => {
    const swapped = craftBatch(
      Buffer.concat([craftRecord({ offsetDelta: 1 }), craftRecord({ offsetDelta: 0 })]),
      { recordCount: 2 },
    );
    expect(refusal(() => walkBatch(swapped)).message).toContain("offset delta is 1, not 0");
    expect(refusal(() => decodeBatch(swapped)).message).toContain("offset delta is 0, after 1");
    const gap = craftBatch(Buffer.concat([craftRecord(), craftRecord({ offsetDelta: 2 })]), {
      recordCount: 2,
      lastOffsetDelta: 2,
    });
    expect(refusal(() => walkBatch(gap)).message).toContain("offset delta is 2, not 1");
    // compaction leaves gaps: a reader takes them
    expect(decodeBatch(gap).map((record) => record.offset)).toEqual([0, 2]);
    const beyond = craftBatch(Buffer.concat([craftRecord(), craftRecord({ offsetDelta: 2 })]), {
      recordCount: 2,
    });
    expect(refusal(() => decodeBatch(beyond)).message).toContain("offset delta is 2");
  });
});

describe("a leader takes", () => {
  const plain = (header: CraftedHeader): Buffer => craftBatch(one, header);
  test.each<[string, Uint8Array]>([
    ["an anonymous batch", plain({})],
    ["a sequence without a producer (kafkajs sends 0)", plain({ baseSequence: 0, producerEpoch: 0 })],
    [
      "a base offset and leader epoch that the leader overwrites (23)",
      plain({ baseOffset: 77n, leaderEpoch: 9 }),
    ],
    [
      "the last sequence before the wrap",
      plain({ producerId: 2n ** 40n, producerEpoch: 32_767, baseSequence: 2 ** 31 - 1 }),
    ],
    ["timestamps beyond 2^53, raw (15)", plain({ baseTimestamp: 2n ** 62n, maxTimestamp: 2n ** 62n })],
    ["negative timestamps (15)", plain({ baseTimestamp: -1n, maxTimestamp: -1n })],
    [
      "1024 headers",
      craftBatch(
        craftRecord({ headers: [...varint(1024), ...new Array<number[]>(1024).fill([0, 1]).flat()] }),
      ),
    ],
    ["a compressed batch, unopened", craftBatch(Buffer.from("not zstd"), { attributes: 4, recordCount: 3 })],
  ])("%s", (_, bytes) => {
    expect(() => validateProducedBatch(bytes, limits)).not.toThrow();
  });
});

describe("walking", () => {
  test("a compressed batch in place is refused", () => {
    const batch = encodeBatch([{ key: null, value: Buffer.alloc(100), headers: [], timestampMs: 1 }], {
      compression: "gzip",
    });
    expect(refusal(() => walkBatch(batch)).message).toContain("compressed");
  });

  test("a batch that is not whole is refused", () => {
    expect(refusal(() => walkBatch(craftBatch(one).subarray(0, 65))).message).toContain("not whole");
  });

  test("keeps to its batch: what precedes and follows is not looked at", () => {
    const bytes = Buffer.concat([Buffer.alloc(13, 0xff), craftBatch(one), Buffer.alloc(13, 0xff)]);
    expect(() => walkBatch(bytes, 13)).not.toThrow();
    const error = refusal(() =>
      walkBatch(Buffer.concat([Buffer.alloc(13), craftBatch(craftRecord({ after: [0] }))]), 13),
    );
    expect(error.metadata).toEqual({ position: "13" });
  });

  test("allocates nothing per record", () => {
    const batch = encodeBatch(
      Array.from({ length: 20_000 }, (_, i) => ({
        key: Buffer.from(`k${i}`),
        value: Buffer.alloc(20),
        headers: [{ key: "host", value: Buffer.from("web") }],
        timestampMs: i * 1_000,
      })),
    );
    for (let i = 0; i < 20; i++) walkBatch(batch);
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 20; i++) walkBatch(batch);
    // 400,000 records: one object of 16 bytes each would be 6.4 MB
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(3_000_000);
  });
});

describe("reading concatenated batches", () => {
  const batches = [
    craftBatch(one),
    craftBatch(craftRecord({ key: [4, 1, 2] }), { baseOffset: 1n }),
    craftBatch(one, { baseOffset: 2n }),
  ];
  const bytes = Buffer.concat(batches);

  test("finds each whole one, for every cut of the bytes", () => {
    const ends = [69, 140, 209];
    expect(bytes.length).toBe(209);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const found = [...iterateBatches(bytes.subarray(0, cut))];
      expect(found).toHaveLength(ends.filter((end) => end <= cut).length);
      found.forEach(({ position, header }, i) => {
        expect(header.baseOffset).toBe(i);
        expect(header).toEqual(verifyBatch(bytes, position));
      });
    }
  });

  test("stops with an error where bytes are no batch", () => {
    const error = refusal(() => [...iterateBatches(Buffer.concat([bytes, Buffer.alloc(61)]))]);
    expect(error).toMatchObject({ reason: "RECORD_CORRUPT", metadata: { position: "209" } });
  });

  test("reads a header at a position", () => {
    expect(readBatchHeader(bytes, 69)).toMatchObject({
      baseOffset: 1,
      lastOffset: 1,
      nextOffset: 2,
      sizeBytes: 71,
    });
  });
});
