/** flume.conf into the raw form: `<agent>.<section>.<name>.<key> = value`, several agents a file. */
import { type Problems, suggestion } from "./problem.ts";
import { type Property, parseProperties } from "./properties.ts";
import type { RawComponent, RawGroup, RawPipeline, RawSink, RawSource } from "./raw.ts";
import { type Lookups, substitute } from "./substitute.ts";

const sections = ["sources", "channels", "sinks", "sinkgroups", "configfilters"] as const;
type Section = (typeof sections)[number];

/** Keys of one component: rest of the key after its name -> entry. */
type Keys = ReadonlyMap<string, Property>;

/**
 * Parses a file; problems of its syntax go to `problems`. A key that is of no agent is a variable for other values
 * (`${where.base}`); one that nothing refers to is a problem.
 */
export function parseFlume(text: string, problems: Problems, lookups: Lookups): RawPipeline[] {
  const byKey = new Map<string, Property>();
  for (const property of parseProperties(text)) {
    const before = byKey.get(property.key);
    if (before !== undefined) {
      problems.add({
        line: property.line,
        where: property.key,
        what: `is set again; it was set at line ${before.line} first`,
        isLenient: true,
      });
    }
    byKey.set(property.key, property);
  }
  const referred = new Set<string>();
  const key = (name: string): string | undefined => {
    referred.add(name);
    return byKey.get(name)?.value;
  };
  const names = agentNames(byKey);
  const agents = new Map<string, Map<string, Property>>();
  const others: Property[] = [];
  for (const property of byKey.values()) {
    const { line } = property;
    const dot = property.key.indexOf(".");
    if (dot <= 0 || !names.has(property.key.slice(0, dot))) {
      others.push(property);
      continue;
    }
    const value = substitute(property.value, { ...lookups, key }, (what) =>
      problems.add({ line, where: property.key, what, isLenient: true }),
    );
    const agent = property.key.slice(0, dot);
    const entries = agents.get(agent) ?? new Map<string, Property>();
    entries.set(property.key.slice(dot + 1), { ...property, value });
    agents.set(agent, entries);
  }
  for (const property of others) {
    if (referred.has(property.key)) continue;
    const what = "is of no agent and no value refers to it: use AGENT.SECTION.NAME.KEY = VALUE";
    problems.add({ line: property.line, where: property.key, what, isLenient: true });
  }
  return [...agents].map(([agent, entries]) => new AgentReader(agent, entries, problems).read());
}

/** What has one of the sections. */
function agentNames(keys: Iterable<readonly [string, Property]>): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [key] of keys) {
    const [agent = "", section] = key.split(".");
    if (sections.some((one) => one === section)) names.add(agent);
  }
  return names;
}

/** Reads the entries of one agent. */
class AgentReader {
  readonly #agent: string;
  readonly #problems: Problems;
  /** Section -> names in its list, with the line of the list. */
  readonly #lists = new Map<Section, { names: readonly string[]; line: number }>();
  /** Section -> name -> keys. */
  readonly #components = new Map<Section, Map<string, Map<string, Property>>>();
  readonly #line: number;

  constructor(agent: string, entries: ReadonlyMap<string, Property>, problems: Problems) {
    this.#agent = agent;
    this.#problems = problems;
    this.#line = Math.min(...[...entries.values()].map(({ line }) => line));
    for (const [key, property] of entries) this.#sort(key, property);
  }

  read(): RawPipeline {
    for (const name of this.#lists.get("configfilters")?.names ?? []) {
      this.#problems.add({
        line: this.#lists.get("configfilters")?.line ?? this.#line,
        where: `${this.#agent}.configfilters.${name}`,
        what: "config filters are not available yet: use ${env:NAME}, or {file: PATH} for secrets",
      });
    }
    return {
      agent: this.#agent,
      line: this.#line,
      channels: this.#listed("channels", (name, keys, line) => component(name, keys, line, ["type"])),
      sources: this.#listed("sources", (name, keys, line) => this.#source(name, keys, line)),
      sinks: this.#listed("sinks", (name, keys, line) => this.#sink(name, keys, line)),
      groups: this.#listed("sinkgroups", (name, keys, line) => this.#group(name, keys, line)),
    };
  }

  #sort(key: string, property: Property): void {
    const [sectionName = "", name, ...rest] = key.split(".");
    const section = sections.find((one) => one === sectionName);
    const { line, value } = property;
    if (section === undefined) {
      const what = `is no section${suggestion(sectionName, sections)}; known are ${sections.join(", ")}`;
      this.#problems.add({ line, where: `${this.#agent}.${sectionName}`, what, isLenient: true });
      return;
    }
    if (name === undefined) {
      if (value.includes(",")) {
        const what = "names are separated by spaces, not by commas";
        this.#problems.add({ line, where: property.key, what, isLenient: true });
      }
      const names = value.split(/[\s,]+/).filter((one) => one !== "");
      this.#lists.set(section, { names: [...new Set(names)], line });
      return;
    }
    if (value === "") {
      this.#problems.add({ line, where: property.key, what: "has no value", isLenient: true });
      return;
    }
    const components = this.#components.get(section) ?? new Map<string, Map<string, Property>>();
    const keys = components.get(name) ?? new Map<string, Property>();
    keys.set(rest.join("."), property);
    components.set(name, keys);
    this.#components.set(section, components);
  }

  /** The components that the section's list names; others are problems. */
  #listed<T>(section: Section, read: (name: string, keys: Keys, line: number) => T): T[] {
    const list = this.#lists.get(section);
    const components = this.#components.get(section) ?? new Map<string, Map<string, Property>>();
    for (const [name, keys] of components) {
      if (list?.names.includes(name) === true) continue;
      this.#problems.add({
        line: firstLine(keys, this.#line),
        where: `${section}.${name}`,
        what: `is not in the list ${this.#agent}.${section}${suggestion(name, list?.names ?? [])}`,
        isLenient: true,
      });
    }
    const empty: Keys = new Map();
    return (list?.names ?? []).map((name) => {
      const keys = components.get(name) ?? empty;
      return read(name, keys, firstLine(keys, list?.line ?? this.#line));
    });
  }

  #source(name: string, keys: Keys, line: number): RawSource {
    const selector = component("selector", under(keys, "selector"), keys.get("selector.type")?.line ?? line, [
      "type",
    ]);
    const chain = under(keys, "interceptors");
    const names = words(keys.get("interceptors")?.value);
    for (const [key, property] of chain) {
      const interceptor = key.split(".")[0] ?? "";
      if (names.includes(interceptor)) continue;
      this.#problems.add({
        line: property.line,
        where: `${name}.interceptors.${interceptor}`,
        what: `is not in the list of the source's interceptors${suggestion(interceptor, names)}`,
        isLenient: true,
      });
    }
    const interceptors = names.map((one) => {
      const own = under(chain, one);
      return component(one, own, firstLine(own, keys.get("interceptors")?.line ?? line), ["type"]);
    });
    return {
      ...component(name, keys, line, ["type", "channels", "interceptors", "interceptors.", "selector."]),
      channels: words(keys.get("channels")?.value),
      channelsLine: keys.get("channels")?.line ?? line,
      selector,
      interceptors,
    };
  }

  #sink(name: string, keys: Keys, line: number): RawSink {
    const channel = keys.get("channel");
    return {
      ...component(name, keys, line, ["type", "channel"]),
      channel: channel?.value,
      channelLine: channel?.line ?? line,
    };
  }

  #group(name: string, keys: Keys, line: number): RawGroup {
    for (const [key, property] of keys) {
      if (key === "sinks" || key.startsWith("processor.")) continue;
      this.#problems.add({
        line: property.line,
        where: `${name}.${key}`,
        what: `unknown key${suggestion(key, ["sinks", "processor.type"])}`,
        isLenient: true,
      });
    }
    return {
      name,
      line,
      sinks: words(keys.get("sinks")?.value),
      processor: component("processor", under(keys, "processor"), line, ["type"]),
    };
  }
}

function words(value: string | undefined): string[] {
  return (value ?? "").split(/\s+/).filter((word) => word !== "");
}

/** Entries below `prefix.`, without it. */
function under(keys: Keys, prefix: string): Map<string, Property> {
  const found = new Map<string, Property>();
  for (const [key, property] of keys) {
    if (key.startsWith(`${prefix}.`)) found.set(key.slice(prefix.length + 1), property);
  }
  return found;
}

function firstLine(keys: Keys, fallback: number): number {
  return keys.size === 0 ? fallback : Math.min(...[...keys.values()].map(({ line }) => line));
}

/** A component of these keys; `structural` ones (or prefixes ending in a dot) are not its own. */
function component(name: string, keys: Keys, line: number, structural: readonly string[]): RawComponent {
  const own = new Map<string, string>();
  for (const [key, { value }] of keys) {
    const isStructural = structural.some((one) => (one.endsWith(".") ? key.startsWith(one) : key === one));
    if (!isStructural) own.set(key, value);
  }
  const type = keys.get("type");
  return {
    name,
    line,
    type: type?.value,
    typeLine: type?.line ?? line,
    keys: { form: "flat", map: own },
    lineOf: (path) => lineOf(keys, path.map(String)) ?? type?.line ?? line,
  };
}

/** The line of the key that is most like the path: the schema's names may differ from Flume's by a prefix. */
function lineOf(keys: Keys, path: readonly string[]): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const dotted = path.slice(0, length).join(".");
    const exact = keys.get(dotted);
    if (exact !== undefined) return exact.line;
    const similar = [...keys].find(([key]) => key.endsWith(`.${dotted}`) || key.startsWith(`${dotted}.`));
    if (similar !== undefined) return similar[1].line;
  }
  return undefined;
}
