import { describe, expect, it } from "vitest";
import { recordOf } from "../conformance/cases.ts";
import { conformChannel } from "../conformance/channel.ts";
import { MemoryChannel } from "./memory-channel.ts";
import { recordsSizeBytes } from "./record-codec.ts";

const limits = {
  records: 10_000,
  bytes: 64 * 1024 * 1024,
  transactionRecords: 10_000,
  recordBytes: 16 * 1024 * 1024,
  keepAliveMs: 100,
};

describe("memory channel", () => {
  const cases = conformChannel({
    setUp: async () => {
      const channel = new MemoryChannel("c1", limits);
      return {
        channel,
        put: async (records) => {
          channel.room.add(records.length, recordsSizeBytes(records));
          channel.append(records);
        },
        tearDown: () => channel.close(),
      };
    },
  });
  for (const { title, run } of cases) it(title, run);

  it("has a new id at every start (A2)", () => {
    expect(new MemoryChannel("c1", limits).id).not.toBe(new MemoryChannel("c1", limits).id);
  });

  it("lets go of delivered records", async () => {
    const channel = new MemoryChannel("c1", limits);
    for (let round = 0; round < 100; round++) {
      const records = Array.from({ length: 100 }, () => recordOf("x"));
      channel.room.add(100, recordsSizeBytes(records));
      channel.append(records);
      const take = await channel.take(100, 1e9);
      channel.commit(take!.from, take!.to);
    }
    expect(channel.room).toMatchObject({ usedRecords: 0, usedBytes: 0 });
    expect(channel.endSequence).toBe(10_000);
  });
});
