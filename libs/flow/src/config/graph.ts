/** A pipeline as a picture: lines of text, or a Mermaid flow chart. */
import type { PipelineConfig, SourceConfig } from "./pipeline-config.ts";

/** One line per way from a source through a channel to a sink. */
export function graphText(pipeline: PipelineConfig): string {
  const lines: string[] = [`agent ${pipeline.agent}`];
  for (const channel of pipeline.channels) {
    const sinks = pipeline.sinks.filter((sink) => sink.channel === channel.name);
    const to = sinks.map((sink) => `${sink.name} (${sink.definition.type})`).join(", ") || "nothing";
    const sources = pipeline.sources.filter((source) => channelsOf(source).includes(channel.name));
    const from =
      sources.length === 0 ? ["nothing"] : sources.map((source) => sourceText(source, channel.name));
    for (const one of from) lines.push(`  ${one} -> ${channel.name} (${channel.settings.type}) -> ${to}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Mermaid's `flowchart LR`. */
export function graphMermaid(pipeline: PipelineConfig): string {
  const lines = ["flowchart LR"];
  for (const { name, definition, interceptors } of pipeline.sources) {
    const chain = interceptors.map((one) => `<br/>${one.definition.type}`).join("");
    lines.push(`  source_${id(name)}["${name}: ${definition.type}${chain}"]`);
  }
  for (const { name, settings } of pipeline.channels) {
    lines.push(`  channel_${id(name)}[("${name}: ${settings.type}")]`);
  }
  for (const { name, definition } of pipeline.sinks)
    lines.push(`  sink_${id(name)}["${name}: ${definition.type}"]`);
  for (const source of pipeline.sources) {
    for (const channel of source.required)
      lines.push(`  source_${id(source.name)} --> channel_${id(channel)}`);
    for (const channel of source.optional)
      lines.push(`  source_${id(source.name)} -.-> channel_${id(channel)}`);
  }
  for (const sink of pipeline.sinks) lines.push(`  channel_${id(sink.channel)} --> sink_${id(sink.name)}`);
  return `${lines.join("\n")}\n`;
}

function channelsOf(source: SourceConfig): string[] {
  return [...source.required, ...source.optional];
}

function sourceText(source: SourceConfig, channel: string): string {
  const chain = source.interceptors.map(({ definition }) => ` -> ${definition.type}`).join("");
  const optional = source.optional.includes(channel) ? " (optional)" : "";
  return `${source.name} (${source.definition.type})${chain}${optional}`;
}

/** Names may hold dots and dashes, which Mermaid's ids may not. */
function id(name: string): string {
  return name.replace(/[^A-Za-z0-9]/g, (c) => `_${c.charCodeAt(0).toString(16)}_`);
}
