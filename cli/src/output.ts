/**
 * What the command line prints, and how: data on stdout, notes on stderr, errors as one line.
 *
 * Tables have aligned UPPERCASE headers; `-o json` and `-o yaml` print the same data for programs. Colour only on a
 * terminal, and never with NO_COLOR or --no-color. A reader that goes away (EPIPE) ends a command quietly.
 */
import type { Writable } from "node:stream";
import { AppError, printable } from "@millrace/base";
import { errorCode } from "@millrace/runtime";

/** Exit codes: done, failed, called wrongly. */
export const exitCode = { ok: 0, failure: 1, usage: 2 } as const;

/** Forms of `-o`. */
export const outputFormats = ["table", "json", "yaml"] as const;

/** A form of `-o`. */
export type OutputFormat = (typeof outputFormats)[number];

/** A command's data, and what people see of it. */
export interface View {
  /** What `-o json` and `-o yaml` print. */
  readonly data: unknown;
  /** Lines for people, each with its newline. */
  readonly text: string;
}

/** Where a command prints to. */
export interface Streams {
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly stderr: Writable;
}

/** Prints for one command. */
export class Output {
  readonly #streams: Streams;
  #isClosed = false;

  /** `onClosed` runs once when the reader of stdout went away; the process ends quietly when absent. */
  constructor(streams: Streams = process, onClosed: () => void = () => process.exit(exitCode.ok)) {
    this.#streams = streams;
    for (const stream of [streams.stdout, streams.stderr]) {
      stream.on("error", (error) => {
        if (errorCode(error) !== "EPIPE" && errorCode(error) !== "EIO") throw error;
        if (stream !== streams.stdout || this.#isClosed) return;
        this.#isClosed = true;
        onClosed();
      });
    }
  }

  /** True: somebody watches. */
  get isTerminal(): boolean {
    return this.#streams.stdout.isTTY === true;
  }

  /** Width of the terminal in cells. */
  get columns(): number {
    return this.#streams.stdout.columns ?? 80;
  }

  /** True: the reader of stdout is there. */
  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /** Writes to stdout; resolves when more is welcome. */
  write(bytes: Uint8Array | string): Promise<void> | undefined {
    if (this.#isClosed || this.#streams.stdout.write(bytes)) return undefined;
    return new Promise((resolve) => {
      const done = (): void => {
        this.#streams.stdout.off("drain", done).off("close", done).off("error", done);
        resolve();
      };
      this.#streams.stdout.on("drain", done).on("close", done).on("error", done);
    });
  }

  /** A line on stderr that is not data. */
  note(text: string): void {
    this.#streams.stderr.write(`${text}\n`);
  }

  /** Prints a view in the asked form. */
  async print(view: View, format: OutputFormat): Promise<void> {
    await this.write(format === "table" ? view.text : await serialized(view.data, format));
  }
}

async function serialized(data: unknown, format: "json" | "yaml"): Promise<string> {
  if (format === "json") return `${JSON.stringify(data, undefined, 2)}\n`;
  const { formatYaml } = await import("@millrace/config");
  return formatYaml(data);
}

/** A table with aligned columns; numbers stand right. Cells are escaped: names may come from anywhere. */
export function table(headers: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map((cell) => printable(String(cell), cellLengthMax)));
  const widths = headers.map((header, i) =>
    Math.max(header.length, ...cells.map((row) => row[i]?.length ?? 0)),
  );
  const isNumeric = headers.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number"));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (isNumeric[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return `${[headers.map((header) => header.toUpperCase()), ...cells].map(line).join("\n")}\n`;
}

/** Longest text in a table's cell. */
const cellLengthMax = 200;

/** Names and values below each other, values aligned. */
export function fields(pairs: readonly (readonly [name: string, value: string | number])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length)) + 2;
  return pairs
    .map(([name, value]) => `${name.toUpperCase().padEnd(width)}${printable(String(value), cellLengthMax)}\n`)
    .join("");
}

/** `1 file`, `3 files`; numbers with thousands separators. */
export function count(number: number, singular: string, plural = `${singular}s`): string {
  return `${grouped(number)} ${number === 1 ? singular : plural}`;
}

/** `12,412`: the same on every machine, whatever its locale. */
export function grouped(number: number): string {
  return number.toLocaleString("en-US");
}

/** The line a user reads for anything thrown: no stack, and never a control character of somebody else's. */
export function errorLine(thrown: unknown): string {
  const error = AppError.from(thrown);
  const lines = error.message.split("\n").map((line) => printable(line, errorLengthMax));
  if (error.reason !== "INTERNAL") return lines.join("\n");
  return `unexpected failure: ${lines[0] ?? ""} (set MILLRACE_DEBUG=1 to see where)`;
}

/** Longest line of an error. */
const errorLengthMax = 1000;
