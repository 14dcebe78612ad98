import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { conformPullSource, makeContext, type PullSetup } from "@millrace/flow/conformance";
import { describe, it } from "vitest";
import { taildirConfig } from "./config.ts";
import { TaildirSource } from "./taildir-source.ts";

async function setUp(): Promise<PullSetup> {
  const context = await makeContext();
  const folder = join(context.workDirectory, "..");
  const path = join(folder, "app.log");
  let count = 0;
  return {
    create: () => new TaildirSource(taildirConfig.parse({ paths: [path], pollInterval: 20 }), context),
    append: async (wanted) => {
      const lines = Array.from({ length: wanted }, () => `line ${count++}`);
      await appendFile(path, lines.map((line) => `${line}\n`).join(""));
      return lines;
    },
    appendUnfinished: async () => {
      await appendFile(path, "unfinished");
      return "unfinished";
    },
    tearDown: context.remove,
  };
}

describe("taildir source", () => {
  for (const { title, run } of conformPullSource({ setUp })) it(title, run);
});
