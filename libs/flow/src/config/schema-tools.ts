/** Looks into zod schemas: known keys for suggestions, types for the texts of flume.conf, rows for reference pages. */
import { z } from "@millrace/config";

/** A schema without defaults, options, transforms and refinements. */
export function unwrap(schema: z.ZodType): z.ZodType {
  let at = schema;
  for (;;) {
    if (at instanceof z.ZodDefault || at instanceof z.ZodPrefault) at = at.def.innerType as z.ZodType;
    else if (at instanceof z.ZodOptional || at instanceof z.ZodNullable) at = at.def.innerType as z.ZodType;
    else if (at instanceof z.ZodPipe && !(at.def.in instanceof z.ZodTransform)) at = at.def.in as z.ZodType;
    else return at;
  }
}

/** Schemas of the keys of an object schema; empty for others. */
export function shapeOf(schema: z.ZodType): Readonly<Record<string, z.ZodType>> {
  const inner = unwrap(schema);
  return inner instanceof z.ZodObject ? inner.shape : {};
}

/** Keys known at a path. */
export function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at = schema;
  for (const step of path) {
    const inner = unwrap(at);
    if (inner instanceof z.ZodRecord) at = inner.def.valueType as z.ZodType;
    else if (inner instanceof z.ZodArray) at = inner.def.element as z.ZodType;
    else at = shapeOf(at)[String(step)] ?? z.unknown();
  }
  return Object.keys(shapeOf(at));
}

/** Texts as the schema's numbers, booleans and lists where it wants such; what does not fit is left for it to refuse. */
export function typed(value: unknown, schema: z.ZodType): unknown {
  const inner = unwrap(schema);
  if (typeof value === "string") return typedText(value, inner);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value);
  if (inner instanceof z.ZodObject) {
    const shape = shapeOf(inner);
    return record(entries.map(([key, one]) => [key, typed(one, shape[key] ?? z.unknown())]));
  }
  if (inner instanceof z.ZodRecord) {
    const element = inner.def.valueType as z.ZodType;
    return record(entries.map(([key, one]) => [key, typed(one, element)]));
  }
  return value;
}

function typedText(text: string, schema: z.ZodType): unknown {
  if (schema instanceof z.ZodNumber) return /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
  if (schema instanceof z.ZodBoolean) {
    if (/^true$/i.test(text)) return true;
    return /^false$/i.test(text) ? false : text;
  }
  if (schema instanceof z.ZodArray) {
    const element = schema.def.element as z.ZodType;
    return text
      .split(/[\s,]+/)
      .filter((one) => one !== "")
      .map((one) => typed(one, element));
  }
  if (schema instanceof z.ZodEnum) {
    // Flume's names are in capitals as often as not
    return schema.options.find((option) => String(option).toLowerCase() === text.toLowerCase()) ?? text;
  }
  return text;
}

/** Flat keys as nested objects, split at dots. */
export function splitAtDots(keys: ReadonlyMap<string, string>): { [key: string]: unknown } {
  const root = record([]);
  for (const [key, value] of keys) {
    const path = key.split(".");
    const last = path.pop() ?? "";
    let at = root;
    for (const step of path) {
      const next = at[step];
      // `filegroups = f1` beside `filegroups.f1 = x`: the list only repeats the names
      if (typeof next !== "object" || next === null) at[step] = record([]);
      at = at[step] as { [key: string]: unknown };
    }
    if (typeof at[last] !== "object") at[last] = value;
  }
  return root;
}

/** A plain object without a prototype that keys could reach. */
function record(entries: readonly (readonly [string, unknown])[]): { [key: string]: unknown } {
  const made = Object.create(null) as { [key: string]: unknown };
  for (const [key, value] of entries) made[key] = value;
  return made;
}
