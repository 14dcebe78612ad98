import { describe, expect, test } from "vitest";
import { murmur2, partitionForKey } from "./partitioner.ts";

describe("murmur2", () => {
  // Kafka's UtilsTest.testMurmur2
  test.each([
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
    // kafkajs
    ["0", 971027396],
    ["1", -1993445489],
    ["128", -326012175],
    ["100:48069", 1009543857],
    // librdkafka
    ["kafka", 0xd067cf64 | 0],
    ["giberish123456789", 0x8f552b0c | 0],
    ["1234", 0x9fc97b14 | 0],
    ["234", 0xe7c009ca | 0],
    ["34", 0x873930da | 0],
    ["4", 0x5a4b5ca1],
    ["", 0x106e08d9],
    ["PreAmbleWillBeRemoved,ThePrePartThatIs", 0x78424f1c],
  ])("of %j is what Kafka's clients compute", (text, expected) => {
    expect(murmur2(Buffer.from(text))).toBe(expected);
  });
});

describe("partitionForKey", () => {
  test("is Kafka's toPositive(murmur2) % n, for negative hashes too", () => {
    expect(partitionForKey(Buffer.from("21"), 1000)).toBe((-973932308 & 0x7fffffff) % 1000);
    expect(partitionForKey(Buffer.from("abc"), 7)).toBe(479470107 % 7);
    expect(partitionForKey(Buffer.from("anything"), 1)).toBe(0);
  });

  test("spreads keys over all partitions", () => {
    const seen = new Set(Array.from({ length: 200 }, (_, i) => partitionForKey(Buffer.from(`key-${i}`), 12)));
    expect(seen.size).toBe(12);
  });

  test.each([0, -1, 1.5, Number.NaN])("refuses %s partitions", (count) => {
    expect(() => partitionForKey(Buffer.from("k"), count)).toThrow("at least one partition");
  });
});
