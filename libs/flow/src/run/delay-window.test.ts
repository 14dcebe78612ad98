import { describe, expect, test } from "vitest";
import { DelayWindow } from "./delay-window.ts";

describe("the delay window", () => {
  test("tells the delay that 99 % of the records had at most", () => {
    const window = new DelayWindow();
    window.add(5, 985, 0);
    window.add(70, 10, 0);
    window.add(900, 5, 0);
    expect(window.p99Ms(0)).toBe(70);
    window.add(900, 20, 0);
    expect(window.p99Ms(499)).toBe(70);
    expect(window.p99Ms(500)).toBe(900);
  });

  test("forgets after a minute, and holds a bounded number", () => {
    const window = new DelayWindow();
    window.add(900, 1, 0);
    window.add(5, 1, 50_000);
    expect(window.p99Ms(60_001)).toBe(5);
    expect(window.p99Ms(120_000)).toBeUndefined();
    window.add(900, 1, 120_000);
    for (let i = 0; i < 5_000; i++) window.add(5, 1, 120_000);
    expect(window.p99Ms(120_500)).toBe(5);
  });

  test("is empty at first", () => {
    expect(new DelayWindow().p99Ms(0)).toBeUndefined();
  });
});
