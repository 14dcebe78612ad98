/**
 * Finds the files to read: file groups (Flume), paths and globs; and says of the others why they are left alone.
 *
 * Never read: anything below a protected folder or below any Millrace data directory (its output would feed
 * itself), whatever the pattern says. Symlinks are followed once; a link to a file that is read anyway, or in a
 * loop, adds nothing.
 */
import { glob, open, readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { AppError } from "@millrace/base";
import { errorCode } from "@millrace/runtime";
import type { TaildirConfig } from "./config.ts";

/** A file to read. */
export interface FoundFile {
  readonly path: string;
  readonly group: string;
  readonly device: number;
  readonly inode: number;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** The result of one look. */
export interface Discovery {
  readonly files: readonly FoundFile[];
  /** Path to reason. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** File whose presence marks the root of a `millrace up` directory; services' directories have their `meta`. */
export const directoryMarker = ".millrace-directory";

const compressedMagic: readonly (readonly number[])[] = [
  [0x1f, 0x8b],
  [0x28, 0xb5, 0x2f, 0xfd],
  [0xfd, 0x37, 0x7a, 0x58, 0x5a],
  [0x42, 0x5a, 0x68],
  [0x04, 0x22, 0x4d, 0x18],
  [0x50, 0x4b, 0x03, 0x04],
];

const sampleBytes = 4096;

/** Looks for files under a configuration; remembers what it learned about folders. */
export class FileDiscovery {
  readonly #config: TaildirConfig;
  readonly #protectedPaths: readonly string[];
  readonly #alwaysRead: ReadonlySet<string>;
  readonly #groups: readonly { readonly group: string; readonly folder: string; readonly pattern: RegExp }[];
  readonly #kindCache = new Map<string, string | undefined>();

  constructor(config: TaildirConfig, protectedPaths: readonly string[]) {
    this.#config = config;
    this.#protectedPaths = protectedPaths;
    this.#alwaysRead = new Set(config.alwaysRead);
    this.#groups = Object.entries(config.filegroups).map(([group, path]) => {
      if (path === "")
        throw new AppError("INVALID_CONFIG", `filegroups.${group}: is listed in filegroups but has no path`);
      return { group, folder: dirname(path), pattern: wholeName(group, basename(path)) };
    });
    if (this.#groups.length === 0 && config.paths.length === 0) {
      throw new AppError("INVALID_CONFIG", "taildir needs filegroups or paths");
    }
  }

  /** One look at all groups and paths. Files in the order of their last change, so that a rotated log's oldest part is first. */
  async look(): Promise<Discovery> {
    const files = new Map<string, FoundFile>();
    const skipped = new Map<string, string>();
    const marked = new Map<string, boolean>();
    for (const { path, group } of await this.#candidates(skipped)) {
      try {
        await this.#consider(path, group, files, skipped, marked);
      } catch (error) {
        const code = errorCode(error);
        if (code === "ENOENT") continue;
        skipped.set(
          path,
          code === "EACCES" || code === "EPERM"
            ? "unreadable"
            : code === "ELOOP"
              ? "symlink loop"
              : `unreadable (${code ?? String(error)})`,
        );
      }
    }
    return { files: [...files.values()].sort(byChange), skipped };
  }

  async #candidates(skipped: Map<string, string>): Promise<{ path: string; group: string }[]> {
    const found: { path: string; group: string }[] = [];
    for (const { group, folder, pattern } of this.#groups) {
      for (const name of await listFolder(folder, skipped))
        if (pattern.test(name)) found.push({ path: join(folder, name), group });
    }
    for (const path of this.#config.paths) {
      for (const match of await expandPath(path, skipped)) found.push({ path: match, group: "" });
    }
    return found;
  }

  async #consider(
    path: string,
    group: string,
    files: Map<string, FoundFile>,
    skipped: Map<string, string>,
    marked: Map<string, boolean>,
  ): Promise<void> {
    const real = await realpath(path);
    const found = await stat(real);
    if (!found.isFile()) {
      if (!found.isDirectory()) skipped.set(path, "not a regular file");
      return;
    }
    if (
      !this.#alwaysRead.has(real) &&
      (this.#isProtected(real) || (await isInMillraceDirectory(dirname(real), marked)))
    ) {
      skipped.set(path, "Millrace's own data");
      return;
    }
    const key = `${found.dev}:${found.ino}`;
    if (files.has(key)) return;
    const kind = await this.#kindOf(real, found.size, key);
    if (kind !== undefined && this.#config.skipBinary) skipped.set(path, kind);
    else
      files.set(key, {
        path,
        group,
        device: found.dev,
        inode: found.ino,
        sizeBytes: found.size,
        modifiedMs: found.mtimeMs,
      });
  }

  #isProtected(path: string): boolean {
    return this.#protectedPaths.some((folder) => path === folder || path.startsWith(folder + sep));
  }

  /** `binary` or `compressed`, undefined for text. Also finds out whether the file can be read at all. */
  async #kindOf(path: string, sizeBytes: number, key: string): Promise<string | undefined> {
    const cached = this.#kindCache.get(key);
    if (cached !== undefined || (this.#kindCache.has(key) && sizeBytes > 0)) return cached;
    const handle = await open(path, "r");
    try {
      const sample = Buffer.alloc(sampleBytes);
      const { bytesRead } = await handle.read(sample, 0, sampleBytes, 0);
      const kind = kindOfSample(sample.subarray(0, bytesRead));
      if (bytesRead > 0) this.#kindCache.set(key, kind);
      return kind;
    } finally {
      await handle.close();
    }
  }
}

/** What a file's first bytes are: compressed, binary (more than one control byte in ten), or text. */
export function kindOfSample(sample: Uint8Array): "binary" | "compressed" | undefined {
  if (compressedMagic.some((magic) => magic.every((byte, i) => sample[i] === byte))) return "compressed";
  let controlCount = 0;
  for (const byte of sample)
    if (byte < 32 && byte !== 9 && byte !== 10 && byte !== 13 && byte !== 27) controlCount++;
  return controlCount * 10 > sample.length ? "binary" : undefined;
}

function wholeName(group: string, pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})$`);
  } catch (error) {
    throw new AppError(
      "INVALID_CONFIG",
      `filegroups.${group}: "${pattern}" is no regular expression: ${String(error)}`,
      { cause: error },
    );
  }
}

async function listFolder(folder: string, skipped: Map<string, string>): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    const code = errorCode(error);
    if (code !== "ENOENT") skipped.set(folder, `unreadable folder (${code ?? String(error)})`);
    return [];
  }
}

async function expandPath(path: string, skipped: Map<string, string>): Promise<string[]> {
  if (/[*?[{]/.test(path)) {
    const matches: string[] = [];
    for await (const match of glob(path)) matches.push(match);
    return matches;
  }
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return (await listFolder(path, skipped)).map((name) => join(path, name));
  return [path];
}

/** True when `folder` or one above it is a data directory of any Millrace process. */
async function isInMillraceDirectory(folder: string, marked: Map<string, boolean>): Promise<boolean> {
  const known = marked.get(folder);
  if (known !== undefined) return known;
  const parent = dirname(folder);
  const isMarked =
    (await isMillraceDirectory(folder)) ||
    (parent !== folder && (await isInMillraceDirectory(parent, marked)));
  marked.set(folder, isMarked);
  return isMarked;
}

async function isMillraceDirectory(folder: string): Promise<boolean> {
  if (await stat(join(folder, directoryMarker)).catch(() => undefined)) return true;
  const meta = await readFile(join(folder, "meta"), "utf8").catch(() => undefined);
  return meta !== undefined && meta.length < 1 << 20 && meta.includes('"directoryId"');
}

function byChange(a: FoundFile, b: FoundFile): number {
  if (a.modifiedMs !== b.modifiedMs) return a.modifiedMs - b.modifiedMs;
  return a.path < b.path ? -1 : 1;
}
