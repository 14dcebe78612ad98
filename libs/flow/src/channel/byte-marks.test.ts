import { describe, expect, it } from "vitest";
import { ByteMarks } from "./byte-marks.ts";

describe("ByteMarks", () => {
  it("is exact at marks and in proportion between them", () => {
    const marks = new ByteMarks({ sequence: 0, bytes: 0 }, 100);
    marks.add(10, 100);
    marks.add(20, 1_100);
    expect([0, 5, 10, 15, 20].map((at) => marks.bytesBelow(at))).toEqual([0, 50, 100, 600, 1_100]);
  });

  it("merges marks closer than the interval, and the last one is exact", () => {
    const marks = new ByteMarks({ sequence: 0, bytes: 0 }, 100);
    for (let i = 1; i <= 50; i++) marks.add(i, i * 10);
    expect(marks.bytesBelow(50)).toBe(500);
    expect(marks.last).toEqual({ sequence: 50, bytes: 500 });
    marks.dropBelow(45);
    expect(marks.bytesBelow(45)).toBe(450);
    expect(marks.bytesBelow(50)).toBe(500);
  });
});
