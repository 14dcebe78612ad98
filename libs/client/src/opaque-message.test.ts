import { FetchedData, FetchResponse, ProduceRequest } from "@millrace/proto/storage";
import { describe, expect, it } from "vitest";
import { encodeOpaque } from "./opaque-message.ts";
import { encodeProduceBatch } from "./produce-stream.ts";

const sizes = [0, 1, 126, 127, 128, 16_383, 16_384, 300_000, 3_000_000];

describe("messages around opaque bytes", () => {
  it.each(sizes)("a produce request of %i bytes decodes with the generated code", (size) => {
    const bytes = new Uint8Array(size).map((_, i) => i);
    const encoded = encodeProduceBatch(
      {
        topicId: "abcdefghijklmnopqrstuv",
        partition: 7,
        leaderEpoch: -1,
        bytes,
        resetSequence: true,
        previousProducerId: 2 ** 40 + 1,
      },
      2 ** 40,
    );
    const { message } = ProduceRequest.decode(encoded);
    expect(message?.$case).toBe("batch");
    if (message?.$case !== "batch") return;
    const { data, ...fields } = message.value;
    expect(fields).toEqual({
      correlationId: 2 ** 40,
      topicId: "abcdefghijklmnopqrstuv",
      partition: 7,
      leaderEpoch: -1,
      resetSequence: true,
      previousProducerId: 2 ** 40 + 1,
    });
    expect(data?.$case === "batch" && Buffer.from(data.value).equals(bytes)).toBe(true);
  });

  it.each(sizes)("a batch of %i bytes with room in front gives the same request without a copy", (size) => {
    const slab = Buffer.alloc(128 + size + 5);
    const bytes = slab.subarray(128, 128 + size);
    bytes.fill(7);
    const call = {
      topicId: "abcdefghijklmnopqrstuv",
      partition: 2 ** 31 - 1,
      leaderEpoch: 2 ** 31 - 1,
      bytes,
      resetSequence: true,
      previousProducerId: 2 ** 40 + 1,
    };
    const inPlace = encodeProduceBatch({ ...call, slab }, Number.MAX_SAFE_INTEGER);
    expect(inPlace.equals(encodeProduceBatch(call, Number.MAX_SAFE_INTEGER))).toBe(true);
    expect(inPlace.buffer).toBe(slab.buffer);
  });

  it.each(sizes)("fetched data of %i bytes in two chunks decodes with the generated code", (size) => {
    const bytes = new Uint8Array(size).map((_, i) => i * 3);
    const fields = {
      subscriptionId: 3,
      startOffset: 0,
      highWatermark: 2 ** 45,
      nextOffset: 9,
      leaderEpoch: 2,
    };
    const innerFields = FetchedData.encode({ ...fields, error: undefined, data: undefined }).finish();
    const half = Math.floor(size / 2);
    const chunks = [bytes.subarray(0, half), bytes.subarray(half)];
    const decoded = FetchResponse.decode(encodeOpaque({ innerField: 2, innerFields, bytesField: 3, chunks }));
    expect(decoded.message?.$case).toBe("data");
    if (decoded.message?.$case !== "data") return;
    const { data, error, ...rest } = decoded.message.value;
    expect(error).toBeUndefined();
    expect(rest).toEqual(fields);
    expect(data?.$case === "batches" && Buffer.from(data.value).equals(bytes)).toBe(true);
  });
});
