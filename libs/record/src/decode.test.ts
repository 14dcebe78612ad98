/** Decoding: round trips, damage, bombs, and the fields Kafka allows but producers here do not send. */
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { AppError } from "@millrace/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { batchSizeAt } from "./batch-header.ts";
import { type CompressionName, codecs } from "./codecs.ts";
import { decodeBatch } from "./decode.ts";
import { encodeBatch } from "./encode.ts";
import { craftBatch, craftRecord, varint } from "./testing/craft.ts";
import type { Record } from "./types.ts";
import { validateProducedBatch, verifyBatch } from "./validate.ts";

const bytesOrNull = fc.option(fc.uint8Array({ maxLength: 200 }));
const headerKey = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 20 }),
  fc.constantFrom("__proto__", "constructor", "toString", "", "\u0000", "\ufeffbom", "host"),
);
const anyTimestamp = fc.oneof(
  fc.integer({ min: 1_700_000_000_000, max: 1_700_000_100_000 }),
  fc.maxSafeInteger(),
  fc.constantFrom(-1, 0, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER),
);
const anyRecord: fc.Arbitrary<Record> = fc.record({
  key: bytesOrNull,
  value: bytesOrNull,
  headers: fc.array(fc.record({ key: headerKey, value: bytesOrNull }), { maxLength: 5 }),
  timestampMs: anyTimestamp,
});
const anyCompression = fc.constantFrom<CompressionName>("none", "gzip", "zstd");

function outcome(run: () => unknown): string {
  try {
    run();
    return "accepted";
  } catch (error) {
    if (error instanceof AppError) return error.reason;
    throw error;
  }
}

/** A record without its offset, with plain arrays: what two records are compared by. */
function content(record: Record): unknown {
  const plain = (bytes: Uint8Array | null): Uint8Array | null =>
    bytes === null ? null : Uint8Array.from(bytes);
  return {
    key: plain(record.key),
    value: plain(record.value),
    headers: record.headers.map((header) => ({ key: header.key, value: plain(header.value) })),
    timestampMs: record.timestampMs,
  };
}

describe("a round trip", () => {
  test("gives back every record, byte for byte, with every codec", () => {
    fc.assert(
      fc.property(
        fc.array(anyRecord, { minLength: 1, maxLength: 30 }),
        anyCompression,
        fc.nat(2 ** 40),
        (records, compression, baseOffset) => {
          const batch = encodeBatch(records, { compression, baseOffset });
          expect(validateProducedBatch(batch, { bytesMax: batch.length }).recordCount).toBe(records.length);
          const decoded = decodeBatch(batch);
          expect(decoded.map(content)).toEqual(records.map(content));
          expect(decoded.map((record) => record.offset)).toEqual(records.map((_, i) => baseOffset + i));
          expect(verifyBatch(batch).maxTimestampMs).toBe(
            Math.max(...records.map((record) => record.timestampMs)),
          );
        },
      ),
    );
  });

  test('keeps the order of duplicate header keys, and "__proto__" is data (12, 13)', () => {
    const headers = ["__proto__", "a", "__proto__", "constructor"].map((key, i) => ({
      key,
      value: Buffer.from([i]),
    }));
    const [record] = decodeBatch(encodeBatch([{ key: null, value: null, headers, timestampMs: 0 }]));
    expect(record?.headers).toEqual(headers);
    expect(Object.hasOwn(Object.prototype, "a")).toBe(false);
  });

  test("works on a plain Uint8Array inside a larger buffer", () => {
    const batch = encodeBatch([
      {
        key: Buffer.from("k"),
        value: Buffer.from("v"),
        headers: [{ key: "h", value: null }],
        timestampMs: 5,
      },
    ]);
    const wide = new Uint8Array(batch.length + 20).fill(0xee);
    wide.set(batch, 7);
    const [record] = decodeBatch(wide.subarray(3, 3 + batch.length + 10), 4);
    expect(record).toMatchObject({
      key: new Uint8Array([0x6b]),
      value: new Uint8Array([0x76]),
      headers: [{ key: "h", value: null }],
    });
  });

  test("many records grow the buffer as often as needed", () => {
    const records = Array.from({ length: 5_000 }, (_, i) => ({
      key: null,
      value: Buffer.from(`line ${i}`),
      headers: [],
      timestampMs: i,
    }));
    expect(decodeBatch(encodeBatch(records)).map((record) => String(record.value))).toEqual(
      records.map((record) => String(record.value)),
    );
  });
});

describe("damage", () => {
  const records: Record[] = [
    {
      key: Buffer.from("key"),
      value: Buffer.from("first value, first value"),
      headers: [{ key: "host", value: Buffer.from("a") }],
      timestampMs: 1_700_000_000_000,
    },
    {
      key: null,
      value: Buffer.from("second value, second value"),
      headers: [],
      timestampMs: 1_700_000_000_005,
    },
  ];

  test.each<CompressionName>([
    "none",
    "gzip",
    "zstd",
  ])("every truncation of a %s batch is refused", (compression) => {
    const batch = encodeBatch(records, { compression });
    for (let length = 0; length < batch.length; length++) {
      const cut = batch.subarray(0, length);
      expect(outcome(() => decodeBatch(cut))).toBe("RECORD_CORRUPT");
      expect(outcome(() => validateProducedBatch(cut, { bytesMax: 1_000 }))).toBe(
        length === 0 ? "INVALID_RECORD" : "RECORD_CORRUPT",
      );
    }
  });

  test.each<CompressionName>([
    "none",
    "gzip",
    "zstd",
  ])("every bit flip of a %s batch is refused, or is outside the checksum and changes no record", (compression) => {
    const batch = encodeBatch(records, { compression, baseOffset: 1_000, leaderEpoch: 5 });
    const expected = JSON.stringify(records.map(content));
    let accepted = 0;
    for (let bit = 0; bit < batch.length * 8; bit++) {
      const flipped = Uint8Array.from(batch);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      let decoded: Record[];
      try {
        decoded = decodeBatch(flipped);
      } catch (error) {
        expect(error).toBeInstanceOf(AppError);
        continue;
      }
      accepted++;
      const byte = bit >> 3;
      expect(byte < 8 || (byte >= 12 && byte < 16), `byte ${byte}`).toBe(true);
      expect(JSON.stringify(decoded.map(content))).toBe(expected);
    }
    // 32 bits of leader epoch and the 53 of a safe base offset
    expect(accepted).toBe(32 + 53);
  });

  test("arbitrary bytes, sealed as if they were right, never do more than be refused", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: -1, max: 40 }),
        fc.nat(0x7f),
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
        (block, recordCount, attributes, baseTimestamp) => {
          const batch = craftBatch(block, { recordCount, attributes, baseTimestamp });
          outcome(() => decodeBatch(batch));
          outcome(() => validateProducedBatch(batch, { bytesMax: 1_000 }));
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("what the walk accepts of altered records, the decoder reads, and the other way round", () => {
    const good = encodeBatch(records);
    let both = 0;
    for (let at = 61; at < good.length; at++) {
      for (const value of [0, 1, 2, 3, 0x7f, 0x80, 0xff]) {
        const block = Uint8Array.from(good.subarray(61));
        block[at - 61] = value;
        const batch = craftBatch(block, { recordCount: 2 });
        const walked = outcome(() => validateProducedBatch(batch, { bytesMax: 1_000 }));
        expect(outcome(() => decodeBatch(batch))).toBe(walked);
        if (walked === "accepted") both++;
      }
    }
    expect(both).toBeGreaterThan(100);
  });
});

describe("compressed blocks", () => {
  const one = craftRecord();
  const gzipped = (block: Uint8Array, recordCount = 1): Buffer =>
    craftBatch(block, { attributes: 1, recordCount });
  const zstded = (block: Uint8Array, recordCount = 1): Buffer =>
    craftBatch(block, { attributes: 4, recordCount });

  test.each([
    ["gzip", gzipped(gzipSync(one).subarray(0, -3))],
    ["zstd", zstded(zstdCompressSync(one).subarray(0, -3))],
    ["empty gzip", gzipped(new Uint8Array(0))],
    ["empty zstd", zstded(new Uint8Array(0))],
    ["zlib instead of gzip", gzipped(deflateSync(one))],
    ["text instead of zstd", zstded(Buffer.from("hello, hello"))],
    ["gzip with garbage after it", gzipped(Buffer.concat([gzipSync(one), Buffer.from("garbage")]))],
    ["zstd with garbage after it", zstded(Buffer.concat([zstdCompressSync(one), Buffer.from("garbage")]))],
  ])("damaged or cut (%s) are RECORD_CORRUPT (18)", (_, batch) => {
    expect(outcome(() => decodeBatch(batch))).toBe("RECORD_CORRUPT");
  });

  const records = (count: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, i) => craftRecord({ offsetDelta: i })));

  test.each([
    [
      "gzip members",
      gzipped(Buffer.concat([gzipSync(records(2).subarray(0, 8)), gzipSync(records(2).subarray(8))]), 2),
    ],
    [
      "zstd frames",
      zstded(
        Buffer.concat([
          zstdCompressSync(records(2).subarray(0, 5)),
          zstdCompressSync(records(2).subarray(5)),
        ]),
        2,
      ),
    ],
  ])("of concatenated %s are one block", (_, batch) => {
    expect(decodeBatch(batch)).toHaveLength(2);
  });

  const zeros = Buffer.alloc(8 * 1024 * 1024);
  test.each([
    ["gzip 1:1000", gzipped(gzipSync(zeros))],
    ["zstd 1:20000", zstded(zstdCompressSync(zeros))],
    [
      "concatenated gzip members (17)",
      gzipped(Buffer.concat(new Array<Buffer>(40).fill(gzipSync(zeros.subarray(0, 40_000))))),
    ],
    [
      "concatenated zstd frames (17)",
      zstded(Buffer.concat(new Array<Buffer>(40).fill(zstdCompressSync(zeros.subarray(0, 40_000))))),
    ],
  ])("that inflate past the cap (%s) are aborted there (16)", (_, batch) => {
    expect(batch.length).toBeLessThan(10_000);
    expect(outcome(() => decodeBatch(batch, 0, { inflatedBytesMax: 1_000_000 }))).toBe("RECORD_TOO_LARGE");
  });

  test("a bomb of 1 GiB under the default cap costs the cap, not the bomb (16)", () => {
    const frame = zstdCompressSync(zeros);
    const batch = zstded(Buffer.concat(new Array<Buffer>(128).fill(frame)));
    const before = process.memoryUsage().rss;
    expect(outcome(() => decodeBatch(batch))).toBe("RECORD_TOO_LARGE");
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024);
  });

  test("of more zstd frames than any producer writes are refused before they cost time", () => {
    const empty = zstdCompressSync(Buffer.alloc(0));
    const batch = (frames: number): Buffer =>
      zstded(Buffer.concat([zstdCompressSync(one), ...new Array<Buffer>(frames - 1).fill(empty)]));
    expect(decodeBatch(batch(1_024))).toHaveLength(1);
    expect(outcome(() => decodeBatch(batch(1_025)))).toBe("RECORD_CORRUPT");
  });

  test("of exactly the cap are read, one byte more is refused (21)", () => {
    const value = Buffer.alloc(10_000, 0x61);
    const batch = encodeBatch([{ key: null, value, headers: [], timestampMs: 0 }], { compression: "zstd" });
    const inflatedBytes = encodeBatch([{ key: null, value, headers: [], timestampMs: 0 }]).length - 61;
    expect(decodeBatch(batch, 0, { inflatedBytesMax: inflatedBytes })[0]?.value).toEqual(value);
    expect(outcome(() => decodeBatch(batch, 0, { inflatedBytesMax: inflatedBytes - 1 }))).toBe(
      "RECORD_TOO_LARGE",
    );
    const gzip = encodeBatch([{ key: null, value, headers: [], timestampMs: 0 }], { compression: "gzip" });
    expect(decodeBatch(gzip, 0, { inflatedBytesMax: inflatedBytes })[0]?.value).toEqual(value);
    expect(outcome(() => decodeBatch(gzip, 0, { inflatedBytesMax: inflatedBytes - 1 }))).toBe(
      "RECORD_TOO_LARGE",
    );
  });

  test("with a count their bytes cannot hold are refused, nothing is allocated for it (7, 24)", () => {
    expect(outcome(() => decodeBatch(gzipped(gzipSync(one), 2 ** 31 - 1)))).toBe("INVALID_RECORD");
    expect(() => decodeBatch(gzipped(gzipSync(one), 200_000))).toThrow("claims 200000 records in 8 bytes");
    // refused before the stream is touched
    const damaged = gzipped(Buffer.from("no gzip"), 1_000);
    expect(outcome(() => decodeBatch(damaged))).toBe("RECORD_CORRUPT");
    expect(() => decodeBatch(damaged, 0, { inflatedBytesMax: 6_999 })).toThrow(
      "claims 1000 records in 6999 bytes",
    );
  });

  test("what compression would enlarge stays uncompressed, so a batch never passes its limit", () => {
    const noise = Uint8Array.from({ length: 64 }, (_, i) => (i * 151 + 17) & 0xff);
    for (const compression of ["gzip", "zstd"] as const) {
      const batch = encodeBatch([{ key: null, value: noise, headers: [], timestampMs: 0 }], { compression });
      expect(verifyBatch(batch).compression).toBe(0);
    }
    const text = Buffer.alloc(1_000, "text ");
    const batch = encodeBatch([{ key: null, value: text, headers: [], timestampMs: 0 }], {
      compression: "zstd",
    });
    expect(verifyBatch(batch)).toMatchObject({ compression: 4 });
    expect(batch.length).toBeLessThan(200);
  });

  test.each(["snappy", "lz4"] as const)("%s is known by name and refused", (compression) => {
    expect(outcome(() => encodeBatch([], { compression }))).toBe("UNSUPPORTED_COMPRESSION");
    expect(codecs[compression]).toBeUndefined();
  });
});

describe("what Kafka's logs may hold", () => {
  test("an empty batch left by compaction gives no record and keeps its offsets", () => {
    for (const attributes of [0, 1, 4, 1 << 6]) {
      const batch = craftBatch(new Uint8Array(0), {
        recordCount: 0,
        lastOffsetDelta: 9,
        baseOffset: 20n,
        attributes,
        baseTimestamp: -1n,
      });
      expect(decodeBatch(batch)).toEqual([]);
      expect(verifyBatch(batch).nextOffset).toBe(30);
    }
  });

  test("a control batch carries no data", () => {
    const marker = craftRecord({ key: [8, 0, 0, 0, 1], value: [12, 0, 0, 0, 0, 0, 7] });
    const batch = craftBatch(marker, { attributes: 0x30, producerId: 7n, producerEpoch: 1, baseOffset: 5n });
    expect(decodeBatch(batch)).toEqual([]);
    expect(verifyBatch(batch)).toMatchObject({ isControl: true, isTransactional: true, nextOffset: 6 });
  });

  test("with the append-time bit every record has the batch's max timestamp", () => {
    const batch = craftBatch(craftRecord({ timestampDelta: [4] }), { attributes: 1 << 3, maxTimestamp: 99n });
    expect(decodeBatch(batch)[0]?.timestampMs).toBe(99);
    expect(verifyBatch(batch).timestampType).toBe("append");
  });

  test("with a delete horizon, deltas are relative to it", () => {
    const batch = craftBatch(craftRecord({ timestampDelta: varint(-400) }), {
      attributes: 1 << 6,
      baseTimestamp: 1_000n,
    });
    expect(decodeBatch(batch)[0]?.timestampMs).toBe(600);
    expect(verifyBatch(batch).hasDeleteHorizon).toBe(true);
  });

  test.each<[string, { attributes?: number; baseTimestamp: bigint; maxTimestamp?: bigint }, number[]]>([
    ["base", { baseTimestamp: 2n ** 53n }, [0]],
    ["negative base", { baseTimestamp: -(2n ** 53n) }, [0]],
    ["base + delta", { baseTimestamp: 2n ** 53n - 1n }, [2]],
    ["delta", { baseTimestamp: 0n }, varint(2n ** 60n)],
    ["append time", { attributes: 1 << 3, baseTimestamp: 0n, maxTimestamp: 2n ** 63n - 1n }, [0]],
  ])("a timestamp beyond 2^53 (%s) makes it a poison unit (15, design §11)", (_, header, timestampDelta) => {
    const batch = craftBatch(craftRecord({ timestampDelta }), header);
    expect(outcome(() => decodeBatch(batch))).toBe("INVALID_RECORD");
    const { baseTimestampMs, maxTimestampMs } = verifyBatch(batch);
    expect(Number.isSafeInteger(baseTimestampMs) && Number.isSafeInteger(maxTimestampMs)).toBe(true);
  });

  test("a base beyond 2^53 with a delta that leads back is read exactly", () => {
    const batch = craftBatch(craftRecord({ timestampDelta: varint(-(2n ** 60n) + 5n) }), {
      baseTimestamp: 2n ** 60n,
    });
    expect(decodeBatch(batch)[0]?.timestampMs).toBe(5);
    // 64-bit sums wrap, as in Kafka
    const wrapping = craftBatch(craftRecord({ timestampDelta: varint(2n ** 63n - 1n) }), {
      baseTimestamp: 2n ** 63n - 1n,
    });
    expect(decodeBatch(wrapping)[0]?.timestampMs).toBe(-2);
  });
});

describe("records the format cannot hold are refused on encode", () => {
  const record: Record = { key: null, value: null, headers: [], timestampMs: 0 };
  test.each<[string, Record]>([
    ["a timestamp with a fraction", { ...record, timestampMs: 1.5 }],
    ["a timestamp of NaN", { ...record, timestampMs: Number.NaN }],
    ["a timestamp beyond 2^53", { ...record, timestampMs: 2 ** 53 }],
    ["1025 headers", { ...record, headers: Array.from({ length: 1025 }, () => ({ key: "a", value: null })) }],
    ["a header key with a lone surrogate", { ...record, headers: [{ key: "a\ud800", value: null }] }],
  ])("%s", (_, bad) => {
    expect(outcome(() => encodeBatch([bad]))).toBe("INVALID_RECORD");
    expect(outcome(() => encodeBatch([record, bad]))).toBe("INVALID_RECORD");
  });

  test("more records than a batch may have (24)", () => {
    const records = new Array<Record>(262_145).fill(record);
    expect(outcome(() => encodeBatch(records))).toBe("RECORD_TOO_LARGE");
    expect(decodeBatch(encodeBatch(records.slice(1)))).toHaveLength(262_144);
  });
});

describe("batchSizeAt", () => {
  test("needs 12 bytes and a length that holds a header", () => {
    const batch = encodeBatch([{ key: null, value: null, headers: [], timestampMs: 0 }]);
    expect(batchSizeAt(batch, 0)).toBe(68);
    expect(batchSizeAt(batch.subarray(0, 12), 0)).toBe(68);
    expect(batchSizeAt(batch.subarray(0, 11), 0)).toBeUndefined();
    expect(batchSizeAt(craftBatch(new Uint8Array(0), { batchLength: 48 }), 0)).toBeUndefined();
    expect(batchSizeAt(craftBatch(new Uint8Array(0), { batchLength: 49 }), 0)).toBe(61);
    expect(batchSizeAt(craftBatch(new Uint8Array(0), { batchLength: -1 }), 0)).toBeUndefined();
  });
});
