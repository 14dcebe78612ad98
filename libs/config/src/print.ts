/** Shows configuration: the effective values (`--print-config`) and the reference page. Secrets are never shown. */
import { stringify } from "yaml";
import type { z } from "zod";
import type { LoadedConfig } from "./load.ts";
import { environmentName, formatValue, type Setting, settingsOf, typeName, valueAt } from "./schema.ts";
import { Secret } from "./secret.ts";

/** One line a setting: `key: value  # where it came from`. The values alone are valid in a file. */
export function printConfig(loaded: LoadedConfig<unknown>): string {
  const lines = loaded.settings.map((setting) => {
    const value = valueAt(loaded.config, setting.path);
    const source = loaded.sources.get(setting.key) ?? "default";
    const shown =
      value instanceof Secret
        ? `${value.toString()}  # ${source}, ${value.origin}`
        : `${shownValue(value, setting)}  # ${source}`;
    return { path: setting.path, text: shown };
  });
  return nested(lines);
}

/** Indents settings under their groups, as the file does. */
function nested(lines: readonly { readonly path: readonly string[]; readonly text: string }[]): string {
  let group: readonly string[] = [];
  let output = "";
  for (const { path, text } of lines) {
    const own = path.slice(0, -1);
    for (const [depth, name] of own.entries()) {
      if (group[depth] === name && group.length >= depth + 1) continue;
      output += `${"  ".repeat(depth)}${name}:\n`;
      group = own.slice(0, depth + 1);
    }
    group = own;
    output += `${"  ".repeat(own.length)}${path.at(-1) ?? ""}: ${text}\n`;
  }
  return output;
}

function shownValue(value: unknown, setting: Setting): string {
  if (value === undefined) return "";
  if (setting.kind === "address list" || setting.kind === "address") return formatAddresses(value);
  return formatValue(value, setting.kind);
}

function formatAddresses(value: unknown): string {
  const all = (Array.isArray(value) ? value : [value]) as readonly {
    readonly host: string;
    readonly port: number;
  }[];
  return all
    .map(({ host, port }) => (host.includes(":") ? `"[${host}]:${port}"` : `${host}:${port}`))
    .join(",");
}

/** A Markdown section with a table of all settings. */
export function renderReference(
  schema: z.ZodType,
  title: string,
  options: { readonly envPrefix?: string } = {},
): string {
  const { envPrefix } = options;
  const rows = settingsOf(schema).map((setting) => {
    const names =
      envPrefix === undefined
        ? [`\`${setting.key}\``]
        : [`\`${setting.key}\``, `\`--${setting.flag}\``, `\`${environmentName(envPrefix, setting)}\``];
    return [...names, setting.kind ?? typeName(setting.schema), shownDefault(setting), setting.description];
  });
  const headers =
    envPrefix === undefined
      ? ["Key", "Type", "Default", "What it does"]
      : ["Key", "Flag", "Environment", "Type", "Default", "What it does"];
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll(/\s*\n\s*/g, " ")).join(" | ")} |`;
  return `## ${title}\n\n${[line(headers), line(headers.map(() => "---")), ...rows.map(line)].join("\n")}\n`;
}

function shownDefault(setting: Setting): string {
  if (setting.isRequired) return "**required**";
  const value = setting.default;
  if (value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) return "";
  return `\`${formatValue(value, setting.kind)}\``;
}

/** Any plain data as YAML: for output that people read and programs parse. */
export function formatYaml(value: unknown): string {
  return stringify(value);
}
