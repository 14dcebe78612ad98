/** What an `up` is asked to do, decided: paths made absolute, defaults filled in, wrong wishes refused. */
import { existsSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import { AppError } from "@millrace/base";
import type { UpCommandOptions } from "../commands/up.ts";
import { type HoldLimits, holdLimits, sizeDefault } from "./hold.ts";

/** A decided `up`. */
export interface UpPlan {
  /** Absolute. */
  readonly dataDirectory: string;
  /** Absolute paths and globs; empty = the logs of this machine. */
  readonly tails: readonly string[];
  readonly isOnce: boolean;
  /** Where a file that was not seen before is begun: at its start, its end, or its last part. */
  readonly from: "start" | "end" | "last";
  readonly port: number;
  readonly httpPort: number;
  readonly limits: HoldLimits;
  /** The command that starts it again. */
  readonly again: string;
  /** Flags a client on this machine needs. */
  readonly clientFlags: (boundPort: number) => string;
}

/** Folder of the files that are followed when nobody names one. */
export const machineLogs = "/var/log";

/** Port that clients look for by themselves. */
const portDefault = 9750;

/** Decides. `env` and `directory` are the process's. Throws INVALID_REQUEST. */
export function planOf(
  options: UpCommandOptions,
  env: Readonly<Record<string, string | undefined>>,
  directory: string,
): UpPlan {
  const isNpm = env["npm_lifecycle_event"] === "start";
  // `npm start` runs in the package's folder; what the user wrote is relative to where he is.
  const base = isNpm ? (env["INIT_CWD"] ?? directory) : directory;
  const tails = (options.tail ?? []).map((path) => absolute(path, base));
  if (options.once === true) for (const path of tails) refuseMissing(path);
  const dataDirectory =
    options.data === undefined ? join(directory, ".millrace") : resolve(base, options.data);
  const { port } = options;
  return {
    dataDirectory,
    tails,
    isOnce: options.once ?? false,
    from: options.from ?? (tails.length > 0 ? "start" : "last"),
    port,
    httpPort: options.httpPort ?? (port === 0 ? 0 : port + 1),
    limits: holdLimits(options.size ?? sizeDefault),
    again: again(options, isNpm),
    clientFlags: (bound) => (bound === portDefault ? "" : ` --bootstrap-server 127.0.0.1:${bound}`),
  };
}

/** A path or glob seen from `base`; the folder above a glob is made real, because links are not followed in it. */
function absolute(path: string, base: string): string {
  const whole = resolve(base, path);
  return isGlob(whole) || !existsSync(whole) ? whole : realpathSync(whole);
}

function isGlob(path: string): boolean {
  return /[*?[{]/.test(path) && !existsSync(path);
}

function refuseMissing(path: string): void {
  if (isGlob(path) || existsSync(path)) return;
  throw new AppError(
    "INVALID_REQUEST",
    `--tail ${path}: there is no such file, so --once has nothing to deliver`,
  );
}

function again({ data, tail, port, size }: UpCommandOptions, isNpm: boolean): string {
  const flags = [
    ...(data === undefined ? [] : ["--data", data]),
    ...(tail ?? []).flatMap((path) => ["--tail", path]),
    ...(size === undefined ? [] : ["--size", `${Math.ceil(size / 2 ** 20)}MiB`]),
    ...(port === portDefault ? [] : ["--port", String(port)]),
  ].map((word) => (/^[\w./:@%+=,-]+$/.test(word) ? word : `'${word}'`));
  if (flags.length === 0) return isNpm ? "npm start" : "npx millrace up";
  return `${isNpm ? "npm start --" : "npx millrace up"} ${flags.join(" ")}`;
}
