/** Loads a pipeline from flume.conf or YAML: the one entry for `agent run`, `validate` and `graph`. */
import { readFile } from "node:fs/promises";
import { AppError } from "@millrace/base";
import { errorCode } from "@millrace/runtime";
import type { ComponentRegistry } from "../contract.ts";
import { parseFlume } from "./flume-form.ts";
import type { PipelineConfig } from "./pipeline-config.ts";
import { Problems, suggestion } from "./problem.ts";
import type { RawPipeline } from "./raw.ts";
import type { Lookups } from "./substitute.ts";
import { validatePipeline } from "./validate.ts";
import { parseYamlPipeline } from "./yaml-form.ts";

/** How a file is read. */
export interface PipelineOptions {
  readonly registry: ComponentRegistry;
  /** `-n`: which agent of the file; the only one when absent. */
  readonly agent?: string;
  /** `--flume-compat`: unknown keys and the like are warnings. */
  readonly isFlumeCompat?: boolean;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** `-D NAME=VALUE`, for `${sys:NAME}`. */
  readonly sys?: Readonly<Record<string, string | undefined>>;
}

/** Reads and checks a file. Throws INVALID_CONFIG with a line for every problem. */
export async function loadPipeline(path: string, options: PipelineOptions): Promise<PipelineConfig> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new AppError("INVALID_CONFIG", `${path}: cannot be read (${errorCode(error) ?? String(error)})`, {
      cause: error,
    });
  }
  return parsePipeline(text, path, options);
}

/** {@link loadPipeline} of a text; `file` names it in messages, and its ending tells the form. */
export async function parsePipeline(
  text: string,
  file: string,
  options: PipelineOptions,
): Promise<PipelineConfig> {
  const problems = new Problems(file, options.isFlumeCompat ?? false);
  const lookups: Lookups = { env: options.env ?? process.env, sys: options.sys ?? {} };
  const pipelines = isYaml(text, file)
    ? [parseYamlPipeline(text, file, problems, lookups)]
    : parseFlume(text, problems, lookups);
  const raw = pick(pipelines, options.agent, problems);
  if (raw === undefined) {
    problems.throwIfAny();
    throw new AppError("INVALID_CONFIG", `${file}:1: there is no agent in it`);
  }
  const config = await validatePipeline(raw, file, options.registry, problems);
  problems.throwIfAny();
  return config;
}

/** By the name's ending; without a telling one, by the look of the first line. */
function isYaml(text: string, file: string): boolean {
  if (/\.ya?ml$/i.test(file)) return true;
  if (/\.(conf|properties)$/i.test(file)) return false;
  const first = text.split(/\r?\n/).find((line) => line.trim() !== "" && !line.trim().startsWith("#"));
  return first !== undefined && /^[A-Za-z]+:\s*(\{.*)?$/.test(first);
}

function pick(
  pipelines: readonly RawPipeline[],
  agent: string | undefined,
  problems: Problems,
): RawPipeline | undefined {
  const names = pipelines.map((one) => one.agent);
  if (agent === undefined) {
    if (pipelines.length > 1) {
      const what = `holds ${pipelines.length} agents: choose one of ${names.join(", ")} with -n`;
      problems.add({ line: 1, where: "", what });
      return undefined;
    }
    return pipelines[0];
  }
  const found = pipelines.find((one) => one.agent === agent);
  if (found === undefined && names.length > 0) {
    const what = `there is no agent "${agent}"${suggestion(agent, names) || `; there are ${names.join(", ")}`}`;
    problems.add({ line: 1, where: "", what });
  }
  return found;
}
