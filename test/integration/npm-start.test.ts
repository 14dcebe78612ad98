/** Ctrl-C on `npm start` as a terminal sends it: to npm and everything it started, at once. */
import { spawn } from "node:child_process";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
let folder = "";

beforeEach(async () => {
  folder = await mkdtemp(join(await realpath(tmpdir()), "millrace-start-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

test("drains once, although npm passes the signal on a second time", async () => {
  const input = join(folder, "input.log");
  await writeFile(input, "one\ntwo\n");
  const args = ["start", "--", "--data", join(folder, "data"), "--port", "0", "--tail", input];
  const npm = spawn("npm", args, { cwd: root, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const group = -(npm.pid ?? 0);
  const ended = new Promise<number | null>((resolve) => npm.once("close", resolve));
  let screen = "";
  const collect = (chunk: Buffer): void => {
    screen += chunk.toString("utf8");
  };
  npm.stdout.on("data", collect);
  npm.stderr.on("data", collect);
  try {
    await expect.poll(() => screen, { timeout: 60_000 }).toContain("2 in = 2 published");
    process.kill(group, "SIGINT");
    expect(await ended, screen).toBe(0);
    expect(screen).toContain("stopped: 2 records");
  } finally {
    if (npm.exitCode === null) process.kill(group, "SIGKILL");
  }
});
