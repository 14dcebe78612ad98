import { describe, expect, it } from "vitest";
import { AppError, errorTable, InvariantError, invariant, isReason } from "./errors.ts";

describe("the error table", () => {
  it("never lets a client repeat what can only fail again", () => {
    expect(new AppError("INVALID_TOPIC", "x").isRetriable).toBe(false);
    expect(new AppError("NOT_LEADER", "x").isRetriable).toBe(true);
    expect(new AppError("TIMED_OUT", "x").isRetriable).toBe(false);
  });

  it("carries NOT_LEADER as ABORTED, so that no transport retries it at the same node", () => {
    expect(errorTable.NOT_LEADER.grpc).toBe(10);
  });

  it("keeps an AppError as it is and wraps everything else as INTERNAL with its cause", () => {
    const known = new AppError("CHANNEL_FULL", "full", { metadata: { channel: "c1" } });
    expect(AppError.from(known)).toBe(known);
    const cause = new TypeError("boom");
    const wrapped = AppError.from(cause);
    expect(wrapped.reason).toBe("INTERNAL");
    expect(wrapped.cause).toBe(cause);
    expect(AppError.from("text").message).toBe("text");
  });

  it("knows its own names and no inherited ones", () => {
    expect(isReason("NOT_LEADER")).toBe(true);
    expect(isReason("constructor")).toBe(false);
  });

  it("keeps invariants on", () => {
    expect(() => invariant(false, "offsets are dense")).toThrow(InvariantError);
  });
});
