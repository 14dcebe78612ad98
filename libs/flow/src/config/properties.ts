/**
 * Java properties as flume.conf uses them: comments (# and !), `=`, `:` or space as separator, escapes, \uXXXX, lines
 * continued by a backslash. Bytes are read as UTF-8. Keys and values are trimmed, as Flume does.
 */

/** One entry. */
export interface Property {
  readonly key: string;
  readonly value: string;
  /** Line of its key, from 1. */
  readonly line: number;
}

/** All entries in order; a key set twice is there twice. */
export function parseProperties(text: string): Property[] {
  const properties: Property[] = [];
  const lines = text.split(/\r\n|\n|\r/);
  for (let index = 0; index < lines.length; index++) {
    const line = index + 1;
    let logical = (lines[index] as string).replace(/^[ \t\f]+/, "");
    if (logical === "" || logical.startsWith("#") || logical.startsWith("!")) continue;
    while (isContinued(logical)) {
      index++;
      logical = logical.slice(0, -1) + (lines[index] ?? "").replace(/^[ \t\f]+/, "");
      if (index >= lines.length) break;
    }
    const { key, value } = splitEntry(logical);
    properties.push({ key: unescape(key).trim(), value: unescape(value).trim(), line });
  }
  return properties;
}

/** True when the line ends in an odd number of backslashes. */
function isContinued(line: string): boolean {
  const backslashes = /\\*$/.exec(line)?.[0].length ?? 0;
  return backslashes % 2 === 1;
}

/** The key ends at the first separator that is not escaped. */
function splitEntry(line: string): { key: string; value: string } {
  let at = 0;
  while (at < line.length && !/[=: \t\f]/.test(line[at] as string)) at += line[at] === "\\" ? 2 : 1;
  const separator = /^[ \t\f]*[=:]?[ \t\f]*/.exec(line.slice(at))?.[0] ?? "";
  return { key: line.slice(0, at), value: line.slice(at + separator.length) };
}

const controls: Readonly<Record<string, string>> = { t: "\t", n: "\n", r: "\r", f: "\f" };

function unescape(text: string): string {
  return text.replace(/\\(u[0-9a-fA-F]{4}|.|$)/g, (_, escaped: string) => {
    if (escaped.length === 5) return String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
    return controls[escaped] ?? escaped;
  });
}
