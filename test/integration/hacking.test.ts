/**
 * docs/HACKING.md is right: its section "Adding a component" is followed to the letter in a copy of the clone. Files it
 * shows are written, rows it shows are added, commands it shows are run; every one must do what the page says.
 */
import { execFile, spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
const commandMsMax = 120_000;

/** One fenced block. `path`: the file it belongs to, when the line before names one. */
interface Block {
  readonly language: string;
  readonly text: string;
  readonly path: string | undefined;
}

/** The blocks of one section, in order. */
function blocksOf(page: string, section: string): Block[] {
  const start = page.indexOf(`\n## ${section}\n`);
  const end = page.indexOf("\n## ", start + 1);
  const text = start < 0 ? "" : page.slice(start, end < 0 ? undefined : end);
  return [...text.matchAll(/(?:^`([\w./-]+)`\n\n)?^```(\w+)\n(.*?)^```$/gms)].map((match) => ({
    path: match[1],
    language: match[2] ?? "",
    text: match[3] ?? "",
  }));
}

/** What git knows or would take in: no data, no installed packages. Files that others are deleting right now are left out. */
async function copyClone(to: string): Promise<void> {
  const arguments_ = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const { stdout } = await promisify(execFile)("git", arguments_, { cwd: root, maxBuffer: 16 << 20 });
  const files = stdout.split("\0").filter((path) => path !== "" && !/^(test|examples)\//.test(path));
  for (const path of files) await cp(join(root, path), join(to, path)).catch(ignoreAbsent);
}

function ignoreAbsent(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}

/** `node_modules` as npm would make it: other people's packages are links to ours, and ours lead into the copy. */
async function linkPackages(to: string): Promise<void> {
  const modules = join(root, "node_modules");
  const link = async (target: string, name: string): Promise<void> => {
    await mkdir(dirname(join(to, "node_modules", name)), { recursive: true });
    await symlink(target, join(to, "node_modules", name));
  };
  for (const name of await readdir(modules)) {
    if (/^\.(cache|vite|vite-temp)$|^@millrace$|^millrace$|^\.bin$/.test(name)) continue;
    await link(join(modules, name), name);
  }
  const own = (await readdir(join(modules, "@millrace"))).map((name) => `@millrace/${name}`);
  for (const name of [...own, "millrace"]) {
    const target = join(to, relative(root, await realpath(join(modules, name))));
    await mkdir(target, { recursive: true });
    await link(target, name);
  }
  for (const name of await readdir(join(modules, ".bin"))) {
    const path = await realpath(join(modules, ".bin", name));
    const isOurs = relative(modules, path).startsWith("..");
    await link(isOurs ? join(to, relative(root, path)) : path, `.bin/${name}`);
  }
}

/** Adds the `+` lines of a diff after the context line above them, which must be in the file exactly once. */
async function applyDiff(path: string, diff: string): Promise<void> {
  const lines = diff.trimEnd().split("\n");
  const context = lines[0]?.slice(1) ?? "";
  const added = lines.slice(1).map((line) => line.slice(1));
  const old = (await readFile(path, "utf8")).split("\n");
  expect(
    old.filter((line) => line === context),
    `${path} has the line "${context}" once`,
  ).toHaveLength(1);
  const at = old.indexOf(context) + 1;
  await writeFile(path, [...old.slice(0, at), ...added, ...old.slice(at)].join("\n"));
}

/** Runs commands in a shell; both streams. */
async function sh(commands: string, cwd: string): Promise<{ code: number | null; output: string }> {
  // As from a user's shell, not from inside npm or this test run.
  const outer = Object.entries(process.env).filter(([name]) => !/^(npm_|VITEST|NODE_|TEST$)/i.test(name));
  const child = spawn("bash", ["-e", "-c", `exec 2>&1\n${commands}`], {
    cwd,
    env: { ...Object.fromEntries(outer), NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "inherit"],
    timeout: commandMsMax,
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((done) => child.once("close", done));
  return { code, output };
}

describe("Adding a component", () => {
  let clone = "";
  let blocks: Block[] = [];

  beforeAll(async () => {
    clone = await mkdtemp(join(await realpath(tmpdir()), "millrace-hacking-"));
    await copyClone(clone);
    await linkPackages(clone);
    blocks = blocksOf(await readFile(join(root, "docs", "HACKING.md"), "utf8"), "Adding a component");
  });

  afterAll(async () => {
    await rm(clone, { recursive: true, force: true });
  });

  test("every file, row and command of the page, in its order", { timeout: 300_000 }, async () => {
    const done = { files: 0, rows: 0, commands: 0, outputs: 0 };
    let output = "";
    for (const { language, path, text } of blocks) {
      if (language === "sh") {
        const result = await sh(text, clone);
        output = result.output;
        expect(result.code, `${text}\n${output}`).toBe(0);
        done.commands += text.trim().split("\n").length;
      } else if (language === "text") {
        expect(output.endsWith(text), `the output ends as the page says:\n${output}`).toBe(true);
        done.outputs++;
      } else {
        expect(path, `a file is named above this block:\n${text}`).toBeDefined();
        const target = resolve(clone, path ?? "");
        await mkdir(dirname(target), { recursive: true });
        if (language === "diff") await applyDiff(target, text);
        else await writeFile(target, text);
        done[language === "diff" ? "rows" : "files"]++;
      }
    }
    expect(done).toEqual({ files: 3, rows: 1, commands: 5, outputs: 1 });
    const page = await readFile(join(clone, "docs/reference/components/append-sink.md"), "utf8");
    expect(page).toContain("# Sink `append`");
    const list = await readFile(join(clone, "docs/reference/components/README.md"), "utf8");
    expect(list).toContain("append-sink.md");
  });
});
