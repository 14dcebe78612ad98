/** Power cuts after every single disk operation of a put, take and commit workload: A1, A2, A3, A5, J5 for channels. */
import { describe, expect, it } from "vitest";
import { ChannelWorld, type ChannelWorldOptions } from "./channel-world.ts";

/** Verifies every image, until a failure that matches. */
async function sweep(
  options: ChannelWorldOptions,
  wanted = /./,
): Promise<{ world: ChannelWorld; failure: string | undefined }> {
  const world = new ChannelWorld(options);
  await world.run();
  for (const image of world.images) {
    try {
      await world.verify(image);
    } catch (error) {
      const failure = `seed ${options.seed}, ${image.operation}: ${String(error)}`;
      if (wanted.test(failure)) return { world, failure };
    }
  }
  return { world, failure: undefined };
}

describe("file channels after a power cut at any operation", () => {
  const total = new Map<string, number>();

  it.each([
    1, 2, 3,
  ])("answered offers are whole in all channels, positions stand (A1, A2, A3, J5), seed %i", async (seed) => {
    const { world, failure } = await sweep({ seed, steps: 45 });
    expect(failure).toBeUndefined();
    for (const [what, count] of Object.entries({ ...world.exercised, images: world.images.length })) {
      total.set(what, (total.get(what) ?? 0) + count);
    }
  });

  it("met offers in flight, positions not saved, out-of-order commits, recycled journals, removed segments, torn tails", () => {
    expect([...total].filter(([, count]) => count === 0)).toEqual([]);
    expect(total.get("images")).toBeGreaterThan(300);
  });

  it("negative control: without fsync a loss is found", async () => {
    const { failure } = await sweep(
      { seed: 1, steps: 45, unsafeSkipFsync: true },
      /answered and gone|was resolved through|letters were durable/,
    );
    expect(failure).toBeDefined();
  });
});
