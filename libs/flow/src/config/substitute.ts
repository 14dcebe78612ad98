/**
 * `${...}` in values: `${env:X}`, `${env:X:-default}`, `${sys:x}` and, in flume.conf, `${some.key}` of another key.
 * Inner ones first, so `${a${sys:b}}` works. `${file:...}` is left to secrets. Depth and length are bounded.
 */

/** Where values come from. */
export interface Lookups {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What Flume gets by -Dx=y. */
  readonly sys: Readonly<Record<string, string | undefined>>;
  /** Value of another key of the file, unresolved. */
  readonly key?: (name: string) => string | undefined;
}

const stepsMax = 1_000;
const lengthMax = 1_048_576;

/** The value with everything replaced; `onProblem` hears of what cannot be, which stays as it is. */
export function substitute(value: string, lookups: Lookups, onProblem: (text: string) => void): string {
  let text = value;
  const unresolved = new Set<string>();
  for (let step = 0; step < stepsMax; step++) {
    const found = [...text.matchAll(/\$\{([^${}]*)\}/g)].find(([whole]) => !unresolved.has(whole));
    if (found === undefined) return text;
    const [whole, inner = ""] = found;
    const replacement = lookUp(inner, lookups);
    if (replacement === undefined || replacement.includes(whole)) {
      unresolved.add(whole);
      if (!inner.startsWith("file:")) onProblem(`${whole} ${reasonFor(inner, replacement)}`);
      continue;
    }
    text = text.slice(0, found.index) + replacement + text.slice(found.index + whole.length);
    if (text.length > lengthMax) break;
  }
  onProblem(`it does not come to an end when its \${...} are replaced`);
  return value;
}

function lookUp(inner: string, { env, sys, key }: Lookups): string | undefined {
  const [name, fallback] = splitDefault(inner);
  const separator = name.indexOf(":");
  const kind = separator < 0 ? "" : name.slice(0, separator);
  const rest = name.slice(separator + 1);
  let found: string | undefined;
  if (kind === "env") found = own(env, rest);
  else if (kind === "sys") found = own(sys, rest);
  else if (kind === "") found = key?.(name);
  return found ?? fallback;
}

function splitDefault(inner: string): [string, string | undefined] {
  const at = inner.indexOf(":-");
  return at < 0 ? [inner, undefined] : [inner.slice(0, at), inner.slice(at + 2)];
}

function own(record: Readonly<Record<string, string | undefined>>, name: string): string | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

function reasonFor(inner: string, replacement: string | undefined): string {
  if (replacement !== undefined) return "refers to itself";
  if (inner.startsWith("env:")) return "is not set in the environment";
  if (inner.startsWith("sys:")) return "is not set (-D NAME=VALUE)";
  return inner.includes(":")
    ? "is a look-up that is not known here: use env: or sys:"
    : "names no key of this file";
}
