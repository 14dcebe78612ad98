/** From a connector's configuration to a sink type and its checked configuration. */
import { AppError, nearestName } from "@millrace/base";
import { components } from "@millrace/components";
import { describeProblems } from "@millrace/config";
import type { ComponentRegistry, SinkDefinition } from "@millrace/flow";

/** A sink type with a configuration that fits it. */
export interface ResolvedSink {
  readonly definition: SinkDefinition;
  readonly config: unknown;
}

/** Reads `{"type": ..., ...}`. Throws INVALID_CONFIG, naming the keys that are wrong and the likely meant ones. */
export async function resolveSink(
  registry: ComponentRegistry,
  connector: string,
  sinkConfigJson: string,
): Promise<ResolvedSink> {
  const { type, ...keys } = parse(connector, sinkConfigJson);
  if (typeof type !== "string") throw invalid(connector, ['the sink\'s "type" is missing']);
  const definition = await registry.sink(type);
  if (definition === undefined) {
    const near = nearestName(type, registry.types("sink"));
    const hint = near === undefined ? "" : `; did you mean ${near}?`;
    throw invalid(connector, [`there is no sink type "${type}"${hint}`]);
  }
  const parsed = definition.config.safeParse(keys);
  if (parsed.success) return { definition, config: parsed.data };
  throw invalid(
    connector,
    describeProblems(parsed.error, definition.config, keys, () => `sink ${definition.type}`),
  );
}

/** Checks a sink's configuration without starting anything: for `connector create`. Throws INVALID_CONFIG. */
export async function checkSinkConfig(connector: string, sinkConfigJson: string): Promise<void> {
  await resolveSink(components, connector, sinkConfigJson);
}

function parse(connector: string, json: string): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(json);
    if (typeof found === "object" && found !== null && !Array.isArray(found))
      return found as Record<string, unknown>;
  } catch (error) {
    throw invalid(connector, [`the sink's configuration is no JSON: ${String(error)}`]);
  }
  throw invalid(connector, ["the sink's configuration is no JSON object"]);
}

function invalid(connector: string, problems: readonly string[]): AppError {
  return new AppError("INVALID_CONFIG", problems.map((one) => `connector ${connector}: ${one}`).join("\n"), {
    metadata: { connector },
  });
}
