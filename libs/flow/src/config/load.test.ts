/**
 * Pipelines from both syntaxes, data-driven: testdata/*.txt holds cases of
 *
 *   === title [| option=value ...]       options: agent, compat, env.X, sys.X
 *   text of the file
 *   ---
 *   what comes of it: problems and warnings, or the pipeline
 *
 * UPDATE_TESTDATA=1 writes what comes of it; commit the difference only if you understand it.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { afterAll, describe, expect, it } from "vitest";
import { TestWorld } from "../testing/components.ts";
import { graphMermaid, graphText } from "./graph.ts";
import { loadPipeline, type PipelineOptions, parsePipeline } from "./load.ts";
import type { PipelineConfig } from "./pipeline-config.ts";

interface Case {
  readonly head: string;
  readonly text: string;
  readonly expected: string;
}

const folder = join(import.meta.dirname, "testdata");
const isUpdating = process.env["UPDATE_TESTDATA"] === "1";

function readCases(file: string): Case[] {
  return readFileSync(join(folder, file), "utf8")
    .split(/^=== /m)
    .slice(1)
    .map((part) => {
      const head = part.slice(0, part.indexOf("\n"));
      const [text = "", expected = ""] = part.slice(head.length + 1).split(/^---\n/m);
      return { head, text, expected: expected.trim() };
    });
}

function optionsOf(head: string): PipelineOptions {
  const words = (head.split("|")[1] ?? "").trim().split(/\s+/);
  const values = new Map(words.map((word) => word.split("=") as [string, string]));
  const under = (prefix: string): Record<string, string> =>
    Object.fromEntries(
      [...values]
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, value]) => [key.slice(prefix.length), value]),
    );
  const agent = values.get("agent");
  return {
    registry: new TestWorld().registry,
    env: under("env."),
    sys: under("sys."),
    isFlumeCompat: values.has("compat"),
    ...(agent === undefined ? {} : { agent }),
  };
}

async function outcome(one: Case, file: string): Promise<string> {
  try {
    return describePipeline(await parsePipeline(one.text, file, optionsOf(one.head)));
  } catch (error) {
    if (error instanceof AppError && error.reason === "INVALID_CONFIG") return error.message;
    throw error;
  }
}

function describePipeline(pipeline: PipelineConfig): string {
  const lines = [...pipeline.warnings.map((warning) => `warning: ${warning}`), graphText(pipeline).trim()];
  for (const { name, config, batchSize, interceptors } of pipeline.sources) {
    lines.push(`${name} ${JSON.stringify(config)} batch ${batchSize}`);
    for (const one of interceptors) lines.push(`${name} ${one.name} ${JSON.stringify(one.config)}`);
  }
  for (const { name, settings } of pipeline.channels) {
    const { records, transactionRecords, bytes, keepAliveMs } = settings.limits;
    lines.push(
      `${name} ${records} records, ${transactionRecords} a put, ${bytes} bytes, waits ${keepAliveMs} ms`,
    );
  }
  for (const { name, config, isShared } of pipeline.sinks) {
    lines.push(`${name} ${JSON.stringify(config)}${isShared ? " shared" : ""}`);
  }
  return lines.join("\n");
}

describe.each(readdirSync(folder).filter((file) => file.endsWith(".txt")))("%s", (file) => {
  const cases = readCases(file);
  const name = file.replace(/\.txt$/, "");
  const parts: string[] = [];
  it.each(cases)("$head", async (one) => {
    const found = await outcome(one, name);
    parts.push(`=== ${one.head}\n${one.text}---\n${found}\n\n`);
    if (!isUpdating) expect(found).toBe(one.expected);
  });

  afterAll(() => {
    if (!isUpdating) return;
    const preamble = readFileSync(join(folder, file), "utf8").split(/^=== /m)[0] ?? "";
    writeFileSync(join(folder, file), `${preamble}${parts.join("").trimEnd()}\n`);
  });
});

describe("pipeline files", () => {
  it("a file that is not there is one clear problem", async () => {
    const registry = new TestWorld().registry;
    await expect(loadPipeline("/nowhere/a.conf", { registry })).rejects.toMatchObject({
      reason: "INVALID_CONFIG",
      message: "/nowhere/a.conf: cannot be read (ENOENT)",
    });
  });

  it("a configuration's hash does not depend on the order of its keys (A5)", async () => {
    const registry = new TestWorld().registry;
    const yaml = (sink: string) => `
sources: { r1: { type: list, channels: c1 } }
channels: { c1: { type: file } }
sinks: { k1: { type: list, channel: c1, ${sink} } }`;
    const hash = async (sink: string) =>
      (await parsePipeline(yaml(sink), "a.yaml", { registry })).sinks[0]?.configHash;
    expect(await hash("to: x, batchSize: 3")).toBe(await hash("batchSize: 3, to: x"));
    expect(await hash("to: x, batchSize: 3")).not.toBe(await hash("to: x, batchSize: 4"));
  });

  it("is drawn as a Mermaid flow chart", async () => {
    const registry = new TestWorld().registry;
    const yaml = `
sources: { r.1: { type: list, channels: [c1, c2], selector: { optional: c2 }, interceptors: [drop] } }
channels: { c1: { type: file }, c2: { type: memory } }
sinks: { k1: { type: list, channel: c1 } }`;
    expect(graphMermaid(await parsePipeline(yaml, "a.yaml", { registry }))).toBe(`flowchart LR
  source_r_2e_1["r.1: list<br/>drop"]
  channel_c1[("c1: file")]
  channel_c2[("c2: memory")]
  sink_k1["k1: list"]
  source_r_2e_1 --> channel_c1
  source_r_2e_1 -.-> channel_c2
  channel_c1 --> sink_k1
`);
  });
});
