/** Names users choose: topics, connectors, agents. The rule is Kafka's, so that every name works in both. */
import { AppError } from "./errors.ts";

/** Longest legal topic name (Kafka's limit: the folder name adds a partition number). */
export const topicNameLengthMax = 249;

/** Topics whose names start so belong to the system and are never created, written or deleted by users. */
export const internalTopicPrefix = "__millrace.";

const legalName = /^[a-zA-Z0-9._-]+$/;

/** Throws INVALID_TOPIC unless `name` is legal. */
export function checkTopicName(name: string): void {
  if (
    name.length === 0 ||
    name.length > topicNameLengthMax ||
    !legalName.test(name) ||
    name === "." ||
    name === ".."
  ) {
    throw new AppError(
      "INVALID_TOPIC",
      `"${printable(name)}" is no topic name: use 1 to ${topicNameLengthMax} of a-z A-Z 0-9 . _ - (and not "." or "..")`,
    );
  }
}

/** Throws INVALID_REQUEST unless `name` is legal for a connector, agent or other named thing; `kind` names it. */
export function checkName(kind: string, name: string): void {
  if (name.length === 0 || name.length > 128 || !legalName.test(name) || name === "." || name === "..") {
    throw new AppError(
      "INVALID_REQUEST",
      `"${printable(name)}" is no ${kind} name: use 1 to 128 of a-z A-Z 0-9 . _ -`,
    );
  }
}

/** Text with control characters escaped and its length bounded, fit for a message on a terminal or in a log. */
export function printable(text: string, lengthMax = 120): string {
  const cut = text.length > lengthMax ? `${text.slice(0, lengthMax)}...` : text;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is removed
  return cut.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The known name nearest to `name` (edit distance at most a third of its length), or undefined. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Edits (two neighbours swapped are one) from a to b, given up (returning `limit`) once it cannot be below `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = isSwap ? (beforePrevious[j - 2] as number) + 1 : change;
      current.push(Math.min(change, swap, (current[j - 1] as number) + 1, (previous[j] as number) + 1));
    }
    if (Math.min(...current) >= limit) return limit;
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length] as number;
}
