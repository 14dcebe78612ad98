/**
 * Value types of configuration keys beyond zod's own: durations, sizes, secrets, ports, addresses.
 *
 * Each accepts what a person writes (text with a unit) and gives what the code uses (milliseconds, bytes). Each carries
 * a `kind` in its metadata, which the reference page and the printed configuration read.
 */
import { readFileSync } from "node:fs";
import { errorCode } from "@millrace/runtime";
import { z } from "zod";
import { Secret } from "./secret.ts";

/** Kinds of values with a notation of their own. */
export type ValueKind = "duration" | "size" | "secret" | "port" | "address" | "address list";

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const sizeUnits: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Milliseconds of `5s`, `500ms`, `1.5h`, `7d`; a bare number is milliseconds. undefined: not a duration. */
export function parseDuration(value: string | number): number | undefined {
  return parseQuantity(value, durationUnits);
}

/** Bytes of `64MiB`, `1GB`, `512B`; a bare number is bytes. undefined: not a size. */
export function parseSize(value: string | number): number | undefined {
  return parseQuantity(value, sizeUnits);
}

function parseQuantity(value: string | number, units: Readonly<Record<string, number>>): number | undefined {
  const text = String(value).trim();
  const match = /^(\d+(?:\.\d+)?)\s*([a-zA-Z]*)$/.exec(text);
  if (match === null) return undefined;
  const [, number = "", unit = ""] = match;
  const factor = unit === "" ? 1 : Object.hasOwn(units, unit) ? units[unit] : undefined;
  if (factor === undefined) return undefined;
  const amount = Math.round(Number(number) * factor);
  return Number.isSafeInteger(amount) ? amount : undefined;
}

/** `90000` -> `90s`: the largest unit that divides it. */
export function formatDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const factor = durationUnits[unit] ?? 1;
    if (ms !== 0 && ms % factor === 0) return `${ms / factor}${unit}`;
  }
  return `${ms}ms`;
}

/** `67108864` -> `64MiB`: the largest binary unit that divides it. */
export function formatSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const factor = sizeUnits[unit] ?? 1;
    if (bytes !== 0 && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}

/** Inclusive limits of a quantity, in its base unit. */
export interface Bounds {
  readonly min?: number;
  readonly max?: number;
}

/** A length of time: `5s`, `500ms`, `2m`, `1h`, `7d`; numbers are milliseconds. Gives milliseconds. */
export function duration(bounds: Bounds = {}): z.ZodType<number, string | number> {
  return quantity("duration", "a duration such as 500ms, 5s or 2h", bounds, parseDuration, formatDuration);
}

/** An amount of data: `64MiB`, `1GB`; numbers are bytes. Gives bytes. */
export function size(bounds: Bounds = {}): z.ZodType<number, string | number> {
  return quantity("size", "a size such as 64KiB, 64MiB or 1GB", bounds, parseSize, formatSize);
}

function quantity(
  kind: ValueKind,
  expected: string,
  bounds: Bounds,
  parse: (value: string | number) => number | undefined,
  format: (value: number) => string,
): z.ZodType<number, string | number> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = bounds;
  return stringOrNumber(expected)
    .transform((value, context) => {
      const amount = parse(value);
      if (amount === undefined) return refuse(context, `is not ${expected}`);
      if (amount < min) return refuse(context, `is too small: at least ${format(min)}`);
      if (amount > max) return refuse(context, `is too large: at most ${format(max)}`);
      return amount;
    })
    .meta({ kind });
}

/** A TCP or UDP port, 0 to 65535; 0 = any free one. */
export function port(): z.ZodType<number, string | number> {
  return stringOrNumber("a port number")
    .transform((value, context) => {
      const text = String(value);
      const number = /^\d{1,5}$/.test(text) ? Number(text) : -1;
      return number >= 0 && number <= 65_535 ? number : refuse(context, "is not a port: use 0 to 65535");
    })
    .meta({ kind: "port" });
}

/** A host and a port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** `host:port` or `[v6]:port`; with a default port the port may be left out. undefined: neither. */
export function parseHostPort(text: string, defaultPort?: number): HostPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^\s:[\]/@]+))(?::(\d{1,5}))?$/.exec(text.trim());
  if (match === null) return undefined;
  const host = match[1] ?? match[2] ?? "";
  const number = match[3] === undefined ? defaultPort : Number(match[3]);
  return number === undefined || number > 65_535 ? undefined : { host, port: number };
}

/** The reverse of {@link parseHostPort}: IPv6 hosts in brackets. */
export function formatHostPort({ host, port: number }: HostPort): string {
  return host.includes(":") ? `[${host}]:${number}` : `${host}:${number}`;
}

/** An address `host:port`. */
export function hostPort(options: { readonly defaultPort?: number } = {}): z.ZodType<HostPort, string> {
  return z
    .string({ error: "is not an address: use host:port" })
    .transform((value, context) => {
      const parsed = parseHostPort(value, options.defaultPort);
      return parsed ?? refuse(context, "is not an address: use host:port, or [ipv6]:port");
    })
    .meta({ kind: "address" });
}

/** One or more addresses: a YAML list, or `a:1,b:2`. */
export function addressList(
  options: { readonly defaultPort?: number } = {},
): z.ZodType<readonly HostPort[], string | readonly string[]> {
  return z
    .custom<string | readonly string[]>(
      (value) =>
        typeof value === "string" || (Array.isArray(value) && value.every((one) => typeof one === "string")),
      "is not a list of addresses: use host:port,host:port",
    )
    .transform((value, context) => {
      const texts = typeof value === "string" ? value.split(",") : value;
      const parsed = texts.map((text) => parseHostPort(text, options.defaultPort));
      const wrong = texts.find((_, index) => parsed[index] === undefined);
      if (texts.length === 0 || wrong !== undefined) {
        return refuse(context, `${JSON.stringify(wrong ?? "")} is not an address: use host:port,host:port`);
      }
      return parsed.filter((one) => one !== undefined);
    })
    .meta({ kind: "address list" });
}

/** How a secret may be written: its text, or where to find it. */
export type SecretInput = string | { readonly file: string } | { readonly env: string };

/** Longest secret read from a file, in bytes. */
const secretFileBytesMax = 64 * 1024;

/**
 * A secret: by reference (`{file: path}`, `{env: NAME}`, `${file:path}`, `${env:NAME}`) or, discouraged, as text. Read when
 * the configuration is; a file's last line break is dropped. Gives a {@link Secret}, which never prints itself.
 */
export function secret(): z.ZodType<Secret, SecretInput> {
  return z
    .custom<SecretInput>(isSecretInput, "is not a secret: use {file: PATH}, {env: NAME} or text")
    .transform((value, context) => {
      const reference = typeof value === "string" ? (referenceOf(value) ?? value) : value;
      if (typeof reference === "string") return new Secret(reference);
      return "file" in reference
        ? readSecretFile(reference.file, context)
        : readSecretVariable(reference.env, context);
    })
    .meta({ kind: "secret" });
}

function isSecretInput(value: unknown): boolean {
  if (typeof value === "string") return true;
  if (typeof value !== "object" || value === null) return false;
  const entries = Object.entries(value);
  const [name, text] = entries[0] ?? [];
  return entries.length === 1 && (name === "file" || name === "env") && typeof text === "string";
}

function referenceOf(text: string): { readonly file: string } | { readonly env: string } | undefined {
  const match = /^\$\{(file|env):([^}]+)\}$/.exec(text);
  if (match === null) return undefined;
  return match[1] === "file" ? { file: match[2] ?? "" } : { env: match[2] ?? "" };
}

function readSecretFile(path: string, context: z.RefinementCtx): Secret {
  try {
    const bytes = readFileSync(path);
    if (bytes.length > secretFileBytesMax)
      return refuse(context, `names ${path}, which is larger than 64 KiB`);
    return new Secret(bytes.toString("utf8").replace(/\r?\n$/, ""), `file ${path}`);
  } catch (error) {
    return refuse(
      context,
      `names the file ${path}, which cannot be read (${errorCode(error) ?? "unknown error"})`,
    );
  }
}

function readSecretVariable(name: string, context: z.RefinementCtx): Secret {
  const text = process.env[name];
  if (text === undefined) return refuse(context, `names the environment variable ${name}, which is not set`);
  return new Secret(text, `environment variable ${name}`);
}

function stringOrNumber(expected: string): z.ZodType<string | number, string | number> {
  return z.custom<string | number>(
    (value) => typeof value === "string" || (typeof value === "number" && Number.isFinite(value)),
    `is not ${expected}`,
  );
}

function refuse(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}
