/**
 * A secret from the configuration. It prints as `[redacted]` in JSON, templates and inspection, so it cannot reach a log
 * line, an error or a dump by accident; who needs the text asks for it by name.
 */
import { inspect } from "node:util";

/** What a secret shows of itself. */
export const redacted = "[redacted]";

/** Holds a secret text. */
export class Secret {
  readonly #text: string;
  /** Where it came from (`file /run/secrets/x`, `environment variable X`, `inline`): safe to show. */
  readonly origin: string;

  constructor(text: string, origin = "inline") {
    this.#text = text;
    this.origin = origin;
  }

  /** The text itself. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return redacted;
  }

  toJSON(): string {
    return redacted;
  }

  [inspect.custom](): string {
    return redacted;
  }
}
