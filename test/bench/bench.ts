/**
 * What every benchmark is: named cases that give figures, run in turn for several rounds, reported as medians.
 * Nothing here asserts a time; the goals beside the figures are those of docs/BENCHMARKS.md.
 */

/** A figure of one round. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  /** `MB/s`, `records/s`, `ms`, `MB`. */
  readonly unit: string;
  /** What it should reach; lower is better for `ms` and `MB`. */
  readonly goal?: number;
}

/** What a case runs with. */
export interface BenchContext {
  /** Empty, on a real disk, removed afterwards. */
  readonly folder: string;
  /** How long each measurement takes, seconds; warming up takes a third of it before. */
  readonly seconds: number;
}

/** One benchmark: runs once, in a process of its own, and gives its figures. */
export interface BenchCase {
  readonly name: string;
  readonly summary: string;
  readonly run: (context: BenchContext) => Promise<readonly Figure[]>;
}

/** A figure over all rounds. */
export interface Summary {
  readonly name: string;
  readonly unit: string;
  readonly goal: number | undefined;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Medians of each figure, in the order of their first appearance. */
export function summarize(rounds: readonly (readonly Figure[])[]): Summary[] {
  const byName = new Map<string, Figure[]>();
  for (const figure of rounds.flat()) {
    const list = byName.get(figure.name) ?? [];
    list.push(figure);
    byName.set(figure.name, list);
  }
  return [...byName].map(([name, figures]) => {
    const values = figures.map((figure) => figure.value).sort((a, b) => a - b);
    const middle = values.length >> 1;
    const upper = values[middle] ?? 0;
    const median = values.length % 2 === 1 ? upper : ((values[middle - 1] ?? 0) + upper) / 2;
    const { unit, goal } = figures[0] as Figure;
    return { name, unit, goal, median, min: values[0] ?? 0, max: values.at(-1) ?? 0 };
  });
}

/** A table of summaries. */
export function table(summaries: readonly Summary[]): string {
  const rows = summaries.map(({ name, unit, goal, median, min, max }) => [
    name,
    shown(median),
    unit,
    `${shown(min)} .. ${shown(max)}`,
    goal === undefined ? "" : `${unit === "ms" || unit === "MB" ? "<=" : ">="} ${shown(goal)}`,
    goal === undefined
      ? ""
      : `${Math.round((unit === "ms" || unit === "MB" ? goal / median : median / goal) * 100)} %`,
  ]);
  const all = [["FIGURE", "MEDIAN", "UNIT", "RANGE", "GOAL", "OF GOAL"], ...rows];
  const widths = [0, 1, 2, 3, 4, 5].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function shown(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}

/** Value at a share (0.5, 0.99) of unsorted samples. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
