import { describe, expect, it } from "vitest";
import { Room } from "./room.ts";

describe("Room", () => {
  it("lets waiting puts in by order of arrival, a large one not overtaken by small ones", () => {
    const room = new Room(10, 1_000);
    room.add(10, 100);
    const calls: string[] = [];
    const enter = (name: string, records: number) =>
      room.wait({
        records,
        bytes: 1,
        run: () => {
          calls.push(name);
          room.add(records, 1);
        },
      });
    enter("large", 8);
    enter("small", 1);
    room.setUsed(5, 50);
    expect(calls).toEqual([]);
    expect(room.admits(1, 1)).toBe(false);
    room.setUsed(1, 10);
    expect(calls).toEqual(["large", "small"]);
    expect(room.usedRecords).toBe(10);
  });

  it("a waiter that leaves lets the next one in", () => {
    const room = new Room(10, 1_000);
    room.add(5, 50);
    const calls: string[] = [];
    const leave = room.wait({ records: 8, bytes: 1, run: () => calls.push("large") });
    room.wait({ records: 1, bytes: 1, run: () => calls.push("small") });
    leave();
    expect(calls).toEqual(["small"]);
  });

  it("lets a transaction larger than its bytes into an empty channel only", () => {
    const room = new Room(10, 100);
    expect(room.admits(1, 500)).toBe(true);
    room.add(1, 10);
    expect(room.admits(1, 500)).toBe(false);
    expect(room.admits(1, 90)).toBe(true);
    expect(room.admits(10, 1)).toBe(false);
  });
});
