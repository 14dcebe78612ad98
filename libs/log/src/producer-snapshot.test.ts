import { describe, expect, it } from "vitest";
import { decodeProducerSnapshot, encodeProducerSnapshot } from "./producer-snapshot.ts";

const entries = [
  {
    producerId: 5,
    producerEpoch: 2,
    lastSequence: 41,
    lastOffset: 1041,
    offsetDelta: 3,
    lastTimestampMs: 1_700_000_000_123,
  },
  {
    producerId: 2 ** 40 + 1,
    producerEpoch: 0,
    lastSequence: 0,
    lastOffset: 2 ** 50,
    offsetDelta: 0,
    lastTimestampMs: -1,
  },
];

describe("Kafka's .snapshot", () => {
  it("has Kafka's bytes", () => {
    const bytes = encodeProducerSnapshot(entries.slice(0, 1));
    expect(bytes.length).toBe(10 + 46);
    expect(bytes.toString("hex").replace(/^(.{4}).{8}/, "$1........")).toBe(
      [
        "0001........00000001",
        "00000000000000050002000000290000000000000411000000030000018bcfe5687b",
        "ffffffffffffffffffffffff",
      ].join(""),
    );
  });

  it("reads what it writes, and nothing with a flipped bit or a cut end", () => {
    const bytes = encodeProducerSnapshot(entries);
    expect(decodeProducerSnapshot(bytes)).toEqual(entries);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >>> 3] = (damaged[bit >>> 3] as number) ^ (1 << (bit & 7));
      expect(decodeProducerSnapshot(damaged), `bit ${bit}`).toBeUndefined();
    }
    for (let cut = 0; cut < bytes.length; cut++)
      expect(decodeProducerSnapshot(bytes.subarray(0, cut))).toBeUndefined();
  });
});
