/**
 * Every example, run exactly as its README shows it: the `sh` blocks in one shell, in a copy of the clone, each block's
 * output compared with the `text` block below it. There `...` stands for what differs from run to run.
 */
import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, realpath, rm, symlink } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
/** Longest time an example may take. */
const exampleMsMax = 100_000;

let clone = "";

/** What the commands need of a clone: the examples, the protos, and what `npm ci` brings. */
beforeEach(async () => {
  clone = await mkdtemp(join(await realpath(tmpdir()), "millrace-example-"));
  await cp(join(root, "examples"), join(clone, "examples"), { recursive: true });
  for (const name of ["node_modules", "proto"]) await symlink(join(root, name), join(clone, name));
});

afterEach(async () => {
  await rm(clone, { recursive: true, force: true });
});

interface Step {
  readonly commands: string;
  /** Lines expected of the commands; undefined: whatever they print. */
  readonly expected: string | undefined;
}

/** The steps of a README: `sh` blocks, each with the `text` block before the next one. */
function stepsOf(readme: string): Step[] {
  const blocks = [...readme.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text = ""]) => ({
    language,
    text,
  }));
  return blocks.flatMap(({ language, text }, i) => {
    if (language !== "sh") return [];
    const next = blocks[i + 1];
    return [{ commands: text, expected: next?.language === "text" ? next.text : undefined }];
  });
}

const endOfStep = "== end of step ==";

/** Output of each step, both streams as on a terminal. npm's complaints about the machine's own settings are not ours. */
async function run(steps: readonly Step[], env: Readonly<Record<string, string>>): Promise<string[]> {
  const script = steps.map(({ commands }) => `${commands}\necho '${endOfStep}'\n`).join("");
  const shell = spawn("bash", ["-c", `exec 2>&1\n${script}`], {
    cwd: clone,
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  let output = "";
  shell.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const timer = setTimeout(() => killGroup(shell.pid), exampleMsMax);
  await new Promise((resolve) => shell.once("exit", resolve));
  clearTimeout(timer);
  killGroup(shell.pid);
  const lines = output.split("\n").filter((line) => !line.startsWith("npm warn "));
  return lines.join("\n").split(`${endOfStep}\n`);
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // Nothing of it is left, as it should be.
  }
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** The text with `...` for anything within a line, and a line `...` for any lines. */
function patternOf(expected: string): RegExp {
  const lines = expected
    .split("\n")
    .map((line) => (line === "..." ? "(?:.*\n)*?" : `${line.split("...").map(escaped).join(".*")}\n`));
  return new RegExp(`^${lines.join("").replace(/\n$/, "")}$`);
}

test.each(["first-pipeline", "flume-conf", "two-agents", "clients/python"])(
  "examples/%s does what its README says",
  async (name) => {
    const steps = stepsOf(await readFile(join(root, "examples", name, "README.md"), "utf8"));
    expect(steps.length).toBeGreaterThan(1);
    // Kept between runs and outside the clone: it is what the network brings.
    const cache = join(homedir(), ".cache", "millrace-examples");
    await mkdir(cache, { recursive: true });
    const outputs = await run(steps, { VENV: join(cache, "venv") });
    for (const [i, { commands, expected }] of steps.entries()) {
      if (expected !== undefined) expect(outputs[i], commands).toMatch(patternOf(expected));
    }
    expect(outputs).toHaveLength(steps.length + 1);
  },
  exampleMsMax + 30_000,
);
