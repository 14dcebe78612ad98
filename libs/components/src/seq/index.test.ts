import type { PullSource } from "@millrace/flow";
import { conformPullSource, makeContext } from "@millrace/flow/conformance";
import { describe, expect, it } from "vitest";
import { seqSource } from "./index.ts";

describe("seq source", () => {
  const suite = conformPullSource({
    setUp: async () => {
      const context = await makeContext();
      // more numbers come when the limit is raised, as from a sequence that is still running
      const config = { batchSize: 4, totalEvents: 0 };
      return {
        create: () => seqSource.create(config, context) as PullSource,
        append: (count) => {
          const from = config.totalEvents;
          config.totalEvents += count;
          return Promise.resolve(Array.from({ length: count }, (_, i) => String(from + i)));
        },
        tearDown: context.remove,
      };
    },
  });
  for (const { title, run } of suite) it(title, run);

  it("counts to its total and no further", async () => {
    const context = await makeContext();
    const source = seqSource.create(
      seqSource.config.parse({ totalEvents: 3, batchSize: 2 }),
      context,
    ) as PullSource;
    const { signal } = new AbortController();
    await source.open(new Map(), signal);
    const batches = [
      await source.read(100, signal),
      await source.read(100, signal),
      await source.read(100, signal),
    ];
    expect(batches.map(({ records, isIdle }) => [records.length, isIdle])).toEqual([
      [2, false],
      [1, true],
      [0, true],
    ]);
    await context.remove();
  });
});
