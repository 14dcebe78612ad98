/** The machine under a test or bench: its file system and how long an fsync takes. Data on tmpfs is refused. */
import { readFileSync } from "node:fs";
import { mkdtemp, open, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, sep } from "node:path";

/** What `describeEnvironment` found. Times in milliseconds. */
export interface Environment {
  readonly directory: string;
  readonly fileSystem: string;
  readonly fsyncP50Ms: number;
  readonly fsyncP99Ms: number;
}

const fsyncSamples = 200;

/** A new folder for data on a real disk. Throws on tmpfs, where fsync means nothing: set TMPDIR to a disk's folder. */
export async function makeDataFolder(prefix: string): Promise<string> {
  const folder = await mkdtemp(join(await realpath(tmpdir()), `millrace-${prefix}-`));
  if (fileSystemOf(folder) === "tmpfs") {
    await rm(folder, { recursive: true });
    throw new Error(`${tmpdir()} is a tmpfs: set TMPDIR to a folder on a disk`);
  }
  return folder;
}

/** Measures a 4 KiB append with fdatasync in `directory`. */
export async function describeEnvironment(directory: string): Promise<Environment> {
  const path = join(directory, ".fsync-probe");
  const file = await open(path, "w");
  const block = Buffer.alloc(4096, 1);
  const times: number[] = [];
  for (let i = 0; i < fsyncSamples; i++) {
    const start = performance.now();
    await file.write(block);
    await file.datasync();
    times.push(performance.now() - start);
  }
  await file.close();
  await rm(path);
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0;
  return { directory, fileSystem: fileSystemOf(directory), fsyncP50Ms: at(0.5), fsyncP99Ms: at(0.99) };
}

/** One line for the top of a report. */
export function environmentLine(environment: Environment): string {
  const { directory, fileSystem, fsyncP50Ms, fsyncP99Ms } = environment;
  return `data on ${fileSystem} (${directory}), fsync of 4 KiB: p50 ${fsyncP50Ms.toFixed(2)} ms, p99 ${fsyncP99Ms.toFixed(2)} ms`;
}

/** Type of the file system that holds `path` (longest matching mount); `unknown` where /proc does not tell. */
function fileSystemOf(path: string): string {
  let best = { mount: "", type: "unknown" };
  let mounts = "";
  try {
    mounts = readFileSync("/proc/mounts", "utf8");
  } catch {
    return best.type;
  }
  for (const line of mounts.split("\n")) {
    const [, mount = "", type = ""] = line.split(" ");
    const isAbove = path === mount || path.startsWith(mount.endsWith(sep) ? mount : mount + sep);
    if (isAbove && mount.length > best.mount.length) best = { mount, type };
  }
  return best.type;
}
