/** Who may use which names: a claim per first part of the data files' names, so that two origins never meet in one. */
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { createFileExclusively, type Disk, readWholeFile } from "@millrace/runtime";
import { bookkeepingFolder, claimsFolder } from "./naming.ts";

/** Origins with the same label in one directory (a topic re-created that often). */
const claimsPerLabelMax = 100_000;

/**
 * Claims a stem for the log in `owner`: `label`, or `label.2`, `label.3`, ... when another origin of that label was
 * here before (a re-created topic starts at offset 0 again; its files must not replace the old ones). Durable.
 */
export async function claimStem(
  disk: Disk,
  directory: string,
  label: string,
  owner: string,
): Promise<string> {
  const folder = join(directory, bookkeepingFolder, claimsFolder);
  await disk.makeDirectory(folder);
  const mine = JSON.stringify({ formatVersion: 1, owner: owner.slice(directory.length) });
  for (let copy = 1; copy <= claimsPerLabelMax; copy++) {
    const stem = copy === 1 ? label : `${label}.${copy}`;
    const path = join(folder, stem);
    const present = await readWholeFile(disk, path);
    if (present === undefined) {
      if (await createFileExclusively(disk, path, Buffer.from(mine))) return stem;
    }
    const claimed = present ?? (await readWholeFile(disk, path));
    if (claimed !== undefined && Buffer.from(claimed).toString("utf8") === mine) return stem;
  }
  throw new AppError("LIMIT_EXCEEDED", `${folder} holds ${claimsPerLabelMax} claims for ${label}`, {
    metadata: { path: folder },
  });
}
