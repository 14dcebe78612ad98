/** A YAML pipeline into the raw form. One agent a file. */
import { type PositionedData, parseYamlWithPositions } from "@millrace/config";
import { type Problems, suggestion } from "./problem.ts";
import type { ConfigPath, RawComponent, RawGroup, RawPipeline, RawSink, RawSource } from "./raw.ts";
import { type Lookups, substitute } from "./substitute.ts";

type Data = { readonly [key: string]: unknown };

const topKeys = ["agent", "sources", "channels", "sinks", "sinkGroups"];

/** Parses a file; problems of its shape go to `problems`. Throws INVALID_CONFIG for what is no YAML. */
export function parseYamlPipeline(
  text: string,
  file: string,
  problems: Problems,
  lookups: Lookups,
): RawPipeline {
  return new YamlReader(parseYamlWithPositions(text, file), problems, lookups).read();
}

class YamlReader {
  readonly #file: PositionedData;
  readonly #problems: Problems;
  readonly #lookups: Lookups;

  constructor(file: PositionedData, problems: Problems, lookups: Lookups) {
    this.#file = file;
    this.#problems = problems;
    this.#lookups = lookups;
  }

  read(): RawPipeline {
    const data = this.#map(this.#replaced(this.#file.data, []), []);
    this.#known(data, topKeys, []);
    const agent = this.#map(data["agent"], ["agent"]);
    this.#known(agent, ["name"], ["agent"]);
    const section = <T>(key: string, read: (name: string, data: Data, path: ConfigPath) => T): T[] =>
      Object.entries(this.#map(data[key], [key])).map(([name, one]) =>
        read(name, this.#map(one, [key, name]), [key, name]),
      );
    return {
      agent: agent["name"] === undefined ? "agent" : this.#text(agent["name"], ["agent", "name"]),
      line: this.#line(["agent", "name"]),
      channels: section("channels", (name, one, path) => this.#component(name, one, path, [])),
      sources: section("sources", (name, one, path) => this.#source(name, one, path)),
      sinks: section("sinks", (name, one, path) => this.#sink(name, one, path)),
      groups: section("sinkGroups", (name, one, path) => this.#group(name, one, path)),
    };
  }

  #source(name: string, data: Data, path: ConfigPath): RawSource {
    const list = data["interceptors"];
    if (list !== undefined && !Array.isArray(list)) this.#wrong([...path, "interceptors"], "is not a list");
    const interceptors = (Array.isArray(list) ? (list as readonly unknown[]) : []).map((one, index) => {
      const own = [...path, "interceptors", index];
      const shape = typeof one === "string" ? { type: one } : this.#map(one, own);
      const named = typeof shape["name"] === "string" ? shape["name"] : `${name}.interceptors.${index}`;
      return this.#component(named, shape, own, ["name"]);
    });
    const selector = data["selector"];
    const selectorPath = [...path, "selector"];
    const shape = typeof selector === "string" ? { type: selector } : this.#map(selector, selectorPath);
    return {
      ...this.#component(name, data, path, ["channels", "interceptors", "selector"]),
      channels: this.#names(data["channels"], [...path, "channels"]),
      channelsLine: this.#line([...path, "channels"]),
      selector: this.#component("selector", shape, selectorPath, []),
      interceptors,
    };
  }

  #sink(name: string, data: Data, path: ConfigPath): RawSink {
    const channel = data["channel"];
    return {
      ...this.#component(name, data, path, ["channel"]),
      channel: channel === undefined ? undefined : this.#text(channel, [...path, "channel"]),
      channelLine: this.#line([...path, "channel"]),
    };
  }

  #group(name: string, data: Data, path: ConfigPath): RawGroup {
    this.#known(data, ["sinks", "processor"], path);
    const processor = data["processor"];
    const processorPath = [...path, "processor"];
    const shape = typeof processor === "string" ? { type: processor } : this.#map(processor, processorPath);
    return {
      name,
      line: this.#line(path),
      sinks: this.#names(data["sinks"], [...path, "sinks"]),
      processor: this.#component("processor", shape, processorPath, []),
    };
  }

  #component(name: string, data: Data, path: ConfigPath, structural: readonly string[]): RawComponent {
    const own = Object.entries(data).filter(([key]) => key !== "type" && !structural.includes(key));
    const type = data["type"];
    return {
      name,
      line: this.#line(path),
      type: type === undefined ? undefined : this.#text(type, [...path, "type"]),
      typeLine: this.#line([...path, "type"]),
      keys: { form: "nested", data: Object.fromEntries(own) },
      lineOf: (inner) => this.#line([...path, ...inner]),
    };
  }

  #line(path: ConfigPath): number {
    return this.#file.positionOf(path);
  }

  #wrong(path: ConfigPath, what: string): void {
    this.#problems.add({ line: this.#line(path), where: path.map(String).join("."), what });
  }

  #known(data: Data, known: readonly string[], path: ConfigPath): void {
    for (const key of Object.keys(data)) {
      if (known.includes(key)) continue;
      this.#problems.add({
        line: this.#line([...path, key]),
        where: [...path, key].map(String).join("."),
        what: `unknown key${suggestion(key, known)}`,
        isLenient: true,
      });
    }
  }

  #map(data: unknown, path: ConfigPath): Data {
    if (data === undefined || data === null) return {};
    if (typeof data === "object" && !Array.isArray(data)) return data as Data;
    this.#wrong(path, "is not a map of keys");
    return {};
  }

  #text(data: unknown, path: ConfigPath): string {
    if (typeof data === "string" || typeof data === "number") return String(data);
    this.#wrong(path, "is not a text");
    return "";
  }

  #names(data: unknown, path: ConfigPath): string[] {
    if (data === undefined) return [];
    if (typeof data === "string") return data.split(/[\s,]+/).filter((name) => name !== "");
    if (Array.isArray(data)) return data.map((one, index) => this.#text(one, [...path, index]));
    this.#wrong(path, "is not a list of names");
    return [];
  }

  /** `data` with `${...}` in all its texts replaced. */
  #replaced(data: unknown, path: ConfigPath): unknown {
    if (typeof data === "string") {
      return substitute(data, this.#lookups, (what) => this.#wrong(path, what));
    }
    if (Array.isArray(data)) return data.map((one, index) => this.#replaced(one, [...path, index]));
    if (typeof data !== "object" || data === null) return data;
    return Object.fromEntries(
      Object.entries(data).map(([key, one]) => [key, this.#replaced(one, [...path, key])]),
    );
  }
}
