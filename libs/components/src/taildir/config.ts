/** Configuration of the taildir source: Flume's keys, and what Flume lacks. */
import { z } from "@millrace/config";

const bool = (fallback: boolean) => z.stringbool().or(z.boolean()).default(fallback);
const whole = (fallback: number) => z.coerce.number().int().min(1).default(fallback);

/** Longest line kept in one record by default; a longer one becomes several records with a `part` header. */
const lineBytesMaxDefault = 4 * 1024 * 1024;

export const taildirConfig = z.strictObject({
  filegroups: z.record(z.string(), z.string()).default({}).meta({
    description:
      "Group name to absolute path: a literal folder and a regular expression for the file name (Flume).",
  }),
  paths: z.array(z.string()).default([]).meta({
    description: "Files or globs (`/var/log/**/*.log`); folders stand for the files directly in them.",
  }),
  headers: z.record(z.string(), z.record(z.string(), z.string())).default({}).meta({
    description: "Headers for the records of a file group, by group name.",
  }),
  fileHeader: bool(false).meta({ description: "Add a header with the path of the file." }),
  fileHeaderKey: z.string().default("file").meta({ description: "Name of that header." }),
  byteOffsetHeader: bool(false).meta({
    description: "Add a header `byteoffset` with the position of the line's first byte.",
  }),
  skipToEnd: bool(false).meta({ description: "Start at the end of files without a saved position." }),
  firstSightBytes: z.coerce.number().int().min(0).default(0).meta({
    description:
      "Of a file without a saved position read at most this many bytes, from the first whole line on; 0 = all.",
  }),
  skipBinary: bool(false).meta({
    description: "Leave binary and compressed files alone and list them as skipped.",
  }),
  alwaysRead: z
    .array(z.string())
    .default([])
    .meta({ description: "Paths read although they lie in a protected folder." }),
  batchSize: whole(1000).meta({ description: "Records in one transaction." }),
  maxBatchCount: whole(Number.MAX_SAFE_INTEGER).meta({
    description: "Batches read from one file before the next file has its turn.",
  }),
  maxLineBytes: whole(lineBytesMaxDefault).meta({
    description:
      "Longest line kept in one record; a longer one becomes several records with a `part` header.",
  }),
  pollInterval: whole(250).meta({
    description: "Longest time between two looks at idle files, ms; changes are usually noticed at once.",
  }),
  idleTimeout: whole(120_000).meta({
    description: "Close a file that did not grow for this long, ms; it is opened again when it grows.",
  }),
  positionFile: z.string().optional().meta({
    description:
      "Flume's position file: read once to take its positions over; never written, positions live in the channel's transactions.",
  }),
  writePosInterval: whole(3000).meta({
    description: "Accepted for Flume's sake; positions are part of each transaction.",
  }),
  backoffSleepIncrement: whole(1000).meta({ description: "Accepted for Flume's sake; see pollInterval." }),
  maxBackoffSleep: whole(5000).meta({ description: "Accepted for Flume's sake; see pollInterval." }),
  cachePatternMatching: bool(true).meta({
    description: "Look for new files only when a folder's modification time changed.",
  }),
  unsafeForgetPositions: z.boolean().default(false).meta({
    description:
      "Negative control of Millrace's own tests: starts without the saved positions. Never use it.",
  }),
});

export type TaildirConfig = z.output<typeof taildirConfig>;

/** Flume's flat keys: `filegroups = f1 f2`, `filegroups.f1 = PATH`, `headers.f1.key = value`. */
export function taildirFromFlume(keys: ReadonlyMap<string, string>): { [key: string]: unknown } {
  const config: { [key: string]: unknown } = {};
  const filegroups: { [group: string]: string } = {};
  const headers: { [group: string]: { [key: string]: string } } = {};
  const listed = new Set((keys.get("filegroups") ?? "").split(/\s+/).filter(Boolean));
  for (const [key, value] of keys) {
    const [section, group = "", ...rest] = key.split(".");
    if (key === "filegroups") continue;
    else if (section === "filegroups" && listed.has(key.slice("filegroups.".length)))
      filegroups[key.slice("filegroups.".length)] = value;
    else if (section === "headers" && rest.length > 0) (headers[group] ??= {})[rest.join(".")] = value;
    else config[key] = value;
  }
  for (const group of listed) {
    // an empty path is refused by the source with the group's name
    filegroups[group] ??= "";
  }
  return { ...config, filegroups, headers };
}
