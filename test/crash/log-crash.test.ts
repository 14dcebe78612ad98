/** Power cuts after every single disk operation of seeded workloads: J1, J2, J4, J5, J6 and the log's invariants (L1, L4). */
import { describe, expect, it } from "vitest";
import { World } from "./log-world.ts";

/** Runs a world and verifies each image until a failure that matches. */
async function sweep(world: World, wanted = /./): Promise<string | undefined> {
  await world.run();
  for (const image of world.images) {
    try {
      await world.verify(image);
    } catch (error) {
      if (wanted.test(String(error))) return String(error);
    }
  }
  return undefined;
}

describe("a power cut at any operation", () => {
  const total: Record<string, number> = { images: 0 };

  // Chosen so that together they exercise everything; the counters below hold them to it.
  for (const seed of [1, 3, 4]) {
    it(`J2 J4 J5 J6: acknowledged commits survive whole, entries are atomic, recovery repeats itself (seed ${seed})`, async () => {
      const world = new World({ seed, steps: 40, survivals: 2 });
      expect(await sweep(world)).toBeUndefined();
      total["images"] = (total["images"] ?? 0) + world.images.length;
      for (const [what, count] of Object.entries<number>({ ...world.exercised }))
        total[what] = (total[what] ?? 0) + count;
    });
  }

  it("exercised what it is for", () => {
    for (const [what, count] of Object.entries(total)) expect(count, what).toBeGreaterThan(0);
    expect(total["images"]).toBeGreaterThan(1000);
  });

  it("negative control: without fsync the same sweep finds a loss", async () => {
    const world = new World({ seed: 1, steps: 40, survivals: 2, unsafeSkipFsync: true });
    expect(await sweep(world, /was acknowledged and is gone/)).toBeDefined();
  });
});
