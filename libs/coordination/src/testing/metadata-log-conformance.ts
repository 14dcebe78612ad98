/**
 * What every engine of the metadata log must do (nats.md §7). An engine's test file calls `describeMetadataLog` with a
 * harness; the same cases then run on embedded, NATS and the simulated log.
 */
import { AppError } from "@millrace/base";
import type { MetadataRecord } from "@millrace/controller";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { planChange } from "../batch-codec.ts";
import { ChangeAssembler } from "../change-assembler.ts";
import { batchBytesMax, type LoggedBatch, logStart, type MetadataLog, type NewBatch } from "../types.ts";
import { sampleRecords } from "./sample-records.ts";

/** One store of an engine, made for one test. */
export interface LogHarness {
  /** Opens the log of this store: the first call makes it, later ones find what was acknowledged. */
  open(): Promise<MetadataLog>;
  /** Ends the process that holds `log` as kill -9 would, so that `open` may be called again. */
  kill(log: MetadataLog): Promise<void>;
  destroy(): Promise<void>;
}

const topicDeleted = (id: string): MetadataRecord => ({ kind: "topicDeleted", topicId: id });

/** A batch of one record, told apart by `id`. */
function batchOf(id: string): NewBatch {
  return { batchId: id, changeId: id, part: 0, partCount: 1, records: [topicDeleted(id)] };
}

async function appendAll(log: MetadataLog, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const outcome = await log.append(log.head.sequence, batchOf(id));
    expect(outcome.kind).toBe("appended");
  }
}

async function readAll(log: MetadataLog, from = 1): Promise<LoggedBatch[]> {
  const batches: LoggedBatch[] = [];
  for await (const batch of log.read(from)) batches.push(batch);
  return batches;
}

const idsOf = (batches: readonly LoggedBatch[]): string[] => batches.map((batch) => batch.batchId);

async function reasonOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return error instanceof AppError ? error.reason : String(error);
  }
  return "no error";
}

/** What the cases of one test share. */
interface State {
  harness: LogHarness;
  log: MetadataLog;
}

/** Runs the suite. */
export function describeMetadataLog(engine: string, createHarness: () => Promise<LogHarness>): void {
  describe(`metadata log: ${engine}`, () => {
    const state = {} as State;
    beforeEach(async () => {
      state.harness = await createHarness();
      state.log = await state.harness.open();
    });
    afterEach(async () => {
      await state.log.close();
      await state.harness.destroy();
    });
    appendCases(state);
    readCases(state);
    snapshotCases(state);
  });
}

function appendCases(state: State): void {
  it("counts sequences from 1 without gaps and chains hashes", async () => {
    expect(state.log.head).toEqual(logStart);
    await appendAll(state.log, ["a", "b", "c"]);
    const batches = await readAll(state.log);
    expect(batches.map((batch) => batch.position.sequence)).toEqual([1, 2, 3]);
    expect(new Set(batches.map((batch) => batch.position.hash)).size).toBe(3);
    expect(state.log.head).toEqual(batches.at(-1)?.position);
    expect(idsOf(await readAll(state.log, 2))).toEqual(["b", "c"]);
    expect(await readAll(state.log, 4)).toEqual([]);
  });

  it("carries every kind of record unchanged", async () => {
    const [batch] = planChange(sampleRecords) as [NewBatch];
    await state.log.append(0, batch);
    expect((await readAll(state.log))[0]?.records).toEqual(sampleRecords);
  });

  it("appends only where the log still ends: a stale writer changes nothing", async () => {
    await appendAll(state.log, ["a", "b"]);
    for (const stale of [0, 1, 3]) {
      expect(await state.log.append(stale, batchOf("stale"))).toEqual({
        kind: "conflict",
        head: state.log.head,
      });
    }
    expect(idsOf(await readAll(state.log))).toEqual(["a", "b"]);
    await appendAll(state.log, ["c"]);
  });

  it("refuses a batch over the limit and goes on", async () => {
    const large = { ...batchOf("large"), records: [topicDeleted("x".repeat(batchBytesMax))] };
    expect(await reasonOf(state.log.append(0, large))).toBe("LIMIT_EXCEEDED");
    await appendAll(state.log, ["a"]);
  });

  it("keeps every acknowledged batch through kill -9", async () => {
    await appendAll(state.log, ["a", "b", "c"]);
    const { logId, head } = state.log;
    await state.harness.kill(state.log);
    state.log = await state.harness.open();
    expect({ logId: state.log.logId, head: state.log.head }).toEqual({ logId, head });
    expect(idsOf(await readAll(state.log))).toEqual(["a", "b", "c"]);
    await appendAll(state.log, ["d"]);
    expect(idsOf(await readAll(state.log, 3))).toEqual(["c", "d"]);
  });
}

function readCases(state: State): void {
  it("watches what is there and what comes, in order, until it is aborted", async () => {
    await appendAll(state.log, ["a", "b"]);
    const abort = new AbortController();
    const seen: string[] = [];
    let waiting = Promise.withResolvers<unknown>();
    const watching = (async () => {
      for await (const batch of state.log.watch(2, abort.signal)) {
        seen.push(batch.batchId);
        waiting.resolve(undefined);
      }
    })();
    await waiting.promise;
    for (const id of ["c", "d"]) {
      waiting = Promise.withResolvers<unknown>();
      await appendAll(state.log, [id]);
      await waiting.promise;
    }
    expect(seen).toEqual(["b", "c", "d"]);
    abort.abort();
    await watching;
  });

  it("assembles a change of several batches, and voids it when a foreign one comes between", async () => {
    const records = Array.from({ length: 40 }, (_, index) => topicDeleted(`${index}`.padStart(30_000, "x")));
    const parts = planChange(records);
    expect(parts.length).toBeGreaterThan(2);
    for (const part of parts) await state.log.append(state.log.head.sequence, part);
    const [first, second] = planChange(records) as [NewBatch, NewBatch];
    await state.log.append(state.log.head.sequence, first);
    await appendAll(state.log, ["foreign"]);
    await state.log.append(state.log.head.sequence, second);
    await appendAll(state.log, ["last"]);
    const assembler = new ChangeAssembler();
    const changes = (await readAll(state.log))
      .map((batch) => assembler.add(batch))
      .filter((change) => change !== undefined);
    expect(changes.map((change) => change.position.sequence)).toEqual([
      parts.length,
      parts.length + 2,
      parts.length + 4,
    ]);
    expect(changes[0]?.records).toEqual(records);
  });
}

function snapshotCases(state: State): void {
  it("gives back the newest snapshot; the log behind the older of two may go, never more", async () => {
    expect(await state.log.loadSnapshot()).toBeUndefined();
    const snapshots = [];
    for (const id of ["a", "b", "c"]) {
      await appendAll(state.log, [id]);
      snapshots.push({ position: state.log.head, records: [topicDeleted(id), ...sampleRecords] });
      await state.log.saveSnapshot(snapshots.at(-1) as (typeof snapshots)[number]);
    }
    await appendAll(state.log, ["d"]);
    expect(await state.log.loadSnapshot()).toEqual(snapshots[2]);
    // From the older kept snapshot on everything is there.
    expect(idsOf(await readAll(state.log, 3))).toEqual(["c", "d"]);
    await state.harness.kill(state.log);
    state.log = await state.harness.open();
    expect(await state.log.loadSnapshot()).toEqual(snapshots[2]);
    expect(idsOf(await readAll(state.log, 3))).toEqual(["c", "d"]);
  });

  it("holds a snapshot of many chunks", async () => {
    await appendAll(state.log, ["a"]);
    const records = Array.from({ length: 60 }, (_, index) => topicDeleted(`${index}`.padStart(30_000, "y")));
    await state.log.saveSnapshot({ position: state.log.head, records });
    expect((await state.log.loadSnapshot())?.records).toEqual(records);
  });
}
