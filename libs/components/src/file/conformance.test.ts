import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { conformSink, type SinkSetup } from "@millrace/flow/conformance";
import { describe, it } from "vitest";
import { makeSink, temporaryFolder } from "./testing/harness.ts";

/** Lines of all published files, in order of their names, byte for byte. */
async function lines(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => !name.startsWith(".")).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), "latin1")));
  return texts.flatMap((text) => text.split("\n").slice(0, -1));
}

async function setUp(): Promise<SinkSetup> {
  const folder = await temporaryFolder();
  const directory = join(folder.path, "out");
  return {
    create: () => makeSink(directory, undefined, { newlines: "reject" }).sink,
    published: () => lines(directory),
    tearDown: folder.remove,
  };
}

describe("the file sink", () => {
  const suite = conformSink({
    setUp,
    hasStanding: true,
    guarantee: "exactly-once",
    refusable: () => Buffer.from("two\nlines"),
  });
  for (const { title, run } of suite) it(title, run);
});
