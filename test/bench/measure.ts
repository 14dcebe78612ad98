/** How the cases measure: a counter over a time, after a time to warm up. */
import { readFileSync } from "node:fs";

/** A rate, and the seconds it was taken over. */
export interface Rate {
  readonly perSecond: number;
  readonly seconds: number;
}

const pollMs = 5;

/**
 * Growth of `count` per second, over `seconds` after a third of that to warm up. The end is the moment `count` was read,
 * so a late timer makes no difference. Ends early when `isOver` says so.
 */
export async function rateOf(
  count: () => number,
  seconds: number,
  isOver: () => boolean = () => false,
): Promise<Rate> {
  await until(() => isOver(), seconds / 3);
  const from = count();
  const start = performance.now();
  await until(() => isOver(), seconds);
  const elapsed = (performance.now() - start) / 1000;
  return { perSecond: (count() - from) / elapsed, seconds: elapsed };
}

async function until(isOver: () => boolean, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!isOver() && performance.now() < end) await pause(Math.min(pollMs, end - performance.now()));
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.max(0, ms));
  });
}

/** Memory of a process in MB: now (`VmRSS`) or its peak (`VmHWM`). undefined where /proc does not tell. */
export function memoryMb(pid: number | undefined, which: "VmRSS" | "VmHWM"): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const kibibytes = new RegExp(`^${which}:\\s+(\\d+) kB`, "m").exec(status)?.[1];
    return kibibytes === undefined ? undefined : (Number(kibibytes) * 1024) / 1e6;
  } catch {
    return undefined;
  }
}
