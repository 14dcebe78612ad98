/**
 * What is logged and measured, declared once. A declaration gives a typed call, the log line, the metric and the entry
 * in docs/reference/telemetry.md.
 *
 * Declarations are made at module level and kept in one list; a name declared twice with a different meaning is a bug
 * that stops the process at import. Labels are part of the declaration: that bounds how many series can exist.
 */
import { invariant } from "@millrace/base";

/** Severity. error: data at risk or an operator must act. warn: unexpected, recovered. info: lifecycle. debug: per request. */
export type Level = "error" | "warn" | "info" | "debug";

/** What a log field may hold. `undefined` is left out of the line; an Error becomes {reason, message, stack}. */
export type FieldValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | Error
  | readonly (string | number)[];

/** Values of a declaration's labels. Numbers are printed. */
export type LabelValues<Label extends string> = Readonly<Record<Label, string | number>>;

/** A counter: grows, never falls. Its name ends in `_total`. */
export interface CounterDeclaration<Label extends string = string> {
  readonly kind: "counter";
  /** Full name with the `millrace_` prefix. */
  readonly name: string;
  readonly help: string;
  readonly labels: readonly Label[];
}

/** A gauge: a value that goes up and down. */
export interface GaugeDeclaration<Label extends string = string> {
  readonly kind: "gauge";
  readonly name: string;
  readonly help: string;
  readonly labels: readonly Label[];
}

/** A histogram with fixed upper bounds of its buckets, in the unit of its name. */
export interface HistogramDeclaration<Label extends string = string> {
  readonly kind: "histogram";
  readonly name: string;
  readonly help: string;
  readonly labels: readonly Label[];
  readonly buckets: readonly number[];
}

/** Any metric. */
export type MetricDeclaration<Label extends string = string> =
  | CounterDeclaration<Label>
  | GaugeDeclaration<Label>
  | HistogramDeclaration<Label>;

/** An event: one log line and, when it names one, one counter. */
export interface EventDeclaration<Field extends string = string> {
  readonly kind: "event";
  readonly name: string;
  readonly level: Level;
  /** A constant sentence; everything variable is a field. */
  readonly message: string;
  /** Field name -> what it is, with its unit. */
  readonly fields: Readonly<Record<Field, string>>;
  readonly counter: CounterDeclaration<Field> | undefined;
  /** Field whose number the counter grows by; 1 when absent. */
  readonly counterBy: Field | undefined;
  /** At most one line per label values in this time; the next line says how many were left out. 0 = every one. */
  readonly rateLimitMs: number;
}

/** Values of an event's fields. */
export type EventFields<Field extends string> = Readonly<Record<Field, FieldValue>>;

/** What {@link declareEvent} takes. */
export interface EventSpecification<Field extends string, Label extends Field> {
  /** snake_case. */
  readonly name: string;
  readonly level: Level;
  readonly message: string;
  readonly fields: Readonly<Record<Field, string>>;
  /** Name of its counter without the `millrace_` prefix; ends in `_total`. */
  readonly counter?: string;
  /** Fields that are the counter's labels: few possible values only. */
  readonly labels?: readonly Label[];
  readonly counterBy?: NoInfer<Field>;
  readonly rateLimitMs?: number;
}

/** What the declare functions of metrics take. */
export interface MetricSpecification<Label extends string> {
  /** snake_case, unit last, without the `millrace_` prefix. */
  readonly name: string;
  readonly help: string;
  /** Names of labels: few possible values only. */
  readonly labels?: readonly Label[];
}

/** Prefix of every metric. */
export const metricPrefix = "millrace_";

/** Upper bounds, in seconds, for times from 0.1 ms to 30 s. */
export const secondsBuckets: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

const metrics = new Map<string, MetricDeclaration>();
const events = new Map<string, EventDeclaration>();

/** Everything declared by the modules loaded so far, sorted by name. */
export function declarations(): {
  readonly events: readonly EventDeclaration[];
  readonly metrics: readonly MetricDeclaration[];
} {
  return { events: sorted(events), metrics: sorted(metrics) };
}

/** Declares a counter. */
export function declareCounter<const Label extends string = never>(
  specification: MetricSpecification<Label>,
): CounterDeclaration<Label> {
  invariant(specification.name.endsWith("_total"), `counter ${specification.name} ends in _total`);
  return addMetric({ kind: "counter", ...named(specification) });
}

/** Declares a gauge. */
export function declareGauge<const Label extends string = never>(
  specification: MetricSpecification<Label>,
): GaugeDeclaration<Label> {
  invariant(!specification.name.endsWith("_total"), `gauge ${specification.name} does not end in _total`);
  return addMetric({ kind: "gauge", ...named(specification) });
}

/** Declares a histogram; `buckets` are ascending upper bounds, {@link secondsBuckets} when absent. */
export function declareHistogram<const Label extends string = never>(
  specification: MetricSpecification<Label> & { readonly buckets?: readonly number[] },
): HistogramDeclaration<Label> {
  const buckets = specification.buckets ?? secondsBuckets;
  return addMetric({ kind: "histogram", ...named(specification), buckets });
}

/** Declares an event: log line, counter and reference entry in one place. */
export function declareEvent<const Field extends string, const Label extends Field = never>(
  specification: EventSpecification<Field, Label>,
): EventDeclaration<Field> {
  const { name, message, counter, labels = [], counterBy } = specification;
  checkSnakeCase(name);
  invariant(/^[A-Z].*\.$/.test(message), `message of ${name} is a sentence: "${message}"`);
  invariant(counter !== undefined || labels.length === 0, `${name} has labels but no counter`);
  const declaration: EventDeclaration<Field> = {
    kind: "event",
    name,
    level: specification.level,
    message,
    fields: specification.fields,
    counter:
      counter === undefined
        ? undefined
        : declareCounter<Field>({ name: counter, help: `Counts "${message}"`, labels }),
    counterBy,
    rateLimitMs: specification.rateLimitMs ?? 0,
  };
  add(events, declaration);
  return declaration;
}

function named<Label extends string>(
  specification: MetricSpecification<Label>,
): { name: string; help: string; labels: readonly Label[] } {
  checkSnakeCase(specification.name);
  for (const label of specification.labels ?? []) {
    invariant(
      /^[a-zA-Z][a-zA-Z0-9]*$/.test(label),
      `label ${label} of ${specification.name} is a camelCase word`,
    );
    // The root of a process adds these two to every series.
    invariant(label !== "service" && label !== "node", `label ${label} of ${specification.name} is reserved`);
  }
  const name = `${metricPrefix}${specification.name}`;
  return { name, help: specification.help, labels: specification.labels ?? [] };
}

function checkSnakeCase(name: string): void {
  invariant(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(name), `"${name}" is snake_case`);
}

function addMetric<Declaration extends MetricDeclaration>(declaration: Declaration): Declaration {
  add(metrics, declaration);
  return declaration;
}

function add<Declaration extends { readonly name: string }>(
  to: Map<string, Declaration>,
  declaration: Declaration,
): void {
  const present = to.get(declaration.name);
  invariant(
    present === undefined || JSON.stringify(present) === JSON.stringify(declaration),
    `${declaration.name} is declared twice with different meanings`,
  );
  to.set(declaration.name, declaration);
}

function sorted<Declaration extends { readonly name: string }>(
  of: ReadonlyMap<string, Declaration>,
): Declaration[] {
  return [...of.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
