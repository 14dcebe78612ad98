/**
 * What `npm run pack` makes is what a stranger needs: both tarballs are installed into an empty project, the example of
 * the SDK's README type-checks there, the command line runs a whole system, and the example runs against it.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
/** Node 24 itself comes first, as on a machine that has it. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env["PATH"] ?? ""}` };

let project = "";
let system: ChildProcess | undefined;

interface Outcome {
  readonly code: number;
  readonly output: string;
}

function run(command: string, args: readonly string[], cwd: string): Promise<Outcome> {
  const options = { cwd, env, maxBuffer: 16 << 20, timeout: 240_000 };
  return new Promise((resolve) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ code, output: stdout + stderr });
    });
  });
}

/** A port that was free a moment ago. */
function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    });
  });
}

/** The README's example, as it stands there but for the address. */
async function example(address: string): Promise<string> {
  const readme = await readFile(join(root, "libs/client/README.md"), "utf8");
  const code = /```ts\n([^]*?)```/.exec(readme)?.[1] ?? "";
  expect(code).toContain('"127.0.0.1:9750"');
  return code.replace('"127.0.0.1:9750"', JSON.stringify(address));
}

beforeAll(async () => {
  project = await mkdtemp(join(await realpath(tmpdir()), "millrace-pack-"));
  const packed = await run("npm", ["run", "--silent", "pack"], root);
  const tarballs = packed.output.match(/^dist\/.*\.tgz$/gm) ?? [];
  expect(tarballs, packed.output).toHaveLength(2);
  await writeFile(join(project, "package.json"), '{ "name": "stranger", "type": "module", "private": true }');
  const quiet = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  const installed = await run(
    "npm",
    ["install", ...quiet, ...tarballs.map((name) => join(root, name))],
    project,
  );
  expect(installed.code, installed.output).toBe(0);
}, 300_000);

afterAll(async () => {
  system?.kill("SIGKILL");
  await rm(project, { recursive: true, force: true });
});

test("the packages depend on nothing of ours and on exact versions", async () => {
  for (const name of ["millrace", "@millrace/client"]) {
    const text = await readFile(join(project, "node_modules", name, "package.json"), "utf8");
    const { dependencies = {} } = JSON.parse(text) as { dependencies?: Record<string, string> };
    expect(Object.keys(dependencies).filter((other) => other.startsWith("@millrace/"))).toEqual([]);
    expect(Object.values(dependencies).filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  }
});

test("the SDK's example type-checks, and so do the declarations it uses", async () => {
  await writeFile(join(project, "example.ts"), await example("127.0.0.1:9750"));
  const options = [
    "--module",
    "NodeNext",
    "--target",
    "ES2024",
    "--strict",
    "--noEmit",
    "--skipLibCheck",
    "false",
  ];
  const checked = await run(
    join(root, "node_modules/.bin/tsc"),
    [...options, "--types", "node", "example.ts"],
    project,
  );
  expect(checked).toEqual({ code: 0, output: "" });
});

test("npx millrace --help shows the commands", async () => {
  const helped = await run("npx", ["--no-install", "millrace", "--help"], project);
  expect(helped.output).toContain("Usage: millrace");
  expect(helped.output).toContain("topic");
  expect(helped.code).toBe(0);
});

test("npx millrace up runs the system, and the SDK's example runs against it", async () => {
  const port = await freePort();
  await writeFile(join(project, "input.log"), "one\ntwo\n");
  const bin = join(project, "node_modules/.bin/millrace");
  const args = [
    "up",
    "--data",
    join(project, "data"),
    "--tail",
    join(project, "input.log"),
    "--port",
    String(port),
  ];
  system = spawn(bin, [...args, "--http-port", "0"], {
    cwd: project,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let screen = "";
  const collect = (chunk: Buffer): void => {
    screen += chunk.toString("utf8");
  };
  system.stdout?.on("data", collect);
  system.stderr?.on("data", collect);
  await expect.poll(() => screen, { timeout: 60_000 }).toContain("ready in");
  await writeFile(join(project, "example.ts"), await example(`127.0.0.1:${port}`));
  const ran = await run(process.execPath, ["example.ts"], project);
  expect(ran).toEqual({ code: 0, output: "0 hello\n" });
  const ended = new Promise<number | null>((resolve) => {
    system?.once("exit", resolve);
  });
  system.kill("SIGTERM");
  expect(await ended, screen).toBe(0);
});
