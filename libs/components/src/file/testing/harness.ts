/** What the tests of the file sink share: a sink with its feedback, records by number, and what was published. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ComponentContext, Origin, SinkBatch, SinkFeedback, SinkRecord, Standing } from "@millrace/flow";
import { noHeaders } from "@millrace/record";
import { type Disk, readWholeFile, realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import type { FileSinkConfig } from "../config.ts";
import { FileSink } from "../file-sink.ts";

export const origin: Origin = {
  kind: "partition",
  clusterId: "c".repeat(22),
  connector: "out",
  topicId: "t".repeat(22),
  topic: "logs",
  partition: 0,
};

export const baseConfig: FileSinkConfig = {
  directory: "",
  rollInterval: 0,
  rollSize: 0,
  rollCount: 0,
  batchSize: 100,
  format: "text",
  newlines: "escape",
  serializer: "TEXT",
  prefix: "",
  pathManager: "DEFAULT",
};

export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "millrace-file-sink-"));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Feedback that remembers. */
export class Feedback implements SinkFeedback {
  delivered_: number[] = [];
  readonly refused: { offset: number; reason: string }[] = [];
  readonly failures: unknown[] = [];
  readonly resolvedThrough = 0;
  readonly nextOffset = 0;

  delivered(through: number): void {
    this.delivered_.push(through);
  }
  refuse(record: SinkRecord, reason: string): Promise<void> {
    this.refused.push({ offset: record.offset, reason });
    return Promise.resolve();
  }
  fail(error: unknown): void {
    this.failures.push(error);
  }
  onResolved(): () => void {
    return () => undefined;
  }
  note(): undefined {
    return undefined;
  }
  notes(): ReadonlyMap<string, Uint8Array> {
    return new Map();
  }
  setNotes(): Promise<void> {
    return Promise.resolve();
  }
}

const telemetry = createTelemetry({ service: "test", node: "n1", destination: "silent" });

export interface TestSink {
  readonly sink: FileSink;
  readonly feedback: Feedback;
  readonly open: (
    epoch: number,
    options?: { origin?: Origin; deliveredThrough?: number },
  ) => Promise<Standing>;
  readonly write: (batch: SinkBatch) => Promise<void>;
  readonly flush: () => Promise<void>;
}

export const never = new AbortController().signal;

export function makeSink(
  directory: string,
  disk: Disk = realDisk,
  config: Partial<FileSinkConfig> = {},
  ownerId = "connector-1",
): TestSink {
  const context: ComponentContext = {
    name: "files",
    telemetry,
    clock: systemClock,
    disk,
    workDirectory: directory,
    ownerName: "out",
    ownerId,
    protectedPaths: [],
    bootstrapServers: [],
  };
  const sink = new FileSink({ ...baseConfig, ...config, directory }, context);
  const feedback = new Feedback();
  return {
    sink,
    feedback,
    open: (epoch, options = {}) =>
      sink.open(
        {
          origin: options.origin ?? origin,
          epoch,
          starts: [],
          deliveredThrough: options.deliveredThrough ?? 0,
          checkpoint: undefined,
          generation: 1,
        },
        feedback,
      ),
    write: (batch) => sink.write(batch, never),
    flush: () => sink.flush(),
  };
}

export function sinkRecord(
  offset: number,
  value: string | Uint8Array | null = `record ${offset}`,
): SinkRecord {
  return {
    key: null,
    value: typeof value === "string" ? Buffer.from(value) : value,
    headers: noHeaders,
    timestampMs: -1,
    offset,
  };
}

/** Records `from` to `to` - 1, whose text is their offset. */
export function numbered(from: number, to: number, leaderEpoch = 0): SinkBatch {
  const records = Array.from({ length: to - from }, (_, i) => sinkRecord(from + i));
  return { from, to, records, leaderEpoch };
}

/** Lines of the published files of `directories` on any disk, in order of the files' names. */
export async function linesOn(disk: Disk, ...directories: string[]): Promise<string[]> {
  const files: { name: string; text: string }[] = [];
  for (const directory of directories) {
    for (const name of await disk.list(directory)) {
      if (name.startsWith(".")) continue;
      const bytes = (await readWholeFile(disk, join(directory, name))) ?? new Uint8Array();
      files.push({ name, text: Buffer.from(bytes).toString("latin1") });
    }
  }
  files.sort((a, b) => (a.name < b.name ? -1 : 1));
  return files.flatMap(({ text }) => text.split("\n").slice(0, -1));
}

/** Published files by name; for the real disk. */
export async function published(directory: string): Promise<Map<string, string>> {
  const names = (await readdir(directory)).filter((name) => !name.startsWith(".")).sort();
  const found = new Map<string, string>();
  for (const name of names) found.set(name, await readFile(join(directory, name), "utf8"));
  return found;
}

/** Lines of the published files on the real disk. */
export function publishedLines(directory: string): Promise<string[]> {
  return linesOn(realDisk, directory);
}

/** The lines of records 0 to `count` - 1. */
export function expectedLines(count: number): string[] {
  return Array.from({ length: count }, (_, offset) => `record ${offset}`);
}
