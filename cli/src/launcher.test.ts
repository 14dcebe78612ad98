/**
 * bin/millrace.js in a copy of its surroundings with a planted command line, started in every way a machine may start
 * it: by a new enough Node, by one that cannot strip types (the pinned Node takes over), by an old one if there is one.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

/** Prints its pid and arguments; then does what the first argument says. */
const plantedMain = `
const [verb, value] = process.argv.slice(2);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => { console.log("drained after", signal); process.exit(3); });
}
console.log("pid", process.pid, "major", process.versions.node.split(".")[0], "args", process.argv.slice(2).join(","));
if (verb === "exit") process.exitCode = Number(value);
if (verb === "die") process.kill(process.pid, "SIGKILL");
if (verb === "wait") setInterval(() => undefined, 1000);
else process.removeAllListeners();
`;

const pinnedName = `node-${process.platform}-${process.arch}`;

function pinnedFolder(): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${pinnedName}/package.json`));
  } catch {
    return undefined;
  }
}

/** A Node older than 24 on this machine's PATH. */
function oldNode(): string | undefined {
  const folders = (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter((folder) => !folder.includes("node_modules"));
  return folders
    .map((folder) => join(folder, "node"))
    .find((node) => {
      try {
        return Number(/^v(\d+)/.exec(execFileSync(node, ["--version"], { encoding: "utf8" }))?.[1]) < 24;
      } catch {
        return false;
      }
    });
}

let house = "";
const children = new Set<ChildProcess>();

beforeAll(async () => {
  house = await mkdtemp(join(await realpath(tmpdir()), "millrace-launcher-"));
  const pinned = pinnedFolder();
  for (const place of ["with-pinned", "without"]) {
    await mkdir(join(house, place, "src"), { recursive: true });
    await mkdir(join(house, place, "node_modules"));
    await cp(join(import.meta.dirname, "..", "bin"), join(house, place, "bin"), { recursive: true });
    await writeFile(join(house, place, "package.json"), '{ "type": "module" }');
    await writeFile(join(house, place, "src", "main.ts"), plantedMain);
  }
  if (pinned !== undefined) await symlink(pinned, join(house, "with-pinned", "node_modules", pinnedName));
});

afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
});

afterAll(async () => {
  await rm(house, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly closed: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

function launch(place: string, node: readonly string[], ...args: string[]): Started {
  const [command = process.execPath, ...flags] = node;
  const launcher = join(house, place, "bin", "millrace.js");
  const env = { ...process.env, XDG_CACHE_HOME: join(house, "cache"), NODE_OPTIONS: "" };
  const child = spawn(command, [...flags, launcher, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  let text = "";
  const collect = (chunk: Buffer): void => {
    text += chunk.toString("utf8");
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  const closed = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on("close", (code, signal) => {
      resolve({ code, signal });
    });
  });
  return { child, output: () => text, closed };
}

/** Waits for the planted program's line and returns the pid it tells. */
async function pidOf(started: Started): Promise<number> {
  await expect.poll(started.output, { timeout: 20_000 }).toMatch(/pid \d+/);
  return Number(/pid (\d+)/.exec(started.output())?.[1]);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const old = oldNode();
const ways: readonly {
  way: string;
  node: readonly string[];
  handsOver: boolean;
  missing: string | undefined;
}[] = [
  { way: "a new enough Node", node: [process.execPath], handsOver: false, missing: undefined },
  {
    way: "a Node that cannot strip types",
    node: [process.execPath, "--no-experimental-strip-types"],
    handsOver: true,
    missing: pinnedFolder() === undefined ? `no ${pinnedName} package on this machine` : undefined,
  },
  {
    way: "an old Node",
    node: [old ?? "none"],
    handsOver: true,
    missing: old === undefined ? "no Node older than 24 on this machine" : undefined,
  },
];

describe.for(ways)("the launcher under $way", ({ node, handsOver, missing }) => {
  test("runs the command line with its arguments and mirrors its exit code", async (context) => {
    context.skip(missing !== undefined, missing);
    const started = launch("with-pinned", node, "exit", "7", "--tail", "x y");
    expect(await started.closed).toEqual({ code: 7, signal: null });
    expect(started.output()).toMatch(/major (2[4-9]|[3-9]\d) args exit,7,--tail,x y\n$/);
  });

  test.for([
    "SIGINT",
    "SIGTERM",
    "SIGHUP",
  ] as const)("passes %s on and waits for the drain", async (signal, context) => {
    context.skip(missing !== undefined, missing);
    const started = launch("with-pinned", node, "wait");
    const pid = await pidOf(started);
    expect(pid === started.child.pid).toBe(!handsOver);
    started.child.kill(signal);
    expect(await started.closed).toEqual({ code: 3, signal: null });
    expect(started.output()).toContain(`drained after ${signal}`);
    expect(isAlive(pid)).toBe(false);
  });

  test("dies of the signal that its child died of", async (context) => {
    context.skip(missing !== undefined, missing);
    const started = launch("with-pinned", node, "die");
    expect(await started.closed).toEqual({ code: null, signal: "SIGKILL" });
  });
});

describe.for(ways.filter((way) => way.handsOver))("the launcher that hands over under $way", ({
  node,
  missing,
}) => {
  test("leaves no orphan when it is killed with -9", async (context) => {
    context.skip(missing !== undefined, missing);
    const started = launch("with-pinned", node, "wait");
    const pid = await pidOf(started);
    started.child.kill("SIGKILL");
    await started.closed;
    await expect.poll(() => isAlive(pid), { timeout: 20_000 }).toBe(false);
    expect(started.output()).toContain("drained after SIGTERM");
  });
});

describe("the launcher where it cannot run", () => {
  test("names the Node to install in one line when there is none", async () => {
    const started = launch("without", [process.execPath, "--no-experimental-strip-types"], "topic", "list");
    expect(await started.closed).toEqual({ code: 1, signal: null });
    expect(started.output()).toMatch(
      /^millrace: Node 24 or newer is needed, this is v[\d.]+: install it [^\n]+\n$/,
    );
  });

  test("refuses Windows with one sentence", async () => {
    const windows = 'data:text/javascript,Object.defineProperty(process,"platform",{value:"win32"})';
    const started = launch("with-pinned", [process.execPath, "--import", windows], "up");
    expect(await started.closed).toEqual({ code: 1, signal: null });
    expect(started.output()).toBe("millrace: Windows is supported through WSL2 or Docker only.\n");
  });
});
