import { describe, expect, it } from "vitest";
import { StateTable } from "./state-table.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text);

describe("J5 the state table", () => {
  it("opens a journal file only with what its entries said so far, not with what is queued", () => {
    const table = new StateTable();
    table.apply([{ key: "a", value: bytes("1") }]);
    expect(table.get("a")).toEqual(bytes("1"));
    expect(table.snapshot()).toEqual([]);
    table.applyJournaled([{ key: "a", value: bytes("1") }]);
    table.apply([{ key: "a", value: null }]);
    expect(table.get("a")).toBeUndefined();
    expect(table.snapshot()).toEqual([{ key: "a", value: bytes("1") }]);
  });

  it("keeps count of its size and refuses beyond the limit", () => {
    const table = new StateTable();
    table.apply([{ key: "key", value: bytes("12345") }]);
    expect(table.sizeBytes).toBe(14);
    expect(() => table.check([{ key: "more", value: bytes("12345") }], 20)).toThrow(
      /state table would have 29 bytes/,
    );
    table.check([{ key: "key", value: bytes("1234567") }], 20);
    table.check([{ key: "key", value: null }], 0);
    table.apply([
      { key: "key", value: bytes("1") },
      { key: "key", value: null },
    ]);
    expect(table.sizeBytes).toBe(0);
    expect(() => table.check([{ key: "", value: null }], 99)).toThrow(/1 to 1024 bytes/);
  });

  it("lists users' keys by prefix, sorted, without the library's own", () => {
    const table = new StateTable();
    table.reset(["b/2", "b/1", "a", "\u0000log/1"].map((key) => ({ key, value: bytes("") })));
    expect(table.keys("")).toEqual(["a", "b/1", "b/2"]);
    expect(table.keys("b/")).toEqual(["b/1", "b/2"]);
    expect(table.keys("\u0000log/")).toEqual(["\u0000log/1"]);
  });
});
