/** Whole-file writes that are there or not there after a crash, never in between. */

import { dirname } from "node:path";
import { type Disk, errorCode } from "./disk.ts";
import { randomId } from "./ids.ts";

/** Reads a whole file; undefined when it does not exist. */
export async function readWholeFile(disk: Disk, path: string): Promise<Uint8Array | undefined> {
  let file: Awaited<ReturnType<Disk["open"]>>;
  try {
    file = await disk.open(path, "read");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const bytes = new Uint8Array(await file.size());
    let at = 0;
    while (at < bytes.byteLength) {
      const count = await file.read(bytes, at, bytes.byteLength - at, at);
      if (count === 0) break;
      at += count;
    }
    return bytes.subarray(0, at);
  } finally {
    await file.close();
  }
}

/** Replaces (or creates) `path`: temporary file, fsync, rename, fsync of the folder. */
export async function replaceFile(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomId()}.tmp`;
  await writeDurably(disk, temporary, bytes);
  await disk.rename(temporary, path);
  await disk.syncDirectory(dirname(path));
}

/**
 * Creates `path` only if nobody did: temporary file, fsync, link, fsync of the folder.
 * Returns false when the name is taken (rule C2: exactly one of many racing creators wins).
 */
export async function createFileExclusively(disk: Disk, path: string, bytes: Uint8Array): Promise<boolean> {
  const temporary = `${path}.${randomId()}.tmp`;
  await writeDurably(disk, temporary, bytes);
  let isOurs = true;
  try {
    await disk.link(temporary, path);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    isOurs = false;
  }
  await disk.removeFile(temporary);
  await disk.syncDirectory(dirname(path));
  return isOurs;
}

async function writeDurably(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const file = await disk.open(path, "createNew");
  try {
    await file.write([bytes], 0);
    await file.dataSync();
  } finally {
    await file.close();
  }
}
