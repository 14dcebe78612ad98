import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Account, accountOf, type Cut, goneBefore } from "./account.ts";

const partition = { start: 0, end: 0, sent: 0, begun: 0, resume: 0, published: 0, setAside: 0 };

/** 100 read; 90 done by the sink, 4 more handed to it; 92 in the topic, 2 of others; 60 in files. */
const healthy: Cut = {
  read: 100,
  setAsideBefore: 0,
  channelEnd: 100,
  channelDone: 90,
  channelTaken: 4,
  setAsideBySink: 0,
  gone: 0,
  partitions: [
    { ...partition, end: 50, sent: 48, resume: 40, published: 40 },
    { ...partition, end: 44, sent: 44, resume: 20, published: 20 },
  ],
};

function withPartition(change: Partial<(typeof healthy.partitions)[number]>): Cut {
  const [first, ...rest] = healthy.partitions;
  return { ...healthy, partitions: [{ ...first!, ...change }, ...rest] };
}

describe("S1: in = published + in flight, lost and doubled", () => {
  test("a healthy cut adds up, and records of others count as in", () => {
    expect(accountOf(healthy)).toEqual({
      in: 102,
      published: 60,
      inFlight: 42,
      setAside: 0,
      lost: 0,
      doubled: 0,
    });
  });

  const faults: readonly (readonly [string, Cut, Partial<Account>])[] = [
    ["a record read and never put is lost", { ...healthy, read: 101 }, { lost: 1, doubled: 0 }],
    ["a record read again after a restart is doubled", { ...healthy, read: 99 }, { lost: 0, doubled: 1 }],
    [
      "a take committed without its record in the topic is lost",
      { ...healthy, channelDone: 93 },
      { lost: 1 },
    ],
    ["a record sent twice is doubled", withPartition({ end: 53, sent: 51 }), { doubled: 1 }],
    ["an offset passed without its record in a file is lost", withPartition({ resume: 43 }), { lost: 3 }],
    ["a record in two files is doubled", withPartition({ published: 41 }), { doubled: 1 }],
    ["retention that overtakes the connector loses", withPartition({ start: 45 }), { lost: 5 }],
    [
      "a loss and a doubling on different legs do not cancel out",
      { ...withPartition({ published: 41 }), read: 101 },
      { lost: 1, doubled: 1 },
    ],
  ];
  test.each(faults)("%s", (_title, cut, expected) => {
    expect(accountOf(cut)).toMatchObject(expected);
  });

  test("dead letters are neither lost nor published", () => {
    const cut = { ...withPartition({ resume: 42, setAside: 2 }), read: 101, setAsideBefore: 1 };
    expect(accountOf(cut)).toMatchObject({ lost: 0, doubled: 0, setAside: 3, in: 103, inFlight: 40 });
  });

  test("a connector that began later owes nothing before", () => {
    expect(accountOf(withPartition({ begun: 30, published: 10 }))).toMatchObject({ lost: 0, doubled: 0 });
  });

  test("L3: a topic that was deleted took its records with it; the account of its namesake begins there", () => {
    // 90 are done, 30 of them went into the topic that is gone; 4 more are with the sink, of which 2 arrived.
    const cut: Cut = {
      ...healthy,
      partitions: [{ ...partition, end: 62, sent: 60, resume: 50, published: 50 }],
    };
    expect(accountOf(cut).lost).toBe(30);
    expect(goneBefore(cut)).toBe(30);
    expect(accountOf({ ...cut, gone: goneBefore(cut) })).toEqual({
      in: 72,
      published: 50,
      inFlight: 22,
      setAside: 0,
      lost: 0,
      doubled: 0,
    });
  });

  test("in = published + in flight + set aside + lost - doubled, whatever the books say", () => {
    const natural = fc.nat({ max: 1_000 });
    const partitions = fc.array(
      fc.record({
        start: natural,
        end: natural,
        sent: natural,
        begun: natural,
        resume: natural,
        published: natural,
        setAside: natural,
      }),
      { maxLength: 3 },
    );
    const cuts = fc.record({
      read: natural,
      setAsideBefore: natural,
      channelEnd: natural,
      channelDone: natural,
      channelTaken: natural,
      setAsideBySink: natural,
      gone: natural,
      partitions,
    });
    fc.assert(
      fc.property(cuts, (cut) => {
        const { in: all, published, inFlight, setAside, lost, doubled } = accountOf(cut);
        expect(all).toBe(published + inFlight + setAside + lost - doubled);
        expect(Math.min(lost, doubled)).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
