/** One component's keys by its schema, with every problem placed. */
import type { z } from "@millrace/config";
import type { Problems } from "./problem.ts";
import { suggestion } from "./problem.ts";
import type { ConfigPath, RawComponent } from "./raw.ts";
import { keysAt, splitAtDots, typed } from "./schema-tools.ts";

/** The parsed configuration; undefined when it is wrong. With `--flume-compat` unknown keys are left out. */
export function parseConfig(
  raw: RawComponent,
  schema: z.ZodType,
  fromFlume: ((keys: ReadonlyMap<string, string>) => { readonly [key: string]: unknown }) | undefined,
  problems: Problems,
): unknown {
  const { keys } = raw;
  const data =
    keys.form === "flat" ? typed((fromFlume ?? splitAtDots)(keys.map), schema) : structuredClone(keys.data);
  const parsed = schema.safeParse(data);
  if (parsed.success) return parsed.data;
  const place = (path: ConfigPath): { line: number; where: string } => ({
    line: raw.lineOf(path),
    where: [raw.name, ...path.map(String)].join("."),
  });
  let isOnlyUnknown = true;
  for (const issue of parsed.error.issues) {
    if (issue.code === "unrecognized_keys") {
      const known = keysAt(schema, issue.path);
      for (const key of issue.keys) {
        const path = [...issue.path, key];
        problems.add({ ...place(path), what: `unknown key${suggestion(key, known)}`, isLenient: true });
        removeAt(data, path);
      }
      continue;
    }
    isOnlyUnknown = false;
    const isMissing = valueAt(data, issue.path) === undefined;
    problems.add({ ...place(issue.path), what: isMissing ? "is required" : whatIsWrong(issue, data) });
  }
  if (!isOnlyUnknown) return undefined;
  const again = schema.safeParse(data);
  return again.success ? again.data : undefined;
}

function whatIsWrong(issue: z.core.$ZodIssue, data: unknown): string {
  // messages of our own value types go on after the key; zod's are sentences of their own
  if (/^(is|names) /.test(issue.message)) return issue.message;
  const text = issue.message.replace(/^Invalid input: /, "");
  const value = valueAt(data, issue.path);
  // what was written says more than its type
  const isOfWrongType = issue.code === "invalid_type" && typeof value === "string";
  return `is wrong: ${isOfWrongType ? text.replace(/received \w+$/, `received "${value}"`) : text}`;
}

function valueAt(data: unknown, path: ConfigPath): unknown {
  let at = data;
  for (const step of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Readonly<Record<PropertyKey, unknown>>)[step];
  }
  return at;
}

function removeAt(data: unknown, path: ConfigPath): void {
  const parent = valueAt(data, path.slice(0, -1));
  const key = path.at(-1);
  if (typeof parent === "object" && parent !== null && key !== undefined) Reflect.deleteProperty(parent, key);
}
