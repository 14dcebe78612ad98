import { describe, expect, it } from "vitest";
import { AppError } from "./errors.ts";
import { checkName, checkTopicName, nearestName, printable } from "./names.ts";

describe("topic names", () => {
  it.each(["logs", "a", "A.b_c-9", "x".repeat(249)])("accepts %s", (name) => {
    expect(() => checkTopicName(name)).not.toThrow();
  });

  it.each([
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\0b",
    "tä",
    "a b",
    "x".repeat(250),
    "-\n",
  ])("refuses %j", (name) => {
    expect(() => checkTopicName(name)).toThrow(AppError);
  });

  it("shows control characters escaped in the message", () => {
    expect(() => checkName("connector", "a\u001b[31m")).toThrow(/\\u001b/);
    expect(printable("x".repeat(500))).toHaveLength(123);
  });
});

describe("nearestName", () => {
  it.each([
    ["taildri", "taildir"],
    ["TOPC", "topic"],
    ["capcity", "capacity"],
    ["capicaty", "capacity"],
    ["tpoic", "topic"],
    ["zzzzzz", undefined],
  ])("%s is taken for %s", (typed, meant) => {
    expect(nearestName(typed, ["taildir", "topic", "capacity", "netcat"])).toBe(meant);
  });
});
