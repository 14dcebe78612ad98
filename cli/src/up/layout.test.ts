import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openLayout } from "./layout.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-layout-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the directory of up", () => {
  it("is made with its parents, and taken again", async () => {
    const first = await openLayout(join(folder, "a/b"));
    first.lock.release();
    const again = await openLayout(join(folder, "a/b"));
    expect(again.root).toBe(first.root);
    again.lock.release();
  });

  it("is refused at once, in one sentence, where nothing can be made: a folder below /proc never ends Node's own way", async () => {
    await expect(openLayout("/proc/millrace-test")).rejects.toThrow(
      /--data .* cannot be used: .*choose another directory/,
    );
  });

  it("is refused when it holds other files", async () => {
    await writeFile(join(folder, "mine.txt"), "mine");
    await expect(openLayout(folder)).rejects.toThrow(/holds other files/);
  });
});
