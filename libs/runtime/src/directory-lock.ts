/**
 * One process per data directory.
 *
 * The lock is a kernel lock on `<dir>/.lock`, taken through the SQLite built into Node (Node has no flock of its
 * own): the kernel drops it when the process dies, however it dies, and it holds between containers that share a
 * volume. Who holds it is written beside it, for the message only.
 */
import { accessSync, constants, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { AppError } from "@millrace/base";

/** A held lock. */
export interface DirectoryLock {
  release(): void;
}

/**
 * Takes the lock of `directory` (which exists) or throws ALREADY_LOCKED naming the holder; the system's error (EACCES,
 * ENOTDIR) when it cannot be written.
 */
export function lockDirectory(directory: string): DirectoryLock {
  const ownerPath = join(directory, ".lock.owner");
  // SQLite would only say that it cannot open its file.
  accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  const database = new DatabaseSync(join(directory, ".lock"));
  try {
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE;");
  } catch (error) {
    database.close();
    if (!String(error).includes("locked")) throw error;
    throw new AppError(
      "ALREADY_LOCKED",
      `${directory} is in use by ${readOwner(ownerPath)}: stop that process, or choose another directory with --data`,
      { metadata: { directory }, cause: error },
    );
  }
  writeFileSync(ownerPath, `process ${process.pid} (${process.title})\n`, { mode: 0o600 });
  return { release: () => database.close() };
}

function readOwner(path: string): string {
  try {
    return readFileSync(path, "utf8").trim() || "another process";
  } catch {
    return "another process";
  }
}
