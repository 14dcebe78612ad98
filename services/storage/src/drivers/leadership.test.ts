import { AppError } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { checkLeadership, type LeadershipState } from "./leadership.ts";

const leader: LeadershipState = {
  label: "t-0",
  leaderId: "me",
  leaderAddress: "127.0.0.1:1",
  leaderEpoch: 4,
  servingEpoch: 4,
  isToldToLead: true,
};

function failureOf(state: LeadershipState, epoch: number): AppError {
  try {
    checkLeadership(state, epoch);
  } catch (thrown) {
    return AppError.from(thrown);
  }
  throw new Error("it was served");
}

describe("who is served", () => {
  it("a request that knows the epoch, or does not tell it", () => {
    expect(checkLeadership(leader, 4)).toBe(4);
    expect(checkLeadership(leader, -1)).toBe(4);
  });

  it("an older and a newer epoch are refused, each so that the caller knows what to do", () => {
    expect(failureOf(leader, 3)).toMatchObject({ reason: "FENCED_LEADER_EPOCH", retry: "refresh" });
    expect(failureOf(leader, 5)).toMatchObject({ reason: "UNKNOWN_LEADER_EPOCH", retry: "refresh" });
  });

  it("another's partition is refused with the leader as a hint", () => {
    const other = { ...leader, leaderId: "you", leaderAddress: "127.0.0.1:2", isToldToLead: false };
    const failure = failureOf(other, 4);
    expect(failure.reason).toBe("NOT_LEADER");
    expect(failure.metadata).toEqual({ leaderId: "you", leaderAddress: "127.0.0.1:2", leaderEpoch: "4" });
  });

  it("nothing is served before the epoch is durable", () => {
    expect(failureOf({ ...leader, servingEpoch: undefined }, 4).reason).toBe("NODE_STARTING");
  });
});
