/**
 * `npm run generate`: writes all generated code and reference pages.
 *
 * `-- --check`     writes nothing, fails when a file would change
 * `-- --baseline`  also replaces proto/baseline.binpb, the image that the breaking check compares with
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import type { GeneratedFile, Generator } from "./generators/generator.ts";
import { generators } from "./generators/registry.ts";
import { root, run } from "./lib/run.ts";

interface Change {
  readonly path: string;
  readonly kind: "new" | "changed" | "stale";
  readonly content: Buffer | undefined;
}

async function changesOf(generator: Generator): Promise<Change[]> {
  const files = await generator.generate();
  const changes: Change[] = [];
  for (const file of files) {
    const content = Buffer.from(file.content);
    const old = await readFile(join(root, file.path)).catch(() => undefined);
    if (old === undefined) changes.push({ path: file.path, kind: "new", content });
    else if (!old.equals(content)) changes.push({ path: file.path, kind: "changed", content });
  }
  return [...changes, ...(await staleFiles(generator, files))];
}

async function staleFiles(generator: Generator, files: readonly GeneratedFile[]): Promise<Change[]> {
  const produced = new Set(files.map((file) => file.path));
  const stale: Change[] = [];
  for (const folder of generator.owns) {
    const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(
      () => [],
    );
    for (const entry of entries) {
      const path = join(entry.parentPath, entry.name).slice(root.length + 1);
      if (entry.isFile() && !produced.has(path)) stale.push({ path, kind: "stale", content: undefined });
    }
  }
  return stale;
}

async function apply(change: Change): Promise<void> {
  const path = join(root, change.path);
  if (change.content === undefined) {
    await rm(path);
    return;
  }
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, change.content);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { check: { type: "boolean" }, baseline: { type: "boolean" } } });
  let changed = 0;
  for (const { name, load } of generators) {
    // One that fails must not keep the others from being written: a page may wait for code that is generated.
    const changes = await load()
      .then(changesOf)
      .catch((error: unknown) => {
        console.log(
          `${name} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        );
        process.exitCode = 1;
        return [];
      });
    for (const change of changes) {
      changed += 1;
      console.log(`${name}: ${change.path} is ${change.kind}`);
      if (values.check !== true) await apply(change);
    }
  }
  if (values.check === true && changed > 0) {
    console.log(`${changed} generated files are out of date: run \`npm run generate\` and commit them`);
    process.exitCode = 1;
  }
  if (values.baseline === true) {
    const built = await run("buf", ["build", "--output", "proto/baseline.binpb"]);
    if (!built.ok) throw new Error(built.output);
    console.log(
      "proto/baseline.binpb replaced: from now on these protos are the past that must stay readable",
    );
  }
}

await main();
