/**
 * The component contract as tests: every MUST of `contract.ts` that can be seen from outside.
 *
 * A suite is a list of cases; a component's test runs each:
 *
 *   for (const { title, run } of conformSink(fixture)) it(title, run);
 *
 * Suites use node:assert and no test runner, so that they are a part of this library.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Record } from "@millrace/record";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import type { ComponentContext } from "../contract.ts";

/** One MUST. */
export interface ConformanceCase {
  readonly title: string;
  readonly run: () => Promise<void>;
}

/** Longest time a case waits for something, milliseconds. */
export const patienceMs = 10_000;

/** Text of a record's value, for comparisons. */
export function textOf(record: Pick<Record, "value">): string {
  return record.value === null ? "<null>" : Buffer.from(record.value).toString("latin1");
}

/** A record with this text as its value. */
export function recordOf(text: string, timestampMs = 1_700_000_000_000): Record {
  return { key: null, value: Buffer.from(text, "latin1"), headers: [], timestampMs };
}

/** A context on the real disk and clock with silent telemetry and a work directory of its own. */
export async function makeContext(
  overrides: Partial<ComponentContext> = {},
): Promise<ComponentContext & { readonly remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-component-"));
  return {
    name: "k1",
    telemetry: createTelemetry({ service: "test", node: "test", destination: "silent" }),
    clock: systemClock,
    disk: realDisk,
    workDirectory: join(folder, "work"),
    ownerName: "a1",
    ownerId: "AAAAAAAAAAAAAAAAAAAAAA",
    protectedPaths: [],
    bootstrapServers: [],
    ...overrides,
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Waits until `isTrue`, looking often; fails naming `what` after {@link patienceMs}. */
export async function until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + patienceMs;
  while (!(await isTrue())) {
    if (performance.now() > endMs) throw new Error(`waited ${patienceMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** `work`, or an error that names `what` after {@link patienceMs}. */
export async function within<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${patienceMs} ms: ${what}`)), patienceMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A signal that never aborts. */
export function never(): AbortSignal {
  return new AbortController().signal;
}
