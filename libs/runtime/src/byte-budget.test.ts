import { describe, expect, it } from "vitest";
import { ByteBudget } from "./byte-budget.ts";

describe("ByteBudget", () => {
  it("lets waiters in in order, and a later small one never overtakes an earlier large one", async () => {
    const budget = new ByteBudget(100);
    const entered: string[] = [];
    await budget.acquire(80);
    const large = budget.acquire(60).then(() => entered.push("large"));
    const small = budget.acquire(10).then(() => entered.push("small"));
    expect(budget.tryAcquire(1)).toBe(false);
    budget.release(80);
    await Promise.all([large, small]);
    expect(entered).toEqual(["large", "small"]);
    expect(budget.usedBytes).toBe(70);
  });

  it("lets one item larger than the budget through when nothing else is in use", () => {
    const budget = new ByteBudget(10);
    expect(budget.tryAcquire(500)).toBe(true);
    expect(budget.tryAcquire(1)).toBe(false);
  });

  it("lets the next in when the waiter before it gives up", async () => {
    const budget = new ByteBudget(10);
    await budget.acquire(10);
    const controller = new AbortController();
    const given = budget.acquire(8, controller.signal);
    const next = budget.acquire(2);
    budget.release(5);
    controller.abort();
    await expect(given).rejects.toMatchObject({ reason: "CANCELLED" });
    await next;
    expect(budget.usedBytes).toBe(7);
  });

  it("never hands out more than it has", () => {
    const budget = new ByteBudget(10);
    expect(() => budget.release(1)).toThrow();
  });
});
