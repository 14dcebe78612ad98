import { join } from "node:path";
import { SimDisk } from "@millrace/testkit";
import { describe, expect, it } from "vitest";
import { journalFilePath } from "./journal-files.ts";
import {
  encodeEntryHead,
  encodeJournalHeader,
  entryBytes,
  entryKind,
  type JournalEntry,
} from "./journal-format.ts";
import { scanJournal } from "./journal-scan.ts";

const directoryId = "abcdefghijklmnopqrstuv";
const journal = "/d/journal";

interface Written {
  readonly entryNumber: number;
  readonly durableThrough?: number;
  readonly generation?: number;
}

/** Writes a journal file with one small state entry per number; returns the position of each entry. */
async function writeFile(
  disk: SimDisk,
  generation: number,
  entries: readonly Written[],
  options: { firstEntryNumber?: number; directoryId?: string; headerGeneration?: number } = {},
): Promise<number[]> {
  await disk.makeDirectory(journal);
  const firstEntryNumber = options.firstEntryNumber ?? entries[0]?.entryNumber ?? 1;
  const parts = [
    encodeJournalHeader({
      generation: options.headerGeneration ?? generation,
      firstEntryNumber,
      directoryId: options.directoryId ?? directoryId,
    }),
  ];
  const positions: number[] = [];
  let at = 64;
  for (const written of entries) {
    const entry: JournalEntry = {
      kind: entryKind.append,
      appends: [],
      state: [{ key: "n", value: Buffer.from(String(written.entryNumber)) }],
    };
    const bytes = Buffer.alloc(entryBytes(entry));
    encodeEntryHead(bytes, 0, { generation, durableThrough: written.entryNumber - 1, ...written }, entry);
    positions.push(at);
    at += bytes.length;
    parts.push(bytes);
  }
  const file = await disk.open(journalFilePath(journal, generation), "create");
  await file.write([Buffer.concat([...parts, Buffer.alloc(200)])], 0);
  await file.close();
  return positions;
}

async function scan(
  disk: SimDisk,
  throughEntry = 0,
): Promise<{ seen: number[]; lastEntry: number; spare: readonly number[]; isTorn: boolean }> {
  const seen: number[] = [];
  const result = await scanJournal(disk, journal, { directoryId, throughEntry }, (_entry, found) =>
    seen.push(found.entryNumber),
  );
  return { seen, lastEntry: result.lastEntry, spare: result.spare, isTorn: result.tornAt !== undefined };
}

const numbered = (...numbers: number[]): Written[] => numbers.map((entryNumber) => ({ entryNumber }));
const flip = (byte: number): number => byte ^ 0x10;

describe("J2 the journal at start", () => {
  it("reads dense entries across files and stops at the first that is not whole", async () => {
    const disk = new SimDisk();
    await writeFile(disk, 3, numbered(1, 2));
    const positions = await writeFile(disk, 4, [
      { entryNumber: 3 },
      { entryNumber: 4 },
      // Same group as 4: it does not prove 4 durable.
      { entryNumber: 5, durableThrough: 3 },
    ]);
    expect(await scan(disk)).toEqual({ seen: [1, 2, 3, 4, 5], lastEntry: 5, spare: [], isTorn: false });
    disk.corrupt(journalFilePath(journal, 4), (positions[1] as number) + 40, flip);
    expect(await scan(disk)).toEqual({ seen: [1, 2, 3], lastEntry: 3, spare: [], isTorn: true });
  });

  it("knows a re-used file's stale entries by generation and by number", async () => {
    const disk = new SimDisk();
    await writeFile(disk, 5, [
      { entryNumber: 1 },
      { entryNumber: 2, generation: 2 },
      { entryNumber: 3, durableThrough: 0 },
    ]);
    expect((await scan(disk)).seen).toEqual([1]);
    await writeFile(disk, 5, numbered(1, 3));
    // 3 was written when 2 was fsynced: 2 is not torn, it is lost.
    await expect(scan(disk)).rejects.toThrow(/entry 2 was durable/);
    await writeFile(disk, 5, [{ entryNumber: 1 }, { entryNumber: 3, durableThrough: 1 }]);
    expect((await scan(disk)).seen).toEqual([1]);
  });

  it("takes a renamed file that was not begun for a spare", async () => {
    const disk = new SimDisk();
    await writeFile(disk, 5, numbered(1, 2));
    await writeFile(disk, 6, numbered(1, 2), { headerGeneration: 3 });
    await disk.open(journalFilePath(journal, 7), "create");
    expect(await scan(disk)).toMatchObject({ seen: [1, 2], spare: [6, 7] });
  });

  it("reports damage below what later entries prove durable, instead of ending there", async () => {
    const disk = new SimDisk();
    const positions = await writeFile(disk, 5, numbered(1, 2, 3));
    disk.corrupt(journalFilePath(journal, 5), (positions[1] as number) + 40, flip);
    await expect(scan(disk)).rejects.toMatchObject({ reason: "RECORD_LOST_ON_DISK" });
  });

  it("reports a gap between files, a lost header and a missing file", async () => {
    const disk = new SimDisk();
    await writeFile(disk, 5, numbered(1, 2));
    await writeFile(disk, 6, numbered(4));
    await expect(scan(disk)).rejects.toThrow(/entries 3 to 3 are unreadable/);
    // A checkpoint that covers them makes it harmless.
    expect((await scan(disk, 3)).seen).toEqual([1, 2, 4]);
    disk.corrupt(journalFilePath(journal, 5), 20, flip);
    await expect(scan(disk, 3)).rejects.toThrow(/has lost its header/);
    await disk.removeFile(journalFilePath(journal, 5));
    await expect(scan(disk, 2)).rejects.toThrow(/entries 3 to 3 are missing/);
    await writeFile(disk, 9, numbered(5));
    await expect(scan(disk, 3)).rejects.toThrow(/0007.journal is missing/);
  });

  it("refuses another directory's journal and a newer format", async () => {
    const disk = new SimDisk();
    await writeFile(disk, 1, numbered(1), { directoryId: "zzzzzzzzzzzzzzzzzzzzzz" });
    await expect(scan(disk)).rejects.toMatchObject({ reason: "LINEAGE_REFUSED" });
    await writeFile(disk, 1, numbered(1));
    disk.corrupt(join(journal, `${"1".padStart(20, "0")}.journal`), 11, () => 9);
    await expect(scan(disk)).rejects.toThrow(/journal format 9/);
  });
});
