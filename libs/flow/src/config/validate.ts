/**
 * From the raw form to a sound pipeline: types, keys, and how components hang together. Every problem is found at once,
 * each with its line and, where a name is near, what was probably meant.
 */
import { createHash } from "node:crypto";
import { AppError, checkName } from "@millrace/base";
import { type ChannelDefinition, channelDefinition, channelDefinitions } from "../channel/definitions.ts";
import type { ComponentRegistry } from "../contract.ts";
import { flumeTypesToCome, processorsToCome, selectorsToCome } from "./flume-types.ts";
import { parseConfig } from "./parse-config.ts";
import type {
  ChannelConfig,
  InterceptorConfig,
  PipelineConfig,
  SinkConfig,
  SourceConfig,
} from "./pipeline-config.ts";
import { type Problems, suggestion } from "./problem.ts";
import type { RawComponent, RawPipeline, RawSink, RawSource } from "./raw.ts";

/** Records per transaction of a component that says nothing about it. */
const batchSizeDefault = 1_000;

/** Checks a pipeline. Problems go to `problems`; the result is sound only if there are none. */
export async function validatePipeline(
  raw: RawPipeline,
  file: string,
  registry: ComponentRegistry,
  problems: Problems,
): Promise<PipelineConfig> {
  return new Validator(raw, registry, problems).validate(file);
}

type Kind = "source" | "sink" | "interceptor" | "channel";

class Validator {
  readonly #raw: RawPipeline;
  readonly #registry: ComponentRegistry;
  readonly #problems: Problems;
  readonly #channels = new Map<string, ChannelConfig>();

  constructor(raw: RawPipeline, registry: ComponentRegistry, problems: Problems) {
    this.#raw = raw;
    this.#registry = registry;
    this.#problems = problems;
  }

  async validate(file: string): Promise<PipelineConfig> {
    const raw = this.#raw;
    this.#checkNames();
    if (raw.sources.length === 0 && raw.sinks.length === 0) {
      this.#problems.add({ line: raw.line, where: raw.agent, what: "has no sources and no sinks" });
    }
    for (const channel of raw.channels) this.#channel(channel);
    const sources: SourceConfig[] = [];
    for (const source of raw.sources) sources.push(...(await this.#source(source)));
    const sinks: SinkConfig[] = [];
    for (const sink of raw.sinks) sinks.push(...(await this.#sink(sink)));
    this.#checkSharing(sinks);
    this.#checkUse();
    this.#checkGroups();
    return {
      agent: raw.agent,
      file,
      sources,
      channels: [...this.#channels.values()],
      sinks,
      warnings: this.#problems.warnings,
    };
  }

  #checkNames(): void {
    const { agent, line, sources, channels, sinks } = this.#raw;
    const check = (kind: string, name: string, at: number): void => {
      try {
        checkName(kind, name);
      } catch (error) {
        this.#problems.add({ line: at, where: name, what: AppError.from(error).message });
      }
    };
    check("agent", agent, line);
    for (const one of sources) check("source", one.name, one.line);
    for (const one of channels) check("channel", one.name, one.line);
    for (const one of sinks) check("sink", one.name, one.line);
    const components = [...sources, ...sinks];
    for (const one of components) {
      const first = components.find(({ name }) => name === one.name) as RawComponent;
      if (first === one) continue;
      const what = `a source of line ${first.line} has this name too: their figures and dead letters would mix`;
      this.#problems.add({ line: one.line, where: one.name, what });
    }
  }

  #channel(raw: RawComponent): void {
    const definition = raw.type === undefined ? undefined : channelDefinition(raw.type);
    if (definition === undefined) {
      const known = channelDefinitions.map(({ type }) => type);
      this.#unknownType("channel", raw, known);
      return;
    }
    const config = parseConfig(raw, definition.config, undefined, this.#problems);
    if (config === undefined) return;
    this.#warnIgnored(raw, definition);
    const settings = definition.read(config);
    const { records, transactionRecords } = settings.limits;
    if (transactionRecords > records) {
      this.#problems.add({
        line: raw.lineOf(["transactionCapacity"]),
        where: `${raw.name}.transactionCapacity`,
        what: `is ${transactionRecords}, more than the channel's capacity ${records}`,
      });
    }
    this.#channels.set(raw.name, { name: raw.name, settings });
  }

  #warnIgnored(raw: RawComponent, { withoutMeaning }: ChannelDefinition): void {
    for (const [key, reason] of Object.entries(withoutMeaning)) {
      const isGiven = raw.keys.form === "flat" ? raw.keys.map.has(key) : Object.hasOwn(raw.keys.data, key);
      if (!isGiven) continue;
      this.#problems.warn({
        line: raw.lineOf([key]),
        where: `${raw.name}.${key}`,
        what: `has no meaning here: ${reason}`,
      });
    }
  }

  async #source(raw: RawSource): Promise<SourceConfig[]> {
    const channels = this.#channelsOf(raw);
    const optional = this.#selector(raw, channels);
    const interceptors = await this.#interceptors(raw);
    const definition = raw.type === undefined ? undefined : await this.#registry.source(raw.type);
    if (definition === undefined) {
      this.#unknownType("source", raw, this.#registry.types("source"));
      return [];
    }
    const config = parseConfig(raw, definition.config, definition.fromFlume, this.#problems);
    const required = channels.filter((name) => !optional.includes(name));
    if (config === undefined || required.length === 0) return [];
    const batchSize = this.#batchSize(raw, config, required);
    return [{ name: raw.name, definition, config, required, optional, interceptors, batchSize }];
  }

  #channelsOf(raw: RawSource): string[] {
    if (raw.channels.length === 0) {
      this.#problems.add({
        line: raw.channelsLine,
        where: `${raw.name}.channels`,
        what: "is required: name at least one channel",
      });
    }
    const known = this.#raw.channels.map(({ name }) => name);
    return [...new Set(raw.channels)].filter((name) => {
      if (known.includes(name)) return this.#channels.has(name);
      const what = `there is no channel "${name}"${suggestion(name, known)}`;
      this.#problems.add({ line: raw.channelsLine, where: `${raw.name}.channels`, what });
      return false;
    });
  }

  /** The optional channels. */
  #selector(raw: RawSource, channels: readonly string[]): string[] {
    const { selector, name } = raw;
    const type = (selector.type ?? "replicating").toLowerCase();
    if (type !== "replicating") {
      const isToCome = selectorsToCome.includes(type);
      const what = isToCome
        ? `"${type}" is not available yet; only replicating is`
        : `there is no selector "${type}"${suggestion(type, ["replicating", ...selectorsToCome])}`;
      this.#problems.add({ line: selector.typeLine, where: `${name}.selector.type`, what });
      return [];
    }
    const optional: string[] = [];
    const entries: [string, unknown][] =
      selector.keys.form === "flat" ? [...selector.keys.map] : Object.entries(selector.keys.data);
    for (const [key, value] of entries) {
      const line = selector.lineOf([key]);
      const where = `${name}.selector.${key}`;
      if (key === "optional") optional.push(...namesIn(value));
      else {
        const what = `unknown key${suggestion(key, ["optional", "type"])}`;
        this.#problems.add({ line, where, what, isLenient: true });
      }
    }
    const where = `${name}.selector.optional`;
    const line = selector.lineOf(["optional"]);
    for (const one of optional) {
      if (raw.channels.includes(one)) continue;
      const what = `"${one}" is none of the source's channels${suggestion(one, raw.channels)}`;
      this.#problems.add({ line, where, what });
    }
    if (channels.length > 0 && channels.every((one) => optional.includes(one))) {
      this.#problems.add({ line, where, what: "leaves no channel that must take every record" });
    }
    return optional.filter((one) => channels.includes(one));
  }

  async #interceptors(raw: RawSource): Promise<InterceptorConfig[]> {
    const interceptors: InterceptorConfig[] = [];
    for (const one of raw.interceptors) {
      const definition = one.type === undefined ? undefined : await this.#registry.interceptor(one.type);
      if (definition === undefined) {
        this.#unknownType("interceptor", one, this.#registry.types("interceptor"));
        continue;
      }
      const config = parseConfig(one, definition.config, definition.fromFlume, this.#problems);
      if (config !== undefined) interceptors.push({ name: one.name, definition, config });
    }
    return interceptors;
  }

  async #sink(raw: RawSink): Promise<SinkConfig[]> {
    const channel = this.#channelOf(raw);
    const definition = raw.type === undefined ? undefined : await this.#registry.sink(raw.type);
    if (definition === undefined) {
      this.#unknownType("sink", raw, this.#registry.types("sink"));
      return [];
    }
    const config = parseConfig(raw, definition.config, definition.fromFlume, this.#problems);
    if (config === undefined || channel === undefined) return [];
    const batchSize = this.#batchSize(raw, config, [channel]);
    const isShared = this.#raw.sinks.filter((other) => other.channel === channel).length > 1;
    const configHash = hashOf(raw);
    return [{ name: raw.name, definition, config, channel, batchSize, configHash, isShared }];
  }

  #channelOf(raw: RawSink): string | undefined {
    const where = `${raw.name}.channel`;
    const line = raw.channelLine;
    if (raw.channel === undefined || raw.channel === "") {
      const several = raw.keys.form === "flat" ? raw.keys.map.has("channels") : "channels" in raw.keys.data;
      const hint = several ? ' (a sink has one "channel", not "channels")' : "";
      this.#problems.add({ line, where, what: `is required: name the channel the sink takes from${hint}` });
      return undefined;
    }
    const known = this.#raw.channels.map(({ name }) => name);
    if (!known.includes(raw.channel)) {
      const what = `there is no channel "${raw.channel}"${suggestion(raw.channel, known)}`;
      this.#problems.add({ line, where, what });
      return undefined;
    }
    return this.#channels.has(raw.channel) ? raw.channel : undefined;
  }

  /** A6: sinks that take from one channel in turn have to be made for it. */
  #checkSharing(sinks: readonly SinkConfig[]): void {
    for (const sink of sinks) {
      if (!sink.isShared || sink.definition.canShare) continue;
      const others = this.#raw.sinks.filter(
        ({ name, channel }) => name !== sink.name && channel === sink.channel,
      );
      const raw = this.#raw.sinks.find(({ name }) => name === sink.name) as RawSink;
      this.#problems.add({
        line: raw.channelLine,
        where: `${sink.name}.channel`,
        what: `a sink of type ${sink.definition.type} cannot share channel ${sink.channel} with ${others.map(({ name }) => name).join(", ")}: give each sink a channel of its own, both in the source's list`,
      });
    }
  }

  #checkUse(): void {
    const { sources, sinks, channels } = this.#raw;
    for (const { name, line } of channels) {
      const hasSource = sources.some((source) => source.channels.includes(name));
      const hasSink = sinks.some((sink) => sink.channel === name);
      if (!hasSource && !hasSink) {
        this.#problems.add({
          line,
          where: name,
          what: "no source and no sink uses this channel",
          isLenient: true,
        });
      } else if (!hasSink) {
        this.#problems.warn({
          line,
          where: name,
          what: "no sink takes from this channel: it fills up, then its sources wait",
        });
      } else if (!hasSource) {
        this.#problems.warn({
          line,
          where: name,
          what: "no source puts into this channel: only what it holds is delivered",
        });
      }
    }
  }

  #checkGroups(): void {
    const { groups, sinks } = this.#raw;
    const known = sinks.map(({ name }) => name);
    for (const group of groups) {
      const type = (group.processor.type ?? "default").toLowerCase();
      const where = `${group.name}.processor.type`;
      const line = group.processor.typeLine;
      if (processorsToCome.includes(type)) {
        this.#problems.add({ line, where, what: `"${type}" is not available yet; only default is` });
      } else if (type !== "default") {
        const what = `there is no processor "${type}"${suggestion(type, ["default", ...processorsToCome])}`;
        this.#problems.add({ line, where, what });
      } else if (group.sinks.length !== 1) {
        const what = `the default processor has exactly one sink, this group has ${group.sinks.length}`;
        this.#problems.add({ line: group.line, where: group.name, what });
      }
      for (const name of group.sinks) {
        if (known.includes(name)) continue;
        const what = `there is no sink "${name}"${suggestion(name, known)}`;
        this.#problems.add({ line: group.line, where: `${group.name}.sinks`, what });
      }
    }
  }

  /** Records per transaction: what is configured, checked against the channels; a default is made to fit. */
  #batchSize(raw: RawComponent, config: unknown, channels: readonly string[]): number {
    const limit = Math.min(
      ...channels.map(
        (name) => this.#channels.get(name)?.settings.limits.transactionRecords ?? batchSizeDefault,
      ),
    );
    const configured = batchSizeIn(config);
    const key = givenBatchKey(raw);
    if (configured !== undefined && key !== undefined && configured > limit) {
      this.#problems.add({
        line: raw.lineOf(key.split(".")),
        where: `${raw.name}.${key}`,
        what: `is ${configured}, more than the transactionCapacity ${limit} of its channel`,
      });
    }
    return Math.min(configured ?? batchSizeDefault, limit);
  }

  #unknownType(kind: Kind, raw: RawComponent, known: readonly string[]): void {
    const where = `${raw.name}.type`;
    if (raw.type === undefined || raw.type === "") {
      this.#problems.add({ line: raw.line, where, what: `is required: one of ${known.join(", ")}` });
      return;
    }
    const wanted = raw.type.toLowerCase();
    const isToCome = flumeTypesToCome[kind].some((type) => type.toLowerCase() === wanted);
    const what = isToCome
      ? `Flume's ${kind} "${raw.type}" is not available yet; available are ${known.join(", ")}`
      : `there is no ${kind} type "${raw.type}"${suggestion(raw.type, known) || `; available are ${known.join(", ")}`}`;
    this.#problems.add({ line: raw.typeLine, where, what });
  }
}

function namesIn(value: unknown): string[] {
  const texts = Array.isArray(value) ? value.map(String) : String(value).split(/[\s,]+/);
  return texts.filter((name) => name !== "");
}

/** What Flume's components call it. */
const batchKeys = ["batchSize", "batch-size", "sink.batchSize", "hdfs.batchSize"];

function batchSizeIn(config: unknown): number | undefined {
  const own = config as { readonly [key: string]: unknown };
  const found = own["batchSize"] ?? own["batch-size"];
  return typeof found === "number" ? found : undefined;
}

function givenBatchKey(raw: RawComponent): string | undefined {
  const { keys } = raw;
  return batchKeys.find((key) => (keys.form === "flat" ? keys.map.has(key) : Object.hasOwn(keys.data, key)));
}

function hashOf(raw: RawComponent): string {
  const keys = raw.keys.form === "flat" ? Object.fromEntries(raw.keys.map) : raw.keys.data;
  return createHash("sha256")
    .update(JSON.stringify([raw.type?.toLowerCase(), sorted(keys)]))
    .digest("base64url");
}

/** The same data with its keys in order, so that a reordered file is the same configuration. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, one]) => [key, sorted(one)]);
}
