/**
 * The explicit list of component types. A component is loaded when a configuration names it, so what is not used
 * costs nothing at start. To add one: a folder with its definition, and one row here (docs/HACKING.md).
 *
 * A row repeats the names of its definition, because a name must be found without loading; a test compares them.
 */
import type {
  ComponentDefinition,
  ComponentRegistry,
  InterceptorDefinition,
  SinkDefinition,
  SourceDefinition,
} from "@millrace/flow";

interface Row<Definition extends ComponentDefinition> {
  /** The type, then its other names; any case. */
  readonly names: readonly string[];
  readonly load: () => Promise<Definition>;
}

type Names = readonly [string, ...string[]];

function row<Definition extends ComponentDefinition>(
  names: Names,
  load: () => Promise<Definition>,
): Row<Definition> {
  return { names, load };
}

/** Sources. */
export const sources: readonly Row<SourceDefinition>[] = [
  row(
    ["taildir", "org.apache.flume.source.taildir.TaildirSource"],
    async () => (await import("./taildir/index.ts")).taildirSource,
  ),
  row(["netcat"], async () => (await import("./netcat/index.ts")).netcatSource),
  row(
    ["http", "org.apache.flume.source.http.HTTPSource"],
    async () => (await import("./http/index.ts")).httpSource,
  ),
  row(["seq"], async () => (await import("./seq/index.ts")).seqSource),
  row(["ingest"], async () => (await import("./ingest/index.ts")).ingestSource),
];

/** Sinks. */
export const sinks: readonly Row<SinkDefinition>[] = [
  row(
    ["file", "file_roll", "org.apache.flume.sink.RollingFileSink"],
    async () => (await import("./file/index.ts")).fileSink,
  ),
  row(["millrace"], async () => (await import("./millrace/index.ts")).millraceSink),
  row(["agent"], async () => (await import("./agent/index.ts")).agentSink),
  row(["logger"], async () => (await import("./logger/index.ts")).loggerSink),
  row(["null"], async () => (await import("./null/index.ts")).nullSink),
];

/** Interceptors. */
export const interceptors: readonly Row<InterceptorDefinition>[] = [
  row(
    ["timestamp", "org.apache.flume.interceptor.TimestampInterceptor$Builder"],
    async () => (await import("./basic-interceptors/index.ts")).timestampInterceptor,
  ),
  row(
    ["host", "org.apache.flume.interceptor.HostInterceptor$Builder"],
    async () => (await import("./basic-interceptors/index.ts")).hostInterceptor,
  ),
  row(
    ["static", "org.apache.flume.interceptor.StaticInterceptor$Builder"],
    async () => (await import("./basic-interceptors/index.ts")).staticInterceptor,
  ),
];

const rows = { source: sources, sink: sinks, interceptor: interceptors };

function find<Definition extends ComponentDefinition>(
  among: readonly Row<Definition>[],
  type: string,
): Promise<Definition | undefined> {
  const wanted = type.toLowerCase();
  const found = among.find(({ names }) => names.some((name) => name.toLowerCase() === wanted));
  return found === undefined ? Promise.resolve(undefined) : found.load();
}

/** Every component type of this build. */
export const components: ComponentRegistry = {
  types: (kind) => rows[kind].map(({ names }) => names[0] as string).sort(),
  source: (type) => find(sources, type),
  sink: (type) => find(sinks, type),
  interceptor: (type) => find(interceptors, type),
};
