import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDataDirectory } from "@millrace/log";
import { realDisk, systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { FlowRecord, Offering } from "../contract.ts";
import { SourceBooks } from "./source-books.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-books-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const open = () =>
  openDataDirectory({ path: folder, disk: realDisk, clock: systemClock, identity: { role: "agent" } });

const record: FlowRecord = { key: null, value: Buffer.from("x"), headers: [], timestampMs: 0 };
const records = (count: number): FlowRecord[] => Array.from({ length: count }, () => record);

/** Puts the offerings, each in its own entry, restarting in between. */
async function countsAfter(offerings: readonly Offering[]): Promise<SourceBooks["counts"]> {
  for (const offering of offerings) {
    const directory = await open();
    const books = new SourceBooks(directory, "r1");
    const { durable } = directory.commit([], books.changes(offering));
    books.put(offering, false);
    const before = books.counts;
    await durable;
    expect(new SourceBooks(directory, "r1").counts).toEqual(before);
    await directory.close();
  }
  const directory = await open();
  const { counts } = new SourceBooks(directory, "r1");
  await directory.close();
  return counts;
}

const position = (key: string, recordCount: number) => ({ key, order: recordCount, value: "v", recordCount });

describe("S1: what a source has read, over all its starts", () => {
  test("is what its positions account for: reading again from an older one counts once", async () => {
    const counts = await countsAfter([
      { records: records(3), positions: [position("a", 3)] },
      { records: records(2), positions: [position("b", 2)] },
      { records: records(3), positions: [position("a", 3)] },
    ]);
    expect(counts).toEqual({ read: 5, withheld: 0 });
  });

  test("a stream that is over keeps its count", async () => {
    const counts = await countsAfter([
      { records: records(3), positions: [position("a", 3)] },
      { records: [], positions: [{ key: "a", order: 9, value: null }] },
      { records: records(1), positions: [position("a", 1)] },
    ]);
    expect(counts).toEqual({ read: 4, withheld: 0 });
  });

  test("without counted positions it is what was put and withheld", async () => {
    const counts = await countsAfter([{ records: records(3) }, { records: records(2), withheldCount: 1 }]);
    expect(counts).toEqual({ read: 6, withheld: 1 });
  });

  test("withheld records are told apart from those put", async () => {
    const counts = await countsAfter([
      { records: records(2), positions: [position("a", 3)], withheldCount: 1 },
    ]);
    expect(counts).toEqual({ read: 3, withheld: 1 });
  });
});
