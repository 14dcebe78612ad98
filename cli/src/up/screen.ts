/** The first screen of `millrace up`: its lines (pure) and how they reach a terminal or a pipe. */
import { printable } from "@millrace/base";
import type { Clock } from "@millrace/runtime";
import { count, grouped, type Output } from "../output.ts";
import type { Account } from "./account.ts";

/** What the upper lines tell. */
export interface Introduction {
  readonly version: string;
  readonly nodeVersion: string;
  /** As the user would write it. */
  readonly dataDirectory: string;
  readonly outputDirectory: string;
  readonly readyMs: number;
  readonly fileCount: number;
  /** True: Millrace's own log is among the sources (and not among the files). */
  readonly readsOwnLog: boolean;
  readonly topic: string;
  readonly partitionCount: number;
  /** Reasons of skipped files, one per file. */
  readonly skipped: readonly string[];
  readonly pid: number;
  /** Flags a second terminal needs; empty with the default port. */
  readonly clientFlags: string;
  /** The command that starts it again. */
  readonly again: string;
}

/** The lines above the last one. */
export function introductionLines(of: Introduction): string[] {
  const seconds = (of.readyMs / 1000).toFixed(1);
  const files = count(of.fileCount, "file");
  const sources = of.readsOwnLog ? `${files} and Millrace's own log` : files;
  const partitions = count(of.partitionCount, "partition");
  return [
    `millrace ${of.version} · node ${of.nodeVersion} · data ${of.dataDirectory} · ready in ${seconds} s · fsync before ack: on`,
    `  ${sources} ─▶ agent ─▶ channel ─▶ topic ${of.topic} (${partitions}) ─▶ connector ─▶ ${of.outputDirectory}`,
    ...skippedLine(of.skipped),
    `  try   npx millrace consume ${of.topic} -o end${of.clientFlags}        kill -9 ${of.pid}, then ${of.again}: it goes on, nothing twice`,
  ];
}

function skippedLine(reasons: readonly string[]): string[] {
  if (reasons.length === 0) return [];
  const counts = new Map<string, number>();
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const parts = [...counts].map(([reason, number]) => `${grouped(number)} ${printable(reason)}`);
  const advice = [...counts.keys()].some((reason) => reason.startsWith("unreadable"))
    ? " (run with access, or --tail FILE)"
    : "";
  return [`  skipped: ${parts.join(", ")}${advice}`];
}

/** What the last line tells. */
export interface Progress extends Account {
  /** Share of the channel's capacity in use, 0 to 1. */
  readonly channelShare: number;
  /** Published files. */
  readonly fileCount: number;
  /** 99 % of the records of late were durable in the topic so soon after they were read; undefined: none came. */
  readonly p99Ms: number | undefined;
  /** Set while the sources wait because topic data and channel reached this limit (S2), bytes. */
  readonly heldBytes: number | undefined;
}

/** The last line: the promise, and how full and how fast. */
export function progressLine(of: Progress): string {
  const setAside = of.setAside === 0 ? "" : ` + ${grouped(of.setAside)} set aside`;
  return [
    `  ${grouped(of.in)} in = ${grouped(of.published)} published + ${grouped(of.inFlight)} in flight${setAside}`,
    `lost ${grouped(of.lost)}`,
    `doubled ${grouped(of.doubled)}`,
    `channel ${Math.floor(of.channelShare * 100)} %`,
    count(of.fileCount, "file"),
    `p99 ${of.p99Ms === undefined ? "-" : duration(of.p99Ms)}`,
    ...(of.heldBytes === undefined
      ? []
      : [`sources wait: ${size(of.heldBytes)} of topic data and channel in use`]),
  ].join(" · ");
}

function size(bytes: number): string {
  const mebibytes = Math.round(bytes / (1024 * 1024));
  return mebibytes % 1024 === 0 ? `${mebibytes / 1024} GiB` : `${mebibytes} MiB`;
}

function duration(ms: number): string {
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${Math.round(ms / 1000)} s`;
}

/** A pipe gets a new last line at most so often. */
const pipeIntervalMs = 5_000;

/** Writes lines; the last one is rewritten on a terminal and repeated, when it changed, on a pipe. */
export class Screen {
  readonly #output: Output;
  readonly #clock: Clock;
  #last = "";
  #printedMs = Number.NEGATIVE_INFINITY;
  #isOpenLine = false;

  constructor(output: Output, clock: Clock) {
    this.#output = output;
    this.#clock = clock;
  }

  /** A line that stays. */
  line(text: string): void {
    this.#endLine();
    void this.#output.write(`${text}\n`);
  }

  /** A line on stderr that stays. */
  note(text: string): void {
    this.#endLine();
    this.#output.note(text);
  }

  /** The last line, as it stands now. */
  progress(text: string): void {
    if (text === this.#last) return;
    if (this.#output.isTerminal) {
      // One row only: a wrapped line could not be rewritten.
      const shown = text.slice(0, Math.max(20, this.#output.columns - 1));
      void this.#output.write(`\r\u001b[K${shown}`);
      this.#isOpenLine = true;
    } else {
      const nowMs = this.#clock.monotonicMs();
      if (nowMs - this.#printedMs < pipeIntervalMs) return;
      this.#printedMs = nowMs;
      void this.#output.write(`${text}\n`);
    }
    this.#last = text;
  }

  /** The last line for good. */
  final(text: string): void {
    if (this.#isOpenLine) void this.#output.write("\r\u001b[K");
    this.#isOpenLine = false;
    if (this.#output.isTerminal || text !== this.#last) void this.#output.write(`${text}\n`);
    this.#last = text;
  }

  #endLine(): void {
    if (this.#isOpenLine) void this.#output.write("\n");
    this.#isOpenLine = false;
  }
}
