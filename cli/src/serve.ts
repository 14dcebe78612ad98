/**
 * Runs one service in this process: settings from file, environment and flags; log lines on stdout; the HTTP port;
 * a drain on SIGINT, SIGTERM and SIGHUP.
 */
import { AppError } from "@millrace/base";
import { loadConfig, printConfig, type z } from "@millrace/config";
import { letHeapGrow } from "@millrace/runtime";
import { createTelemetry, type HttpEndpoint, startHttp, type Telemetry } from "@millrace/telemetry";
import type { ServeOptions, ServiceName } from "./commands/serve.ts";
import { count, exitCode, Output } from "./output.ts";
import { version } from "./version.ts";

/** A service that runs. */
interface Served {
  /** Resolves with the error that ended its usefulness. */
  readonly failed?: Promise<AppError>;
  /** `--once`: resolves with the number of records delivered when everything there is was. */
  readonly deliverOnce?: (signal: AbortSignal) => Promise<number>;
  /** Drains and stops; says what did not stop well. */
  stop(): Promise<readonly AppError[]>;
}

/** How a service is configured and started. */
interface Servable<Schema extends z.ZodType> {
  readonly schema: Schema;
  readonly node: (config: z.output<Schema>) => string;
  readonly http: (config: z.output<Schema>) => { readonly host: string; readonly port: number };
  readonly start: (config: z.output<Schema>, telemetry: Telemetry) => Promise<Served>;
}

function servable<Schema extends z.ZodType>(parts: Servable<Schema>): Servable<z.ZodType> {
  return parts;
}

const services: Record<ServiceName, () => Promise<Servable<z.ZodType>>> = {
  agent: async () => {
    const { agentConfigSchema, agentOptions, startAgent } = await import("@millrace/service-agent");
    return servable({
      schema: agentConfigSchema,
      node: (config) => config.nodeId ?? config.name ?? "agent",
      http: (config) => ({ host: config.httpHost, port: config.httpPort }),
      start: async (config, telemetry) => {
        const agent = await startAgent({ ...agentOptions(config), version, telemetry });
        return {
          failed: agent.failed,
          stop: () => agent.stop(),
          deliverOnce: async (signal) => {
            await agent.finishAndDrain(signal);
            return agent.status().sinks.reduce((sum, { deliveredCount }) => sum + deliveredCount, 0);
          },
        };
      },
    });
  },
  connector: async () => {
    const { connectorConfigSchema, connectorOptions, startConnector } = await import(
      "@millrace/service-connector"
    );
    return servable({
      schema: connectorConfigSchema,
      node: (config) => config.nodeId ?? "connector",
      http: (config) => ({ host: config.httpHost, port: config.httpPort }),
      start: (config, telemetry) => startConnector({ ...connectorOptions(config), version, telemetry }),
    });
  },
  storage: async () => {
    const { storageConfigSchema, storageOptions, startStorage } = await import("@millrace/service-storage");
    return servable({
      schema: storageConfigSchema,
      node: (config) => config.nodeId ?? "storage",
      http: (config) => ({ host: config.httpHost, port: config.httpPort }),
      start: (config, telemetry) => startStorage({ ...storageOptions(config), version, telemetry }),
    });
  },
  metadata: async () => {
    const { metadataConfigSchema, metadataOptions, startMetadata } = await import(
      "@millrace/service-metadata"
    );
    return servable({
      schema: metadataConfigSchema,
      node: (config) => config.nodeId,
      http: (config) => ({ host: config.httpHost, port: config.httpPort }),
      start: async (config, telemetry) => {
        const service = await startMetadata({ ...metadataOptions(config), version, telemetry });
        return {
          stop: async () => {
            await service.stop();
            return [];
          },
        };
      },
    });
  },
};

/** Serves until a signal; `args` are the settings as flags. */
export async function serveService(
  name: ServiceName,
  options: ServeOptions,
  args: readonly string[],
): Promise<void> {
  const service = await services[name]();
  const loaded = loadConfig({
    schema: service.schema,
    name,
    file: options.config,
    env: process.env,
    envPrefix: `MILLRACE_${name.toUpperCase()}_`,
    flags: settingFlags(args),
  });
  if (options.printConfig === true) {
    process.stdout.write(printConfig(loaded));
    return;
  }
  letHeapGrow();
  const telemetry = createTelemetry({
    service: name,
    node: service.node(loaded.config),
    version,
    level: logLevel(options.logLevel),
  });
  await untilEnd(telemetry, service.http(loaded.config), options.once === true, () =>
    service.start(loaded.config, telemetry),
  );
}

async function untilEnd(
  telemetry: Telemetry,
  http: { readonly host: string; readonly port: number },
  isOnce: boolean,
  start: () => Promise<Served>,
): Promise<void> {
  const ended = Promise.withResolvers<NodeJS.Signals | AppError | "done">();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => ended.resolve(signal));
  let endpoint: HttpEndpoint | undefined;
  try {
    endpoint = await startHttp(telemetry, http);
    const service = await start();
    void service.failed?.then(ended.resolve);
    const stopping = new AbortController();
    const delivered = isOnce ? service.deliverOnce?.(stopping.signal) : undefined;
    delivered?.then(
      () => ended.resolve("done"),
      (error: unknown) => ended.resolve(AppError.from(error)),
    );
    const reason = await ended.promise;
    stopping.abort();
    if (delivered !== undefined && reason === "done")
      new Output().note(`${count(await delivered, "record")} delivered`);
    const failures = [...(reason instanceof AppError ? [reason] : []), ...(await service.stop())];
    for (const failure of failures) telemetry.log.error({ error: failure }, "The service did not end well.");
    if (failures.length > 0) process.exitCode = exitCode.failure;
  } finally {
    await endpoint?.close();
    await telemetry.close();
  }
}

const levels = ["error", "warn", "info", "debug"] as const;

function logLevel(text = "info"): (typeof levels)[number] {
  const level = levels.find((each) => each === text);
  if (level === undefined)
    throw new AppError("INVALID_CONFIG", `--log-level ${text}: use ${levels.join(", ")}`);
  return level;
}

/** `--a-b value`, `--a-b=value` and `--a-b` (true) by name; a name given twice is a list. */
export function settingFlags(args: readonly string[]): Record<string, string | readonly string[] | boolean> {
  const flags: Record<string, string | readonly string[] | boolean> = {};
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    const match = /^--([a-z][a-z0-9-]*)(?:=(.*))?$/s.exec(arg);
    if (match === null) {
      throw new AppError(
        "INVALID_CONFIG",
        `"${arg}" is no setting: use --NAME VALUE (--print-config lists the names)`,
      );
    }
    const [, name = "", inline] = match;
    const next = args[i + 1];
    const hasValue = inline === undefined && next !== undefined && !next.startsWith("--");
    const value = inline ?? (hasValue ? next : true);
    if (hasValue) i++;
    const before = flags[name];
    flags[name] = typeof before === "string" && typeof value === "string" ? [before, value] : value;
  }
  return flags;
}
