/** What a failed disk operation becomes: an AppError that names the path and what to do. */
import { AppError } from "@millrace/base";
import { errorCode } from "@millrace/runtime";

/** Wraps a system error; an AppError stays itself. Nothing is lost by it: the task opens again and goes on from its log. */
export function namedDiskError(thrown: unknown, path: string): AppError {
  if (thrown instanceof AppError) return thrown;
  const code = errorCode(thrown);
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new AppError(
      "DISK_FULL",
      `no space for ${path} (${detail}): make room; delivery waits and nothing is lost`,
      {
        metadata: { path },
        cause: thrown,
      },
    );
  }
  const advice = code === "EACCES" || code === "EPERM" || code === "EROFS" ? ": give write access" : "";
  return new AppError("STORAGE_FAILED", `writing ${path} failed (${detail})${advice}`, {
    metadata: { path, ...(code === undefined ? {} : { code }) },
    cause: thrown,
  });
}
