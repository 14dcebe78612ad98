import { describe, expect, it } from "vitest";
import { formatEpochs, parseEpochs } from "./checkpoints.ts";
import { EpochHistory } from "./epoch-history.ts";

const history = (): EpochHistory =>
  new EpochHistory([
    { epoch: 1, startOffset: 0 },
    { epoch: 3, startOffset: 10 },
    { epoch: 4, startOffset: 25 },
  ]);

describe("EpochHistory (L4)", () => {
  it("tells the epoch of a record", () => {
    expect([0, 9, 10, 24, 25, 99].map((offset) => history().epochAt(offset))).toEqual([1, 1, 3, 3, 4, 4]);
    expect(new EpochHistory().epochAt(0)).toBeUndefined();
  });

  it("tells where an epoch ended, for epochs it never had too", () => {
    expect(history().endOfEpoch(2, 30)).toEqual({ epoch: 1, endOffset: 10 });
    expect(history().endOfEpoch(3, 30)).toEqual({ epoch: 3, endOffset: 25 });
    expect(history().endOfEpoch(9, 30)).toEqual({ epoch: 4, endOffset: 30 });
    expect(history().endOfEpoch(0, 30)).toBeUndefined();
  });

  it("replaces an epoch that got no records, ignores an older one", () => {
    const epochs = history();
    expect(epochs.assign(4, 40)).toBe(false);
    expect(epochs.assign(7, 25)).toBe(true);
    expect(epochs.entries.map(({ epoch }) => epoch)).toEqual([1, 3, 7]);
  });

  it("is cut at both ends", () => {
    const epochs = history();
    expect(epochs.truncateFromEnd(25)).toBe(true);
    expect(epochs.latest).toBe(3);
    expect(epochs.truncateFromStart(12)).toBe(true);
    expect(epochs.entries).toEqual([{ epoch: 3, startOffset: 12 }]);
    expect(epochs.truncateFromStart(5)).toBe(false);
  });

  it("reads what it writes and nothing that is damaged", () => {
    const text = formatEpochs(history().entries);
    expect(text).toBe("0\n3\n1 0\n3 10\n4 25\n");
    expect(parseEpochs(text)).toEqual(history().entries);
    for (const broken of [
      "",
      "1\n0\n",
      "0\n2\n1 0\n",
      "0\n2\n1 0\n1 5\n",
      "0\n2\n3 5\n4 5\n",
      "0\n1\nx 5\n",
      "0\n1\n1 -5\n",
    ]) {
      expect(parseEpochs(broken), broken).toBeUndefined();
    }
  });
});
