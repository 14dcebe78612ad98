/** Walks a zod object schema: its settings with their names in file, environment and flags. */
import { invariant } from "@millrace/base";
import { stringify } from "yaml";
import { z } from "zod";
import { formatDuration, formatSize, type ValueKind } from "./values.ts";

/** One setting. */
export interface Setting {
  readonly path: readonly string[];
  /** Dotted path: the key in a file. */
  readonly key: string;
  /** Flag without dashes: `listen-port`. */
  readonly flag: string;
  /** The schema inside defaults and options. */
  readonly schema: z.ZodType;
  readonly kind: ValueKind | undefined;
  readonly description: string;
  readonly isRequired: boolean;
  /** The default as given to the schema; undefined when there is none. */
  readonly default: unknown;
}

/** A schema taken out of its wrappers, with what they said. */
export interface Unwrapped {
  readonly schema: z.ZodType;
  readonly default: unknown;
  readonly isOptional: boolean;
  readonly kind: ValueKind | undefined;
  readonly description: string;
}

/** All settings of a schema, in order; nested objects are walked, lists and maps are one setting. */
export function settingsOf(schema: z.ZodType): readonly Setting[] {
  const settings = walk(schema, []);
  const flags = new Set(settings.map((setting) => setting.flag));
  invariant(flags.size === settings.length, "no two settings have the same flag");
  return settings;
}

function walk(schema: z.ZodType, path: readonly string[]): Setting[] {
  const found = unwrap(schema);
  if (found.schema instanceof z.ZodObject) {
    return Object.entries(shapeOf(found.schema)).flatMap(([key, child]) => walk(child, [...path, key]));
  }
  return [
    {
      path,
      key: path.join("."),
      flag: path.map(kebab).join("-"),
      schema: found.schema,
      kind: found.kind,
      description: found.description,
      isRequired: !found.isOptional && found.default === undefined,
      default: found.default,
    },
  ];
}

/** Takes defaults, options, transforms and refinements off. */
export function unwrap(schema: z.ZodType): Unwrapped {
  let at = schema;
  let fallback: unknown;
  let isOptional = false;
  let meta: { readonly kind?: ValueKind; readonly description?: string } = {};
  for (;;) {
    meta = { ...(at.meta() as typeof meta | undefined), ...meta };
    if (at instanceof z.ZodDefault || at instanceof z.ZodPrefault) {
      fallback ??= at.def.defaultValue;
      at = at.def.innerType as z.ZodType;
    } else if (at instanceof z.ZodOptional || at instanceof z.ZodNullable) {
      isOptional = true;
      at = at.def.innerType as z.ZodType;
    } else if (at instanceof z.ZodPipe && !(at.def.in instanceof z.ZodTransform)) {
      at = at.def.in as z.ZodType;
    } else {
      return {
        schema: at,
        default: fallback,
        isOptional,
        kind: meta.kind,
        description: meta.description ?? "",
      };
    }
  }
}

/** Keys known at a path of a schema: for suggestions. */
export function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at = unwrap(schema).schema;
  for (const step of path) {
    if (at instanceof z.ZodObject) at = unwrap(shapeOf(at)[String(step)] ?? z.any()).schema;
    else if (at instanceof z.ZodRecord) at = unwrap(at.def.valueType as z.ZodType).schema;
    else if (at instanceof z.ZodArray) at = unwrap(at.def.element as z.ZodType).schema;
  }
  return at instanceof z.ZodObject ? Object.keys(shapeOf(at)) : [];
}

function shapeOf(schema: z.ZodObject): Readonly<Record<string, z.ZodType>> {
  return schema.shape;
}

/** `listen-port` under `MILLRACE_STORAGE_` -> `MILLRACE_STORAGE_LISTEN_PORT`. */
export function environmentName(prefix: string, setting: Setting): string {
  return `${prefix}${setting.flag.replaceAll("-", "_").toUpperCase()}`;
}

function kebab(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase();
}

/** What a setting takes, in a word or two. */
export function typeName(schema: z.ZodType): string {
  const found = unwrap(schema);
  if (found.kind !== undefined) return found.kind;
  const inner = found.schema;
  if (inner instanceof z.ZodEnum) return inner.options.map((option) => `\`${option}\``).join(", ");
  if (inner instanceof z.ZodLiteral)
    return [...inner.values].map((value) => `\`${String(value)}\``).join(", ");
  if (inner instanceof z.ZodArray) return `list of ${typeName(inner.def.element as z.ZodType)}`;
  if (inner instanceof z.ZodRecord) return "map";
  if (inner instanceof z.ZodNumber) return inner.format === "safeint" ? "whole number" : "number";
  if (inner instanceof z.ZodBoolean) return "`true`, `false`";
  return "text";
}

/** A value as a person would write it in the file. */
export function formatValue(value: unknown, kind: ValueKind | undefined): string {
  if (value === undefined) return "";
  if (kind === "duration" && typeof value === "number") return formatDuration(value);
  if (kind === "size" && typeof value === "number") return formatSize(value);
  return typeof value === "string" && !value.includes("\n")
    ? stringify(value, { lineWidth: 0 }).trimEnd()
    : JSON.stringify(value);
}

/** The value at a path of plain data; undefined where there is none. Own properties only. */
export function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  let at = data;
  for (const step of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Readonly<Record<PropertyKey, unknown>>)[step];
  }
  return at;
}
