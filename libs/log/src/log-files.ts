/** Names of a log's files on disk: which segments there are, and removing them. */
import { join } from "node:path";
import type { Disk } from "@millrace/runtime";
import type { OpenFiles } from "./open-files.ts";
import { segmentFileName } from "./segment.ts";

const segmentSuffixes = [".log", ".index", ".timeindex", ".snapshot", ".txnindex"];

/** Base offsets of the names with a suffix, ascending. */
export async function listBases(disk: Disk, directory: string, suffix: string): Promise<number[]> {
  const names = await disk.list(directory);
  return names
    .filter((name) => name.length === 20 + suffix.length && /^\d{20}/.test(name) && name.endsWith(suffix))
    .map((name) => Number(name.slice(0, 20)))
    .filter((base) => Number.isSafeInteger(base))
    .sort((a, b) => a - b);
}

/** Base offsets of a log's segments, ascending. */
export function listSegmentBases(disk: Disk, directory: string): Promise<number[]> {
  return listBases(disk, directory, ".log");
}

/** Removes a segment with its indexes and snapshot; the names go durably with the next `syncDirectory`. */
export async function removeSegmentFiles(
  disk: Disk,
  files: OpenFiles,
  directory: string,
  base: number,
): Promise<void> {
  for (const suffix of segmentSuffixes) {
    const path = join(directory, segmentFileName(base, suffix));
    await files.forget(path);
    await disk.removeFile(path);
  }
}
