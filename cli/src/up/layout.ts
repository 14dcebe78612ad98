/** The directory of `millrace up`: made private, marked as Millrace's, locked by one process. */
import { chmodSync, readdirSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, relative, resolve } from "node:path";
import { AppError } from "@millrace/base";
import { type DirectoryLock, directoryError, errorCode, lockDirectory, realDisk } from "@millrace/runtime";

/** File that tells sources to leave the whole directory alone (see the taildir source). */
const marker = ".millrace-directory";

/** Where everything lies. Absolute paths. */
export interface Layout {
  readonly root: string;
  readonly metadata: string;
  readonly storage: string;
  readonly agent: string;
  readonly connector: string;
  readonly out: string;
  readonly logFile: string;
  readonly lock: DirectoryLock;
}

/** Makes or takes the directory. Throws ALREADY_LOCKED (another `up` runs on it) and INVALID_CONFIG. */
export async function openLayout(path: string): Promise<Layout> {
  let root = resolve(path);
  try {
    // Node's own recursive mkdir never returns where a folder exists but takes no names (/proc)
    await realDisk.makeDirectory(root);
    root = realpathSync(root);
    if (!statSync(root).isDirectory()) throw notUsable(root, "it is not a directory");
    const names = readdirSync(root);
    const isOurs = names.length === 0 || names.includes(marker);
    if (!isOurs) throw notUsable(root, "it holds other files and is no Millrace directory");
    chmodSync(root, 0o700);
    // First of all: what a crash leaves behind is recognised as Millrace's.
    writeFileSync(join(root, marker), "This directory belongs to Millrace. Sources never read it.\n");
    const lock = lockDirectory(root);
    return {
      root,
      metadata: join(root, "metadata"),
      storage: join(root, "storage"),
      agent: join(root, "agent"),
      connector: join(root, "connector"),
      out: join(root, "out"),
      logFile: join(root, "log", "millrace.log"),
      lock,
    };
  } catch (error) {
    const known = directoryError(root, error);
    if (known instanceof AppError) throw known;
    throw notUsable(root, errorCode(error) ?? String(error), error);
  }
}

function notUsable(root: string, why: string, cause?: unknown): AppError {
  return new AppError("INVALID_CONFIG", `--data ${root} cannot be used: ${why}; choose another directory`, {
    cause,
  });
}

/** A path as a user would write it: below the working directory, below the home directory, or absolute. */
export function shownPath(path: string): string {
  const below = (folder: string, prefix: string): string | undefined => {
    const rest = relative(folder, path);
    return rest === "" || rest.startsWith("..") ? undefined : `${prefix}/${rest}`;
  };
  return below(process.cwd(), ".") ?? below(homedir(), "~") ?? path;
}
