/** Parsers of option values: a wrong value is a usage error (exit code 2) that says what is allowed. */
import { InvalidArgumentError } from "commander";

/** A parser of whole numbers in [min, max]. */
export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(
        max === Number.MAX_SAFE_INTEGER
          ? `Use a whole number from ${min} on.`
          : `Use a whole number from ${min} to ${max}.`,
      );
    }
    return value;
  };
}

/** A port; 0 = any free one. */
export const portNumber = wholeNumber(0, 65_535);

/** Where `consume` starts in each partition. */
export type ConsumeFrom = "start" | "end" | number | { readonly timestampMs: number };

/** `start`, `end`, an offset, or `@` and a time: milliseconds since 1970 or ISO 8601. */
export function consumeFrom(text: string): ConsumeFrom {
  if (text === "start" || text === "end") return text;
  if (/^\d{1,16}$/.test(text)) return Number(text);
  if (text.startsWith("@")) {
    const time = text.slice(1);
    const timestampMs = /^\d{1,16}$/.test(time) ? Number(time) : Date.parse(time);
    if (Number.isSafeInteger(timestampMs)) return { timestampMs };
  }
  throw new InvalidArgumentError(
    "Use start, end, an offset, or @TIME (@1767225600000 or @2026-01-01T00:00:00Z).",
  );
}

/** Least size: smaller ones are no use for log data. */
const mebibytesMin = 128;

/** `512MiB`, `2GiB`: bytes. */
export function sizeInMebibytes(text: string): number {
  const match = /^(\d{1,9})(MiB|GiB)$/.exec(text);
  const mebibytes = Number(match?.[1]) * (match?.[2] === "GiB" ? 1024 : 1);
  if (match !== null && mebibytes >= mebibytesMin) return mebibytes * 1024 * 1024;
  throw new InvalidArgumentError(`Use a size from ${mebibytesMin}MiB on, like 512MiB or 2GiB.`);
}
