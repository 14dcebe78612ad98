/** What is wrong with a pipeline configuration, all of it at once. */
import { AppError, nearestName, printable } from "@millrace/base";

/** One problem of one line. */
export interface Problem {
  readonly line: number;
  /** Component and key, dotted; empty for the file as a whole. */
  readonly where: string;
  readonly what: string;
  /** With `--flume-compat` only a warning. */
  readonly isLenient?: boolean;
}

/** Collects problems of one file. */
export class Problems {
  readonly #file: string;
  readonly #isCompat: boolean;
  readonly #errors: Problem[] = [];
  readonly #warnings: Problem[] = [];

  constructor(file: string, isCompat: boolean) {
    this.#file = file;
    this.#isCompat = isCompat;
  }

  get isEmpty(): boolean {
    return this.#errors.length === 0;
  }

  /** Lines of the warnings. */
  get warnings(): string[] {
    return this.#lines(this.#warnings);
  }

  add(problem: Problem): void {
    if (problem.isLenient === true && this.#isCompat) this.#warnings.push(problem);
    else this.#errors.push(problem);
  }

  warn(problem: Problem): void {
    this.#warnings.push(problem);
  }

  /** Throws INVALID_CONFIG with a line for each error, if there is one. */
  throwIfAny(): void {
    if (this.#errors.length > 0) throw new AppError("INVALID_CONFIG", this.#lines(this.#errors).join("\n"));
  }

  #lines(problems: readonly Problem[]): string[] {
    return [...problems]
      .sort((a, b) => a.line - b.line)
      .map(({ line, where, what }) => {
        const place = where === "" ? "" : `${printable(where)}: `;
        return `${this.#file}:${line}: ${place}${printable(what, 500)}`;
      });
  }
}

/** `; did you mean "x"?` when a known name is near. */
export function suggestion(name: string, known: Iterable<string>): string {
  const meant = nearestName(name, known);
  return meant === undefined || meant === name ? "" : `; did you mean "${meant}"?`;
}
