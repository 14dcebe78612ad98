/**
 * The configuration of a service: file < environment < flag, strict.
 *
 * One setting has three names: `listen.port` in a YAML file (camelCase, nested), `MILLRACE_STORAGE_LISTEN_PORT` in the
 * environment, `--listen-port` as a flag. Whatever is wrong is reported at once, one line a problem, each with its
 * place and, for an unknown name, the likely meant one.
 */
import { readFileSync } from "node:fs";
import { AppError, nearestName } from "@millrace/base";
import { errorCode } from "@millrace/runtime";
import { z } from "zod";
import { environmentName, keysAt, type Setting, settingsOf, valueAt } from "./schema.ts";
import { type ConfigPath, type PositionedData, parseYamlWithPositions } from "./yaml.ts";

/** What {@link loadConfig} takes. */
export interface LoadOptions<Schema extends z.ZodType> {
  /** A strict object of settings. */
  readonly schema: Schema;
  /** Name of what is configured, for messages: `storage`. */
  readonly name: string;
  /** Path of a YAML file. */
  readonly file?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** `MILLRACE_STORAGE_`. Variables below it that name no setting are errors. */
  readonly envPrefix: string;
  /** Flags by name without dashes (`listen-port`); undefined ones were not given. Unknown ones are errors. */
  readonly flags?: Readonly<Record<string, string | readonly string[] | boolean | undefined>>;
}

/** A configuration, and where each value came from. */
export interface LoadedConfig<Config> {
  readonly config: Config;
  /** By dotted key: `flag --x`, `environment X`, `FILE:line` or `default`. */
  readonly sources: ReadonlyMap<string, string>;
  readonly settings: readonly Setting[];
}

/** Loads and checks. Throws one INVALID_CONFIG with a line for every problem. */
export function loadConfig<Schema extends z.ZodType>(
  options: LoadOptions<Schema>,
): LoadedConfig<z.output<Schema>> {
  const settings = settingsOf(options.schema);
  const file = options.file === undefined ? undefined : readConfigFile(options.file);
  const raw = file?.data === undefined ? {} : file.data;
  const sources = new Map<string, string>();
  const problems = [...unknownVariables(options, settings), ...unknownFlags(options, settings)];
  for (const setting of settings) {
    const given = overrideOf(options, setting);
    if (given !== undefined) {
      setAt(raw, setting.path, given.value);
      sources.set(setting.key, given.source);
    } else if (hasAt(raw, setting.path)) {
      sources.set(setting.key, `${options.file ?? ""}:${file?.positionOf(setting.path) ?? 1}`);
    } else {
      sources.set(setting.key, "default");
    }
  }
  const place = (path: ConfigPath): string => placeOf(path, sources, options, file);
  const parsed = options.schema.safeParse(raw);
  if (!parsed.success) problems.push(...describeProblems(parsed.error, options.schema, raw, place));
  if (problems.length > 0 || !parsed.success) throw new AppError("INVALID_CONFIG", problems.join("\n"));
  return { config: parsed.data, sources, settings };
}

/**
 * One line for each problem zod found in `data`: place, key, what is wrong, and for unknown keys the likely meant one.
 * For other forms of configuration (pipelines) too, which bring their own places.
 */
export function describeProblems(
  error: z.ZodError,
  schema: z.ZodType,
  data: unknown,
  place: (path: ConfigPath) => string,
): string[] {
  return error.issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") {
      const known = keysAt(schema, issue.path);
      return issue.keys.map((key) => {
        const path = [...issue.path, key];
        return `${place(path)}: unknown key ${dotted(path)}${suggestion(key, known)}`;
      });
    }
    const key = issue.path.length === 0 ? "" : `${dotted(issue.path)} `;
    return [
      `${place(issue.path)}: ${key}${valueAt(data, issue.path) === undefined ? "is required" : whatIsWrong(issue)}`,
    ];
  });
}

function whatIsWrong(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_union" && issue.errors.length > 0) {
    const all = issue.errors.flatMap((branch) => branch.map((one) => one.message));
    if (all.length > 0) return `is wrong: ${[...new Set(all)].join(", or ")}`;
  }
  // Our own messages go on after the key; zod's are sentences of their own.
  return /^(is|names) /.test(issue.message) ? issue.message : `is wrong: ${issue.message}`;
}

function suggestion(name: string, known: Iterable<string>): string {
  const meant = nearestName(name, known);
  return meant === undefined ? "" : `; did you mean ${meant}?`;
}

function dotted(path: ConfigPath): string {
  return path.map(String).join(".");
}

function readConfigFile(path: string): PositionedData {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new AppError("INVALID_CONFIG", `${path}: cannot be read (${errorCode(error) ?? String(error)})`, {
      cause: error,
    });
  }
  return parseYamlWithPositions(text, path);
}

function overrideOf(
  options: LoadOptions<z.ZodType>,
  setting: Setting,
): { readonly value: unknown; readonly source: string } | undefined {
  const flag = options.flags?.[setting.flag];
  if (flag !== undefined) return { value: typed(flag, setting), source: `flag --${setting.flag}` };
  const name = environmentName(options.envPrefix, setting);
  const variable = options.env?.[name];
  return variable === undefined
    ? undefined
    : { value: typed(variable, setting), source: `environment ${name}` };
}

/** Text from a flag or variable as the kind of value the schema wants; what does not fit is left for the schema to refuse. */
function typed(given: string | readonly string[] | boolean, setting: Setting): unknown {
  if (typeof given === "boolean") return given;
  if (setting.schema instanceof z.ZodArray) {
    const texts = typeof given === "string" ? given.split(",") : given;
    return texts.map((text) => text.trim()).filter((text) => text !== "");
  }
  if (typeof given !== "string") return setting.kind === "address list" ? given : given.at(-1);
  if (setting.schema instanceof z.ZodNumber && /^-?\d+(\.\d+)?$/.test(given)) return Number(given);
  if (setting.schema instanceof z.ZodBoolean) return booleans.get(given.toLowerCase()) ?? given;
  return given;
}

const booleans: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["yes", true],
  ["on", true],
  ["1", true],
  ["false", false],
  ["no", false],
  ["off", false],
  ["0", false],
]);

function unknownVariables(options: LoadOptions<z.ZodType>, settings: readonly Setting[]): string[] {
  const known = settings.map((setting) => environmentName(options.envPrefix, setting));
  return Object.keys(options.env ?? {})
    .filter((name) => name.startsWith(options.envPrefix) && !known.includes(name))
    .map((name) => `environment ${name}: ${options.name} has no such setting${suggestion(name, known)}`);
}

function unknownFlags(options: LoadOptions<z.ZodType>, settings: readonly Setting[]): string[] {
  const known = settings.map((setting) => setting.flag);
  return Object.entries(options.flags ?? {})
    .filter(([name, value]) => value !== undefined && !known.includes(name))
    .map(([name]) => {
      const meant = nearestName(name, known);
      return `flag --${name}: ${options.name} has no such setting${meant === undefined ? "" : `; did you mean --${meant}?`}`;
    });
}

function placeOf(
  path: ConfigPath,
  sources: ReadonlyMap<string, string>,
  options: LoadOptions<z.ZodType>,
  file: PositionedData | undefined,
): string {
  // An issue may lie inside a setting (an element of a list): the setting's source is the place.
  for (let length = path.length; length > 0; length--) {
    const source = sources.get(dotted(path.slice(0, length)));
    if (source !== undefined && (source.startsWith("flag ") || source.startsWith("environment ")))
      return source;
  }
  return file === undefined ? options.name : `${options.file ?? ""}:${file.positionOf(path)}`;
}

function hasAt(data: unknown, path: readonly string[]): boolean {
  return valueAt(data, path) !== undefined;
}

/** Sets a value at a path of known keys, making the objects on the way; a scalar in the way is left to the schema. */
function setAt(data: unknown, path: readonly string[], value: unknown): void {
  let at = data;
  for (const step of path.slice(0, -1)) {
    if (!isObject(at)) return;
    if (!Object.hasOwn(at, step)) at[step] = {};
    at = at[step];
  }
  if (isObject(at)) at[path.at(-1) ?? ""] = value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
