/**
 * The metrics of one telemetry root, kept in a registry of its own so that several services can live in one process.
 *
 * Two ways in: `counter/gauge/histogram` for what happens now and then, and `observe` for hot paths, which keep plain
 * fields that are copied at scrape. Series per metric are bounded: label values beyond {@link seriesMax} become
 * "other", so that no peer can fill the memory with labels.
 */
import { invariant } from "@millrace/base";
import {
  Counter as PromCounter,
  Gauge as PromGauge,
  Histogram as PromHistogram,
  Registry,
} from "prom-client";
import type {
  CounterDeclaration,
  GaugeDeclaration,
  HistogramDeclaration,
  LabelValues,
  MetricDeclaration,
} from "./declarations.ts";

/** Series one metric may have in one registry. */
export const seriesMax = 2000;

/** The labels argument: absent where the declaration has none. */
export type LabelArguments<Label extends string> = [Label] extends [never]
  ? [labels?: Readonly<Record<string, never>>]
  : [labels: LabelValues<Label>];

/** A counter in use. */
export interface Counter<Label extends string> {
  /** Adds `count` (1 when absent, never negative). */
  inc(...labelsAndCount: [...LabelArguments<Label>, count?: number]): void;
}

/** A gauge in use. */
export interface Gauge<Label extends string> {
  set(value: number, ...labels: LabelArguments<Label>): void;
}

/** A histogram in use. */
export interface Histogram<Label extends string> {
  observe(value: number, ...labels: LabelArguments<Label>): void;
}

/** One value read at scrape. */
export interface Sample<Label extends string> {
  readonly labels: LabelValues<Label>;
  readonly value: number;
}

/** Where metrics are written and read. */
export interface Metrics {
  counter<Label extends string>(declaration: CounterDeclaration<Label>): Counter<Label>;
  gauge<Label extends string>(declaration: GaugeDeclaration<Label>): Gauge<Label>;
  histogram<Label extends string>(declaration: HistogramDeclaration<Label>): Histogram<Label>;
  /**
   * Reads values at every scrape. Several readers of one metric are put together (the same labels: added). Returns
   * the function that takes the reader away. A metric is either observed or written, not both.
   */
  observe<Label extends string>(
    declaration: CounterDeclaration<Label> | GaugeDeclaration<Label>,
    read: () => Iterable<Sample<Label>>,
  ): () => void;
  /** The sum of a counter's or gauge's series that match `labels`; 0 when there is none. A histogram's: its count. */
  value(declaration: MetricDeclaration, labels?: Readonly<Record<string, string | number>>): Promise<number>;
  /** All metrics in Prometheus' text format. */
  text(): Promise<string>;
}

type Reader = () => Iterable<Sample<string>>;

/** A prom-client child or metric, reduced to what is used. */
interface Series {
  inc?(count: number): void;
  set?(value: number): void;
  observe?(value: number): void;
}

interface Entry {
  readonly declaration: MetricDeclaration;
  readonly metric: PromCounter | PromGauge | PromHistogram;
  /** Series by label values, so that the hot way is one look-up. */
  readonly series: Map<string, Series>;
  readonly readers: Set<Reader>;
}

/** {@link Metrics} on prom-client. */
export class MetricsRegistry implements Metrics {
  readonly #registry = new Registry();
  readonly #entries = new Map<string, Entry>();

  constructor(labels: Readonly<Record<string, string>>) {
    this.#registry.setDefaultLabels(labels);
    observeProcess(this.#registry);
  }

  counter<Label extends string>(declaration: CounterDeclaration<Label>): Counter<Label> {
    const entry = this.#written(declaration);
    return {
      inc: (...labelsAndCount) => {
        const [labels, count = 1] = labelsAndCount as unknown as [
          Readonly<Record<string, string | number>>?,
          number?,
        ];
        this.#series(entry, labels).inc?.(count);
      },
    };
  }

  gauge<Label extends string>(declaration: GaugeDeclaration<Label>): Gauge<Label> {
    const entry = this.#written(declaration);
    return { set: (value, ...labels) => this.#series(entry, labels[0]).set?.(value) };
  }

  histogram<Label extends string>(declaration: HistogramDeclaration<Label>): Histogram<Label> {
    const entry = this.#written(declaration);
    return { observe: (value, ...labels) => this.#series(entry, labels[0]).observe?.(value) };
  }

  observe<Label extends string>(
    declaration: CounterDeclaration<Label> | GaugeDeclaration<Label>,
    read: () => Iterable<Sample<Label>>,
  ): () => void {
    const entry = this.#entry(declaration);
    invariant(
      entry.readers.size > 0 || entry.series.size === 0,
      `${declaration.name} is written directly and cannot be observed as well`,
    );
    // A reader of its own per call: the same function may be given twice.
    const reader: Reader = () => read();
    entry.readers.add(reader);
    return () => {
      entry.readers.delete(reader);
      if (entry.readers.size > 0) return;
      entry.metric.reset();
      entry.series.clear();
    };
  }

  async value(
    declaration: MetricDeclaration,
    labels: Readonly<Record<string, string | number>> = {},
  ): Promise<number> {
    const entry = this.#entries.get(declaration.name);
    if (entry === undefined) return 0;
    const found = await entry.metric.get();
    const countName = declaration.kind === "histogram" ? `${declaration.name}_count` : undefined;
    return found.values
      .filter((one) => !("metricName" in one) || one.metricName === undefined || one.metricName === countName)
      .filter((one) =>
        Object.entries(labels).every(([name, value]) => String(one.labels[name]) === String(value)),
      )
      .reduce((sum, one) => sum + one.value, 0);
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #written(declaration: MetricDeclaration): Entry {
    const entry = this.#entry(declaration);
    invariant(entry.readers.size === 0, `${declaration.name} is observed and cannot be written as well`);
    return entry;
  }

  #entry(declaration: MetricDeclaration): Entry {
    const present = this.#entries.get(declaration.name);
    if (present !== undefined) return present;
    const entry: Entry = {
      declaration,
      metric: this.#create(declaration),
      series: new Map(),
      readers: new Set(),
    };
    this.#entries.set(declaration.name, entry);
    return entry;
  }

  #create(declaration: MetricDeclaration): Entry["metric"] {
    const options = {
      name: declaration.name,
      help: declaration.help,
      labelNames: [...declaration.labels],
      registers: [this.#registry],
      collect: () => this.#collect(declaration.name),
    };
    switch (declaration.kind) {
      case "counter":
        return new PromCounter(options);
      case "gauge":
        return new PromGauge(options);
      case "histogram":
        return new PromHistogram({ ...options, buckets: [...declaration.buckets] });
    }
  }

  /** The series of the label values, or that of "other" when there are too many. */
  #series(entry: Entry, labels: Readonly<Record<string, string | number>> = {}): Series {
    const names = entry.declaration.labels;
    let key = "";
    for (const name of names) key += `${labels[name] ?? ""}\u0000`;
    const present = entry.series.get(key);
    if (present !== undefined) return present;
    if (entry.series.size >= seriesMax && names.length > 0) {
      const other = Object.fromEntries(names.map((name) => [name, "other"]));
      if (names.some((name) => labels[name] !== "other")) return this.#series(entry, other);
    }
    const values = Object.fromEntries(names.map((name) => [name, String(labels[name] ?? "")]));
    const made: Series = names.length === 0 ? entry.metric : entry.metric.labels(values);
    entry.series.set(key, made);
    return made;
  }

  #collect(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined || entry.readers.size === 0) return;
    entry.metric.reset();
    entry.series.clear();
    for (const reader of entry.readers) {
      for (const { labels, value } of reader()) {
        const series = this.#series(entry, labels);
        // Both kinds add up over readers; a gauge may fall below 0, which `inc` of a counter refuses.
        series.inc?.(value);
      }
    }
  }
}

/** The few figures of the process that dashboards ask for, under their usual names. */
function observeProcess(registry: Registry): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    new PromGauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  };
  gauge("process_resident_memory_bytes", "Resident memory of the process.", () => process.memoryUsage.rss());
  gauge(
    "process_start_time_seconds",
    "Start of the process, seconds since 1970.",
    () => performance.timeOrigin / 1000,
  );
  gauge("nodejs_heap_size_used_bytes", "JavaScript heap in use.", () => process.memoryUsage().heapUsed);
  gauge(
    "nodejs_external_memory_bytes",
    "Memory of buffers outside the heap.",
    () => process.memoryUsage().external,
  );
  let last = performance.eventLoopUtilization();
  gauge(
    "nodejs_eventloop_utilization_ratio",
    "Part of the time since the last scrape the event loop was busy.",
    () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, last);
      last = now;
      return utilization;
    },
  );
  new PromCounter({
    name: "process_cpu_seconds_total",
    help: "User and system CPU time of the process.",
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
}

/**
 * Puts the text of several registries together: Prometheus wants the help and type of a metric once, followed by all
 * its series.
 */
export function mergeMetricTexts(texts: readonly string[]): string {
  const blocks = new Map<string, { head: string; series: string[] }>();
  for (const text of texts) {
    let block: { head: string; series: string[] } | undefined;
    for (const line of text.split("\n")) {
      if (line.startsWith("# HELP ")) {
        const name = line.split(" ", 3)[2] ?? "";
        block = blocks.get(name) ?? { head: line, series: [] };
        blocks.set(name, block);
      } else if (line.startsWith("# TYPE ") && block !== undefined) {
        if (!block.head.includes("\n")) block.head += `\n${line}`;
      } else if (line !== "") {
        block?.series.push(line);
      }
    }
  }
  return `${[...blocks.values()].map(({ head, series }) => [head, ...series].join("\n")).join("\n\n")}\n`;
}
