import { describe, expect, it } from "vitest";
import { ManualClock } from "../testing/manual-clock.ts";
import { Sessions } from "./sessions.ts";

function setUp(): { clock: ManualClock; sessions: Sessions; fenced: string[] } {
  const clock = new ManualClock();
  const sessions = new Sessions({ clock, timeoutMs: 3_000, tickMs: 250 });
  const fenced: string[] = [];
  const tick = (): void => {
    fenced.push(...sessions.expire().map(({ nodeId, nodeEpoch }) => `${nodeId}@${nodeEpoch}`));
    clock.after(250, tick);
  };
  clock.after(250, tick);
  return { clock, sessions, fenced };
}

describe("sessions", () => {
  it("end when nothing was heard for the session time, and not before", () => {
    const { clock, sessions, fenced } = setUp();
    sessions.open("a", 1);
    clock.advance(2_999);
    expect(fenced).toEqual([]);
    clock.advance(251);
    expect(fenced).toEqual(["a@1"]);
    clock.advance(60_000);
    expect(fenced).toEqual(["a@1"]);
  });

  it("go on with each heartbeat of the same registration only", () => {
    const { clock, sessions, fenced } = setUp();
    sessions.open("a", 1);
    sessions.open("b", 2);
    for (let passedMs = 0; passedMs < 10_000; passedMs += 1_000) {
      clock.advance(1_000);
      sessions.touch("a", 1);
      sessions.touch("b", 1);
    }
    expect(fenced).toEqual(["b@2"]);
  });

  it("are begun anew by a registration", () => {
    const { clock, sessions, fenced } = setUp();
    sessions.open("a", 1);
    clock.advance(2_500);
    sessions.open("a", 4);
    clock.advance(2_500);
    expect(fenced).toEqual([]);
    clock.advance(1_000);
    expect(fenced).toEqual(["a@4"]);
  });

  it("are extended by the controller's own pause: who was silent only while it slept is not fenced", () => {
    const { clock, sessions, fenced } = setUp();
    sessions.open("a", 1);
    clock.advance(1_000);
    clock.pause(60_000);
    expect(fenced).toEqual([]);
    clock.advance(1_500);
    expect(fenced).toEqual([]);
    // From then on silence counts again.
    clock.advance(1_000);
    expect(fenced).toEqual(["a@1"]);
  });

  it("closed ones do not end", () => {
    const { clock, sessions, fenced } = setUp();
    sessions.open("a", 1);
    sessions.close("a");
    clock.advance(10_000);
    expect(fenced).toEqual([]);
  });
});
