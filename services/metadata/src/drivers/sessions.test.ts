import { SimClock } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { Sessions } from "./sessions.ts";

const tickMs = 250;

class Setup {
  readonly clock = new SimClock();
  readonly sessions = new Sessions({ clock: this.clock, timeoutMs: 3_000, tickMs });
  readonly fenced: string[] = [];

  /** Time passes with a tick every 250 ms, as in a process that runs. */
  run(forMs: number): void {
    for (let passedMs = 0; passedMs < forMs; passedMs += tickMs) {
      this.clock.advance(tickMs);
      this.#tick();
    }
  }

  /** Time passes while the process does not run; then it ticks, late. */
  pause(forMs: number): void {
    this.clock.advance(forMs);
    this.#tick();
  }

  #tick(): void {
    this.fenced.push(...this.sessions.expire().map(({ nodeId, nodeEpoch }) => `${nodeId}@${nodeEpoch}`));
  }
}

describe("sessions", () => {
  it("end when nothing was heard for the session time, and not before", () => {
    const setup = new Setup();
    setup.sessions.open("a", 1);
    setup.run(2_750);
    expect(setup.fenced).toEqual([]);
    setup.run(250);
    expect(setup.fenced).toEqual(["a@1"]);
    setup.run(60_000);
    expect(setup.fenced).toEqual(["a@1"]);
  });

  it("go on with each heartbeat of the same registration only", () => {
    const setup = new Setup();
    setup.sessions.open("a", 1);
    setup.sessions.open("b", 2);
    for (let beat = 0; beat < 10; beat++) {
      setup.run(1_000);
      setup.sessions.touch("a", 1);
      setup.sessions.touch("b", 1);
    }
    expect(setup.fenced).toEqual(["b@2"]);
  });

  it("are begun anew by a registration", () => {
    const setup = new Setup();
    setup.sessions.open("a", 1);
    setup.run(2_500);
    setup.sessions.open("a", 4);
    setup.run(2_500);
    expect(setup.fenced).toEqual([]);
    setup.run(1_000);
    expect(setup.fenced).toEqual(["a@4"]);
  });

  it("are extended by the controller's own pause: who was silent only while it slept is not fenced", () => {
    const setup = new Setup();
    setup.sessions.open("a", 1);
    setup.run(1_000);
    setup.pause(60_000);
    setup.run(1_500);
    expect(setup.fenced).toEqual([]);
    // From then on silence counts again.
    setup.run(1_000);
    expect(setup.fenced).toEqual(["a@1"]);
  });

  it("closed ones do not end", () => {
    const setup = new Setup();
    setup.sessions.open("a", 1);
    setup.sessions.close("a");
    setup.run(10_000);
    expect(setup.fenced).toEqual([]);
  });
});
