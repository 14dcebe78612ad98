/**
 * Log, metrics and readiness of one service. A root owns a registry and an output; children add bindings to the log
 * and share the rest.
 *
 * Data flow: `emit(declaration, fields)` -> counter (always) and log line (unless rate limited); counters therefore
 * stay true when lines are left out.
 */
import { AppError, invariant } from "@millrace/base";
import { type Clock, systemClock } from "@millrace/runtime";
import { type Logger as PinoLogger, pino } from "pino";
import {
  declareCounter,
  type EventDeclaration,
  type EventFields,
  type FieldValue,
  type Level,
} from "./declarations.ts";
import { type LogOutput, openLogFile, StandardOutput, silentOutput } from "./log-output.ts";
import { type Metrics, MetricsRegistry } from "./metrics.ts";
import { Readiness } from "./readiness.ts";

/** Fields of a log line. */
export type LogFields = Readonly<Record<string, FieldValue>>;

/** Log lines without a declaration: for what is neither counted nor documented. The message is a constant sentence. */
export interface Logger {
  error(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  debug(fields: LogFields, message: string): void;
}

/** What a service logs and measures with. */
export interface Telemetry {
  readonly service: string;
  readonly node: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly readiness: Readiness;
  /** The same root with fields that every line carries (`component`, `topic`, `partition`, `peer`, ...). */
  child(bindings: LogFields): Telemetry;
  /** Writes the event's line and raises its counter. */
  emit<Field extends string>(declaration: EventDeclaration<Field>, fields: EventFields<NoInfer<Field>>): void;
  /** Counts records that leave the path undelivered. Every drop anywhere is counted here, with its reason. */
  discarded(component: string, reason: string, records: number): void;
  /** Closes the output. Only the root does it; lines after it are left out. */
  close(): Promise<void>;
}

/** Records that left the path undelivered, by component and reason: 0 everywhere, or somebody can explain it. */
export const discardedTotal = declareCounter({
  name: "discarded_total",
  help: "Records that left the path without being delivered.",
  labels: ["component", "reason"],
});

/** Log lines that could not be written. */
export const logLinesLostTotal = declareCounter({
  name: "log_lines_lost_total",
  help: "Log lines that could not be written to their output.",
});

/** What {@link createTelemetry} takes. */
export interface TelemetryOptions {
  /** `metadata`, `storage`, `agent`, `connector`, `up`, ... */
  readonly service: string;
  /** Node id or name. */
  readonly node: string;
  readonly version?: string;
  /** Lowest level written; `info` when absent. */
  readonly level?: Level;
  /** Standard output when absent. */
  readonly destination?: "stdout" | "silent" | { readonly file: string };
  readonly clock?: Clock;
}

/** Rate limits kept at once, over all events; beyond it the oldest is forgotten (and its next line is written). */
const rateLimitsMax = 1000;

/** Makes a root. Throws INVALID_CONFIG when the log file cannot be opened. */
export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { service, node, clock = systemClock } = options;
  const output = openOutput(options.destination ?? "stdout");
  const logger = pino(
    {
      base: { service, node, ...(options.version === undefined ? {} : { version: options.version }) },
      level: options.destination === "silent" ? "silent" : (options.level ?? "info"),
      messageKey: "message",
      timestamp: () => `,"time":"${new Date(clock.nowMs()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    output,
  );
  const metrics = new MetricsRegistry({ service, node });
  metrics.observe(logLinesLostTotal, () => [{ labels: {}, value: output.lostLines }]);
  return new RootedTelemetry(
    { service, node, clock, metrics, output, readiness: new Readiness(), limits: new Map() },
    logger,
  );
}

function openOutput(destination: NonNullable<TelemetryOptions["destination"]>): LogOutput {
  if (destination === "silent") return silentOutput;
  if (destination === "stdout") return new StandardOutput();
  try {
    return openLogFile(destination.file);
  } catch (error) {
    throw new AppError(
      "INVALID_CONFIG",
      `the log file ${destination.file} cannot be opened: ${AppError.from(error).message}`,
      { cause: error },
    );
  }
}

interface Root {
  readonly service: string;
  readonly node: string;
  readonly clock: Clock;
  readonly metrics: MetricsRegistry;
  readonly readiness: Readiness;
  readonly output: LogOutput;
  /** Event and label values -> when its last line was written and how many were left out since. */
  readonly limits: Map<string, { lineMs: number; suppressedCount: number }>;
}

class RootedTelemetry implements Telemetry {
  readonly log: Logger;
  readonly #root: Root;
  readonly #pino: PinoLogger;

  constructor(root: Root, logger: PinoLogger) {
    this.#root = root;
    this.#pino = logger;
    this.log = {
      error: (fields, message) => this.#write("error", fields, message),
      warn: (fields, message) => this.#write("warn", fields, message),
      info: (fields, message) => this.#write("info", fields, message),
      debug: (fields, message) => this.#write("debug", fields, message),
    };
  }

  get service(): string {
    return this.#root.service;
  }

  get node(): string {
    return this.#root.node;
  }

  get metrics(): Metrics {
    return this.#root.metrics;
  }

  get readiness(): Readiness {
    return this.#root.readiness;
  }

  child(bindings: LogFields): Telemetry {
    return new RootedTelemetry(this.#root, this.#pino.child(printableFields(bindings)));
  }

  emit<Field extends string>(
    declaration: EventDeclaration<Field>,
    fields: EventFields<NoInfer<Field>>,
  ): void {
    const values: LogFields = fields;
    if (declaration.counter !== undefined) this.#count(declaration, values);
    const suppressedCount = this.#admit(declaration, values);
    if (suppressedCount === undefined) return;
    this.#write(
      declaration.level,
      { event: declaration.name, ...values, ...(suppressedCount > 0 ? { suppressedCount } : {}) },
      declaration.message,
    );
  }

  discarded(component: string, reason: string, records: number): void {
    invariant(records >= 0, "a number of discarded records is not negative");
    this.metrics.counter(discardedTotal).inc({ component, reason }, records);
  }

  close(): Promise<void> {
    this.#root.output.close();
    return Promise.resolve();
  }

  #count(declaration: EventDeclaration, fields: LogFields): void {
    const { counter, counterBy } = declaration;
    if (counter === undefined) return;
    const labels = Object.fromEntries(counter.labels.map((label) => [label, String(fields[label] ?? "")]));
    const count = counterBy === undefined ? 1 : Number(fields[counterBy] ?? 0);
    this.metrics.counter(counter).inc(labels, count);
  }

  /** How many lines were left out before this one, or undefined when this one is left out too. */
  #admit(declaration: EventDeclaration, fields: LogFields): number | undefined {
    if (declaration.rateLimitMs === 0) return 0;
    const { limits, clock } = this.#root;
    const labels = declaration.counter?.labels ?? [];
    const key = [declaration.name, ...labels.map((label) => String(fields[label] ?? ""))].join("\u0000");
    const nowMs = clock.monotonicMs();
    const limit = limits.get(key);
    if (limit !== undefined && nowMs - limit.lineMs < declaration.rateLimitMs) {
      limit.suppressedCount++;
      return undefined;
    }
    limits.delete(key);
    const oldest = limits.size >= rateLimitsMax ? limits.keys().next() : undefined;
    if (oldest?.done === false) limits.delete(oldest.value);
    limits.set(key, { lineMs: nowMs, suppressedCount: 0 });
    return limit?.suppressedCount ?? 0;
  }

  #write(level: Level, fields: LogFields, message: string): void {
    if (this.#pino.isLevelEnabled(level)) this.#pino[level](printableFields(fields), message);
  }
}

/** Fields as JSON can carry them. */
function printableFields(fields: LogFields): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, printableValue(value)]));
}

function printableValue(value: FieldValue): unknown {
  if (typeof value === "bigint") return value.toString();
  if (!(value instanceof Error)) return value;
  const cause = value.cause instanceof Error ? { cause: value.cause.message } : {};
  if (value instanceof AppError) {
    // Expected failures need no stack; those that wrap something unknown do.
    const stack = value.reason === "INTERNAL" ? { stack: value.stack } : {};
    return { reason: value.reason, message: value.message, metadata: value.metadata, ...cause, ...stack };
  }
  return { name: value.name, message: value.message, ...cause, stack: value.stack };
}
