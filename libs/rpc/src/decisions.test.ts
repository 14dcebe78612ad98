import { AppError, InvariantError } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { CreditWindow } from "./credit.ts";
import { checkHandshake, checkHandshakeReply, makeHandshake, protocolVersion } from "./handshake.ts";
import { testIdentity } from "./testing/test-net.ts";

const caller = { clusterId: "cluster-1", nodeId: "agent-1", incarnation: "s", nodeEpoch: 3 };

function reasonOf(run: () => unknown): string {
  try {
    run();
    return "OK";
  } catch (error) {
    return error instanceof AppError ? error.reason : String(error);
  }
}

describe("the handshake", () => {
  it("agrees on version, features and credit", () => {
    const ours = { protocolMin: 1, protocolMax: 4, features: ["a", "b"] };
    const theirs = { protocolMin: 2, protocolMax: 3, features: ["b", "c"] };
    expect(checkHandshake(makeHandshake(caller, theirs), testIdentity, ours, 1024)).toEqual({
      clusterId: "cluster-1",
      nodeId: "storage-1",
      incarnation: "start-1",
      nodeEpoch: 7,
      protocolVersion: 3,
      features: ["b"],
      creditBytes: 1024,
    });
    expect(protocolVersion).toBe(1);
    expect(makeHandshake(caller)).toMatchObject({ protocolMin: 1, protocolMax: 1, nodeEpoch: 3 });
  });

  it("refuses another cluster by id; an id that a side does not know yet matches", () => {
    const from = (clusterId: string): string =>
      reasonOf(() => checkHandshake(makeHandshake({ ...caller, clusterId }), testIdentity));
    expect([from("cluster-1"), from(""), from("cluster-2")]).toEqual(["OK", "OK", "CLUSTER_MISMATCH"]);
    const unknown = { ...testIdentity, clusterId: () => "" };
    expect(reasonOf(() => checkHandshake(makeHandshake(caller), unknown))).toBe("OK");
  });

  it.each([
    [2, 3, "UNSUPPORTED_VERSION"],
    [0, 0, "UNSUPPORTED_VERSION"],
    [1, 9, "OK"],
    [2, 1, "UNSUPPORTED_VERSION"],
  ])("answers a caller that speaks %i to %i with %s", (protocolMin, protocolMax, reason) => {
    const handshake = makeHandshake(caller, { protocolMin, protocolMax, features: [] });
    expect(reasonOf(() => checkHandshake(handshake, testIdentity))).toBe(reason);
  });

  it("must be the first message", () => {
    expect(reasonOf(() => checkHandshake(undefined, testIdentity))).toBe("INVALID_REQUEST");
  });

  it("is checked by the caller too", () => {
    const reply = checkHandshake(makeHandshake(caller), testIdentity);
    const check = (changes: object, clusterId = "cluster-1"): string =>
      reasonOf(() => checkHandshakeReply({ ...reply, ...changes }, clusterId));
    expect(check({})).toBe("OK");
    expect(check({ clusterId: "cluster-2" })).toBe("CLUSTER_MISMATCH");
    expect(check({ clusterId: "cluster-2" }, "")).toBe("OK");
    expect(check({ protocolVersion: 2 })).toBe("UNSUPPORTED_VERSION");
    expect(reasonOf(() => checkHandshakeReply(undefined, ""))).toBe("UNSUPPORTED_VERSION");
  });
});

describe("credit (design §3, quarter rule)", () => {
  const window = (): CreditWindow => new CreditWindow({ creditBytes: 400, requestBytesMax: 100 });

  it("lets no partition hold more than a quarter, so that others go on", () => {
    const credit = window();
    expect(credit.tryTake("a", 60)).toBe("ok");
    expect(credit.tryTake("a", 40)).toBe("ok");
    expect(credit.tryTake("a", 1)).toBe("partitionFull");
    expect(["b", "c", "d"].map((partition) => credit.tryTake(partition, 100))).toEqual(["ok", "ok", "ok"]);
    expect(credit.tryTake("e", 1)).toBe("exceeded");
    credit.give("a", 60);
    expect(credit.tryTake("a", 60)).toBe("ok");
    expect(credit.usedBytes).toBe(400);
  });

  it("always allows one request in flight per partition", () => {
    const credit = new CreditWindow({ creditBytes: 403, requestBytesMax: 100 });
    // More than the quarter, as a request of the largest size with its envelope may be.
    expect(credit.tryTake("a", 101)).toBe("ok");
    expect(credit.tryTake("a", 1)).toBe("partitionFull");
  });

  it("holds nothing of what it refused and forgets idle partitions", () => {
    const credit = window();
    credit.tryTake("a", 100);
    credit.tryTake("a", 100);
    credit.give("a", 100);
    expect(credit.usedBytes).toBe(0);
    expect(() => credit.give("a", 1)).toThrow(InvariantError);
  });

  it("is at least four times the largest request", () => {
    expect(() => new CreditWindow({ creditBytes: 399, requestBytesMax: 100 })).toThrow(InvariantError);
  });
});
