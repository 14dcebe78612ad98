/** Reads published files and holds them against what was written: each line once, byte for byte, in order. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** What is wrong with the published files; all empty when nothing is. */
export interface Verdict {
  readonly publishedCount: number;
  readonly missing: readonly string[];
  readonly doubled: readonly string[];
  readonly changed: readonly string[];
  readonly outOfOrder: readonly string[];
}

/** Names of the published (visible) files, in the order of their offsets. */
export async function publishedFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => !name.startsWith(".")).sort();
}

/** Number of lines published so far. */
export async function countPublished(folder: string): Promise<number> {
  let count = 0;
  for (const name of await publishedFiles(folder)) {
    const bytes = await readFile(join(folder, name));
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
  }
  return count;
}

/** Judges the files in `folder` against the lines written, by log name. Lists at most 20 of each fault. */
export async function judge(
  folder: string,
  written: ReadonlyMap<string, readonly Buffer[]>,
): Promise<Verdict> {
  const seen = new Map([...written].map(([name, lines]) => [name, new Uint8Array(lines.length)]));
  const last = new Map<string, { number: number; file: string }>();
  const faults = {
    doubled: [] as string[],
    changed: [] as string[],
    outOfOrder: [] as string[],
    missing: [] as string[],
  };
  const note = (list: string[], text: string): void => {
    if (list.length < 20) list.push(text);
  };
  let publishedCount = 0;
  for (const file of await publishedFiles(folder)) {
    const bytes = await readFile(join(folder, file));
    for (let start = 0, end = bytes.indexOf(10); end >= 0; start = end + 1, end = bytes.indexOf(10, start)) {
      publishedCount++;
      const line = bytes.subarray(start, end);
      const [name, number] = identify(line);
      const expected = written.get(name)?.[number];
      const marks = seen.get(name);
      if (expected === undefined || marks === undefined || !line.equals(expected)) {
        note(faults.changed, `${file}: ${line.subarray(0, 80).toString("latin1")}`);
        continue;
      }
      if (marks[number] === 1) note(faults.doubled, `${name}:${number} in ${file}`);
      marks[number] = 1;
      const before = last.get(name);
      if (before !== undefined && number <= before.number)
        note(faults.outOfOrder, `${name}:${number} in ${file} after ${before.number} in ${before.file}`);
      last.set(name, { number, file });
    }
  }
  for (const [name, marks] of seen)
    marks.forEach((mark, number) => mark === 0 && note(faults.missing, `${name}:${number}`));
  return { publishedCount, ...faults };
}

function identify(line: Buffer): [string, number] {
  const first = line.indexOf(58);
  const second = line.indexOf(58, first + 1);
  return [
    line.subarray(0, first).toString("latin1"),
    Number(line.subarray(first + 1, second).toString("latin1")),
  ];
}
