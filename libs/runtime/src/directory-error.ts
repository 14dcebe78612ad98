/** System errors on a directory that a user chose, said in words that help. */
import { userInfo } from "node:os";
import { AppError } from "@millrace/base";
import { errorCode } from "./disk.ts";

const notAllowed = (): string => `${userName()} may not read and write it: change its owner or mode`;
const noDirectory = (): string => "it, or a part of its path, is no directory";

const meaning: { readonly [code: string]: () => string } = {
  EACCES: notAllowed,
  EPERM: notAllowed,
  EROFS: () => "its file system is read-only",
  ENOTDIR: noDirectory,
  EEXIST: noDirectory,
  ELOOP: () => "its path is a loop of links",
  ENAMETOOLONG: () => "its path is too long",
};

/**
 * What was thrown while the data directory `path` was opened, as INVALID_CONFIG that names path, cause and what to do,
 * where it is the choice of the directory that is wrong; anything else as it is.
 */
export function directoryError(path: string, thrown: unknown): unknown {
  const why = meaning[errorCode(thrown) ?? ""];
  if (why === undefined || thrown instanceof AppError) return thrown;
  const at = thrown instanceof Error && "path" in thrown ? String(thrown.path) : path;
  const part = at === path ? "" : ` (${at})`;
  return new AppError(
    "INVALID_CONFIG",
    `data directory ${path}${part} cannot be used: ${why()}; otherwise choose another directory`,
    { metadata: { directory: path }, cause: thrown },
  );
}

function userName(): string {
  try {
    return `user ${userInfo().username}`;
  } catch {
    return "this user";
  }
}
