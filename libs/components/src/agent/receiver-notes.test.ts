import { RangeSet } from "@millrace/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type NoteStore, ReceiverNotes } from "./receiver-notes.ts";

const channelId = "c";

/** Notes as a data directory keeps them, and a crash that comes before or after the next change is durable. */
class Store implements NoteStore {
  readonly #notes = new Map<string, Uint8Array>();
  resolvedThrough = 0;
  nextOffset = 0;
  writes = 0;
  /** What happens to the next change: applied, or a crash before or after it. */
  fault: "none" | "before" | "after" = "none";

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    return new Map([...this.#notes].filter(([key]) => key.startsWith(prefix)));
  }

  setNotes(notes: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void> {
    this.writes++;
    const { fault } = this;
    this.fault = "none";
    if (fault !== "before") {
      for (const { key, value } of notes) {
        if (value === null) this.#notes.delete(key);
        else this.#notes.set(key, value);
      }
    }
    return fault === "none" ? Promise.resolve() : Promise.reject(new Error("crash"));
  }

  get keys(): string[] {
    return [...this.#notes.keys()].sort();
  }
}

/** A receiver: what it holds, and what is on its way to it until its next handshake. */
interface Receiver {
  readonly held: Set<number>;
  readonly underWay: Set<number>;
}

const names = ["x", "y", "z"] as const;
type Name = (typeof names)[number];

/** A sender and its receivers; every send is checked against what the others may have. */
class World {
  readonly store = new Store();
  readonly receivers = new Map<Name, Receiver>(
    names.map((name) => [name, { held: new Set(), underWay: new Set() }]),
  );
  notes = this.#fresh();
  present: Name = "x";
  take = 0;
  sends = 0;
  marked = 0;

  #fresh(): ReceiverNotes {
    return new ReceiverNotes(channelId, this.store, { isVolatile: false, reservedSequences: 6 });
  }

  put(count: number): void {
    this.store.nextOffset += count;
  }

  /** The sink is opened again, in a new process after a crash. */
  open(name: Name, isCrash: boolean): void {
    if (isCrash) this.notes = this.#fresh();
    else this.notes.reopened(this.store);
    this.present = name;
    this.take = this.store.resolvedThrough;
    this.ask(name);
  }

  /** The handshake fences what is under way and tells what is held. */
  ask(name: Name): void {
    const { held, underWay } = this.#receiver(name);
    underWay.clear();
    this.notes.answered(name, ranges([...held]));
  }

  async write(count: number): Promise<void> {
    const end = Math.min(this.store.nextOffset, this.take + count);
    while (this.take < end) {
      const { receiver, isDoubtful, to } = this.notes.fateAt(this.take, end);
      expect(to).toBeGreaterThan(this.take);
      if (receiver === undefined && !(await this.#send(this.take, to, isDoubtful))) return;
      this.take = to;
    }
  }

  async #send(from: number, to: number, isDoubtful: boolean): Promise<boolean> {
    const { present, notes } = this;
    try {
      await notes.reserve(present, from, to);
    } catch {
      this.open(present, true);
      return false;
    }
    for (let sequence = from; sequence < to; sequence++) {
      const elsewhere = names.filter((name) => {
        const { held, underWay } = this.#receiver(name);
        return name !== present && (held.has(sequence) || underWay.has(sequence));
      });
      if (!isDoubtful) expect(elsewhere, `${sequence} goes to ${present} unmarked`).toEqual([]);
      this.#receiver(present).underWay.add(sequence);
      if (isDoubtful) this.marked++;
      this.sends++;
    }
    notes.sent(present, from, to);
    return true;
  }

  /** A part of what is under way gets there. */
  arrive(name: Name, share: number): void {
    const { held, underWay } = this.#receiver(name);
    [...underWay].forEach((sequence, i) => {
      if (i % 3 >= share) return;
      underWay.delete(sequence);
      held.add(sequence);
    });
  }

  resolve(): void {
    const isHeld = (sequence: number): boolean =>
      [...this.receivers.values()].some(({ held }) => held.has(sequence));
    let through = this.store.resolvedThrough;
    while (isHeld(through)) through++;
    this.store.resolvedThrough = through;
    this.take = Math.max(this.take, through);
  }

  async giveUp(name: Name): Promise<void> {
    try {
      await this.notes.giveUp(name);
      if (name !== this.present) this.open(this.present, false);
    } catch {
      this.open(this.present, true);
    }
  }

  #receiver(name: Name): Receiver {
    return this.receivers.get(name) as Receiver;
  }
}

function ranges(sequences: readonly number[]): RangeSet {
  return new RangeSet(sequences.map((from) => ({ from, to: from + 1 })));
}

const name = fc.constantFrom(...names);
type Step =
  | { readonly do: "put" | "write"; readonly count: number }
  | { readonly do: "arrive"; readonly name: Name; readonly share: number }
  | { readonly do: "open"; readonly name: Name; readonly isCrash: boolean }
  | { readonly do: "ask" | "giveUp"; readonly name: Name }
  | { readonly do: "resolve" }
  | { readonly do: "fault"; readonly fault: "before" | "after" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("put" as const), count: fc.integer({ min: 1, max: 9 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("write" as const), count: fc.integer({ min: 1, max: 9 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("arrive" as const), name, share: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("open" as const), name, isCrash: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("ask" as const), name }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("resolve" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("giveUp" as const), name }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("fault" as const),
      fault: fc.constantFrom("before" as const, "after" as const),
    }),
  },
);

async function play(world: World, steps: readonly Step[]): Promise<void> {
  for (const one of steps) await playStep(world, one);
}

async function playStep(world: World, one: Step): Promise<void> {
  switch (one.do) {
    case "put":
      return world.put(one.count);
    case "write":
      return world.write(one.count);
    case "arrive":
      return world.arrive(one.name, one.share);
    case "open":
      return world.open(one.name, one.isCrash);
    case "ask":
      return world.ask(one.name);
    case "giveUp":
      return world.giveUp(one.name);
    case "resolve":
      return world.resolve();
    case "fault":
      world.store.fault = one.fault;
  }
}

describe("the notes of the agent sink", () => {
  it("H3: whatever crashes and opens again, no sequence goes unmarked to two receivers that may both have it", async () => {
    let sends = 0;
    let marked = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 120 }), async (steps) => {
        const world = new World();
        await play(world, steps);
        sends += world.sends;
        marked += world.marked;
      }),
      { numRuns: 600 },
    );
    // the runs have to have exercised both
    expect(sends).toBeGreaterThan(1000);
    expect(marked).toBeGreaterThan(10);
  });

  it("H4: from any state, once every receiver in use has answered or was given up, all that is left may be sent", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), fc.array(name), async (steps, givenUp) => {
        const world = new World();
        await play(world, steps);
        world.store.fault = "none";
        for (const one of names) {
          if (givenUp.includes(one)) await world.notes.giveUp(one);
          else world.ask(one);
        }
        world.open("y", false);
        for (let sequence = world.take; sequence < world.store.nextOffset; ) {
          const { receiver, to } = world.notes.fateAt(sequence, world.store.nextOffset);
          const holder = names.find((one) => one === receiver);
          if (holder !== undefined) expect(world.receivers.get(holder)?.held.has(sequence)).toBe(true);
          sequence = to;
        }
      }),
      { numRuns: 300 },
    );
  });

  it("H3: is durable before the first send, once for many", async () => {
    const store = new Store();
    store.nextOffset = 100_000;
    const notes = new ReceiverNotes(channelId, store, { isVolatile: false });
    expect(() => notes.sent("x", 0, 10)).toThrow("noted first");
    for (let from = 0; from < 16_000; from += 100) {
      await notes.reserve("x", from, from + 100);
      notes.sent("x", from, from + 100);
    }
    expect(store.writes).toBeLessThanOrEqual(3);
  });

  it("what was reserved and never sent goes to another receiver at once, also after a crash when it was not put (H4)", async () => {
    const store = new Store();
    store.nextOffset = 50;
    const first = new ReceiverNotes(channelId, store, { isVolatile: false });
    await first.reserve("x", 0, 20);
    first.sent("x", 0, 20);
    first.reopened(store);
    expect(first.fateAt(0, 50)).toEqual({ receiver: "x", isDoubtful: false, to: 20 });
    expect(first.fateAt(20, 50)).toEqual({ receiver: undefined, isDoubtful: false, to: 50 });
    const second = new ReceiverNotes(channelId, store, { isVolatile: false });
    store.nextOffset = 90;
    expect(second.fateAt(20, 90)).toEqual({ receiver: "x", isDoubtful: false, to: 50 });
    expect(second.fateAt(50, 90)).toEqual({ receiver: undefined, isDoubtful: false, to: 90 });
  });

  it("H4: what went to another receiver is that one's alone, also after a crash: the lost one is not waited for", async () => {
    const store = new Store();
    store.nextOffset = 50;
    const first = new ReceiverNotes(channelId, store, { isVolatile: false, reservedSequences: 30 });
    await first.reserve("x", 0, 10);
    first.sent("x", 0, 10);
    await first.reserve("y", 20, 25);
    first.sent("y", 20, 25);
    await first.reserve("x", 42, 44);
    first.sent("x", 42, 44);
    const second = new ReceiverNotes(channelId, store, { isVolatile: false });
    expect(second.fateAt(5, 50)).toEqual({ receiver: "x", isDoubtful: false, to: 20 });
    expect(second.fateAt(20, 50)).toEqual({ receiver: "y", isDoubtful: false, to: 25 });
    expect(second.fateAt(25, 50)).toEqual({ receiver: "x", isDoubtful: false, to: 40 });
    expect(second.fateAt(40, 50)).toEqual({ receiver: "y", isDoubtful: false, to: 42 });
    expect(second.fateAt(42, 50)).toEqual({ receiver: "x", isDoubtful: false, to: 44 });
  });

  it("H4: what a lost receiver may have stays marked over a crash, until it is resolved", async () => {
    const store = new Store();
    store.nextOffset = 50;
    const first = new ReceiverNotes(channelId, store, { isVolatile: false });
    await first.reserve("x", 0, 20);
    first.sent("x", 0, 20);
    expect(await first.giveUp("x")).toBe(20);
    const second = new ReceiverNotes(channelId, store, { isVolatile: false });
    expect(second.fateAt(0, 50)).toEqual({ receiver: undefined, isDoubtful: true, to: 20 });
    expect(second.fateAt(20, 50).isDoubtful).toBe(false);
    store.resolvedThrough = 20;
    await second.reserve("y", 20, 50);
    await second.giveUp("y");
    expect(store.keys).toEqual([]);
  });

  it("notes nothing for a channel in memory, which ends with the process", async () => {
    const store = new Store();
    store.nextOffset = 50;
    const notes = new ReceiverNotes(channelId, store, { isVolatile: true });
    await notes.reserve("x", 0, 20);
    notes.sent("x", 0, 20);
    expect(store.writes).toBe(0);
    notes.reopened(store);
    expect(notes.fateAt(0, 50).receiver).toBe("x");
  });
});
