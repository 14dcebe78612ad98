import { Metadata } from "@grpc/grpc-js";
import { AppError, errorTable, type Reason } from "@millrace/base";
import { Status } from "@millrace/proto/status";
import { describe, expect, it } from "vitest";
import { fromStatus, retryAfterKey, toStatus } from "./status.ts";

const detailsOf = (metadata: Metadata): Status =>
  Status.decode(metadata.get("grpc-status-details-bin")[0] as Buffer);

describe("errors on the wire", () => {
  it.each(Object.keys(errorTable) as Reason[])("%s survives the way there and back", (reason) => {
    const error = new AppError(reason, `it was ${reason} ∆`, {
      metadata: { leader: "storage-2", epoch: "7" },
    });
    const status = toStatus(error);
    expect(status.code).toBe(errorTable[reason].grpc);
    expect(detailsOf(status.metadata)).toMatchObject({ code: status.code, message: error.message });
    const back = fromStatus(status, "Call at x");
    expect([back.reason, back.message, back.metadata]).toEqual([reason, error.message, error.metadata]);
  });

  it("carry the delay of `afterDelay` reasons as RetryInfo", () => {
    const types = (error: AppError): string[] =>
      detailsOf(toStatus(error).metadata).details.map((one) => one.typeUrl);
    const retryInfo = "type.googleapis.com/google.rpc.RetryInfo";
    expect(types(new AppError("CHANNEL_FULL", "full", { metadata: { [retryAfterKey]: "1500" } }))).toContain(
      retryInfo,
    );
    expect(types(new AppError("CHANNEL_FULL", "full"))).not.toContain(retryInfo);
    expect(types(new AppError("NOT_LEADER", "no", { metadata: { [retryAfterKey]: "1500" } }))).not.toContain(
      retryInfo,
    );
  });

  it("stay within the size of a trailer and are well-formed text, whatever the message", () => {
    const status = toStatus(
      new AppError("INVALID_REQUEST", `\ud800${"x".repeat(100_000)}`, {
        metadata: { a: "y".repeat(100_000), b: "\udfff" },
      }),
    );
    expect(status.details.length).toBeLessThan(2_100);
    expect(() => encodeURI(status.details)).not.toThrow();
    expect(Buffer.byteLength(status.metadata.get("grpc-status-details-bin")[0] as Buffer)).toBeLessThan(
      8_000,
    );
  });

  it("with a reason of a newer server keep its name and count as INTERNAL", () => {
    const status = toStatus(new AppError("NOT_LEADER", "new thing"));
    const details = detailsOf(status.metadata);
    const bytes = Buffer.from(Status.encode(details).finish());
    // The reason is replaced in the bytes by one of the same length.
    const changed = Buffer.from(bytes.toString("latin1").replace("NOT_LEADER", "NOT_LEAPER"), "latin1");
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", changed);
    const back = fromStatus({ ...status, metadata }, "Call at x");
    expect([back.reason, back.message, back.metadata["reason"]]).toEqual([
      "INTERNAL",
      "new thing",
      "NOT_LEAPER",
    ]);
  });

  it.each([
    ["broken details", Buffer.from("ffff", "hex")],
    ["empty details", Buffer.alloc(0)],
    [
      "details of another system",
      Buffer.from(Status.encode({ code: 3, message: "m", details: [] }).finish()),
    ],
  ])("with %s are read by their code", (_, bytes) => {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", bytes);
    expect(fromStatus({ code: 3, details: "bad thing", metadata }, "Call at x")).toMatchObject({
      reason: "INVALID_REQUEST",
      message: "Call at x: bad thing",
    });
  });

  it.each([
    [
      14,
      "No connection established. Last error: connect ECONNREFUSED 127.0.0.1:1 (2026-01-01)",
      "UNAVAILABLE",
      "cannot be reached (connection refused)",
    ],
    [
      14,
      "Name resolution failed for target dns:nope:1",
      "UNAVAILABLE",
      "cannot be reached (Name resolution failed for target dns:nope:1)",
    ],
    [14, "", "UNAVAILABLE", "cannot be reached (connection lost)"],
    [
      13,
      "Received RST_STREAM with code 2 triggered by internal client error: read ECONNRESET",
      "UNAVAILABLE",
      "cannot be reached (ECONNRESET)",
    ],
    [4, "Deadline exceeded after 0.1s", "TIMED_OUT", "no answer within the deadline"],
    [1, "Cancelled on client", "CANCELLED", "the call was cancelled"],
    [
      8,
      "Received message larger than max (20000 vs 10000)",
      "LIMIT_EXCEEDED",
      "a message of 20000 bytes is larger than the 10000 bytes allowed: send less at once",
    ],
    [
      12,
      "The server does not implement the method /x",
      "UNIMPLEMENTED",
      "the server does not know this call: it is another service or an older version",
    ],
    [2, "", "INTERNAL", "the call failed"],
  ])("of the transport (%i, %j) become %s", (code, details, reason, message) => {
    const error = fromStatus({ code, details }, "Call at x");
    expect([error.reason, error.message]).toEqual([reason, `Call at x: ${message}`]);
  });
});
