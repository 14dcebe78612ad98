import { AppError, Prng } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { SendWindow, type WindowBatch } from "./send-window.ts";

interface Numbered extends WindowBatch {
  readonly number: number;
}

function batch(number: number): Numbered {
  return { number, mayBeInLog: false, order: 0, attempt: 0, isInFlight: false, error: undefined };
}

const failure = new AppError("NOT_LEADER", "moved");

function sendAll(window: SendWindow<Numbered>): { batch: Numbered; attempt: number }[] {
  const sent: { batch: Numbered; attempt: number }[] = [];
  for (let next = window.peekNext(); next !== undefined; next = window.peekNext())
    sent.push({ batch: next, attempt: window.sent(next) });
  return sent;
}

describe("SendWindow", () => {
  it("sends in order, at most so many at once", () => {
    const window = new SendWindow<Numbered>(2);
    for (let i = 0; i < 4; i++) window.add(batch(i));
    const first = sendAll(window);
    expect(first.map(({ batch: { number } }) => number)).toEqual([0, 1]);
    window.acked(first[0]!.batch, first[0]!.attempt);
    expect(sendAll(window).map(({ batch: { number } }) => number)).toEqual([2]);
  });

  it("P3: after a failure nothing goes out until all answers are in, then everything left in order from the first", () => {
    const window = new SendWindow<Numbered>(3);
    for (let i = 0; i < 4; i++) window.add(batch(i));
    const [a, b, c] = sendAll(window);
    window.failed(b!.batch, b!.attempt, failure, false);
    window.acked(a!.batch, a!.attempt);
    expect(window.peekNext()).toBeUndefined();
    expect(window.isDrained).toBe(false);
    window.failed(c!.batch, c!.attempt, failure, true);
    expect(window.isDrained).toBe(true);
    window.restart();
    expect(sendAll(window).map(({ batch: { number } }) => number)).toEqual([1, 2, 3]);
    expect([b!.batch.mayBeInLog, c!.batch.mayBeInLog]).toEqual([false, true]);
  });

  it("does not hear the answer of an attempt that was given up", () => {
    const window = new SendWindow<Numbered>(3);
    window.add(batch(0));
    const [first] = sendAll(window);
    window.giveUpInFlight(failure);
    expect(first!.batch.mayBeInLog).toBe(true);
    window.restart();
    const [second] = sendAll(window);
    expect(window.acked(first!.batch, first!.attempt)).toBe(false);
    expect(window.unacked).toHaveLength(1);
    expect(window.acked(second!.batch, second!.attempt)).toBe(true);
    expect(window.unacked).toHaveLength(0);
  });

  it("P1: nothing is sent that would push an unanswered batch out of the leader's window of five", () => {
    const window = new SendWindow<Numbered>(5);
    for (let i = 0; i < 9; i++) window.add(batch(i));
    const sent = sendAll(window);
    for (const { batch: later, attempt } of sent.slice(1)) window.acked(later, attempt);
    expect(window.inFlight).toBe(1);
    expect(window.hasRoom).toBe(false);
    expect(window.peekNext()).toBeUndefined();
    window.acked(sent[0]!.batch, sent[0]!.attempt);
    expect(sendAll(window).map(({ batch: { number } }) => number)).toEqual([5, 6, 7, 8]);
  });

  it("takes a batch out in the middle without losing its place", () => {
    const window = new SendWindow<Numbered>(5);
    for (let i = 0; i < 4; i++) window.add(batch(i));
    const sent = sendAll(window);
    window.remove(sent[1]!.batch);
    expect(window.inFlight).toBe(3);
    window.add(batch(4));
    expect(sendAll(window).map(({ batch: { number } }) => number)).toEqual([4]);
  });

  it("P3: whatever fails in whatever order, a receiver that takes only the next number gets all of them, in order", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const prng = new Prng(seed);
      const window = new SendWindow<Numbered>(prng.nextInt(1, 5));
      const total = 30;
      let added = 0;
      let received = 0;
      const acked = new Set<number>();
      const inFlight: { batch: Numbered; attempt: number }[] = [];
      for (let step = 0; acked.size < total && step < 20_000; step++) {
        if (added < total && prng.chance(0.5)) window.add(batch(added++));
        inFlight.push(...sendAll(window));
        const answered = inFlight.shift();
        if (answered !== undefined) {
          const { number } = answered.batch;
          const isLostRequest = prng.chance(0.1);
          if (!isLostRequest && number === received) received++;
          const isHeld = number < received;
          const isLostAnswer = prng.chance(0.1);
          if (isHeld && !isLostRequest && !isLostAnswer) {
            if (window.acked(answered.batch, answered.attempt)) acked.add(number);
          } else window.failed(answered.batch, answered.attempt, failure, isLostRequest || isLostAnswer);
        }
        if (window.isDrained) window.restart();
      }
      expect(received, `seed ${seed}`).toBe(total);
      expect(acked.size, `seed ${seed}`).toBe(total);
    }
  });
});
