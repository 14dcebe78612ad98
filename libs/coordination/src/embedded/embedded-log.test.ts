import { cp, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { type Disk, type DiskFile, realDisk } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { describeMetadataLog } from "../testing/metadata-log-conformance.ts";
import type { NewBatch } from "../types.ts";
import { type EmbeddedLog, openEmbeddedLog } from "./embedded-log.ts";
import { frameBytes, headerBytes } from "./format.ts";

describeMetadataLog("embedded", async () => {
  const root = await mkdtemp(join(tmpdir(), "millrace-log-"));
  let directory = join(root, "1");
  return {
    open: () => openEmbeddedLog({ disk: realDisk, directory }),
    // What a killed process leaves is what is in the files at that moment.
    kill: async (log) => {
      const left = `${directory}1`;
      await cp(directory, left, { recursive: true });
      directory = left;
      await log.close();
    },
    destroy: () => rm(root, { recursive: true }),
  };
});

describe("embedded metadata log", () => {
  let directory: string;
  const logs: EmbeddedLog[] = [];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "millrace-log-"));
  });
  afterEach(async () => {
    await Promise.all(logs.splice(0).map((log) => log.close().catch(() => {})));
    await rm(directory, { recursive: true });
  });

  async function openLog(
    where = directory,
    disk: Disk = realDisk,
    fileBytesMax?: number,
  ): Promise<EmbeddedLog> {
    const log = await openEmbeddedLog({
      disk,
      directory: where,
      ...(fileBytesMax === undefined ? {} : { fileBytesMax }),
    });
    logs.push(log);
    return log;
  }

  const batch = (id: string): NewBatch => ({
    ...{ batchId: id, changeId: id, part: 0, partCount: 1 },
    records: [{ kind: "topicDeleted", topicId: id }],
  });

  async function append(log: EmbeddedLog, ...ids: string[]): Promise<void> {
    for (const id of ids) await log.append(log.head.sequence, batch(id));
  }

  async function ids(log: EmbeddedLog): Promise<string[]> {
    const found: string[] = [];
    for await (const { batchId } of log.read(1)) found.push(batchId);
    return found;
  }

  async function logFiles(): Promise<string[]> {
    return (await readdir(directory)).filter((name) => name.endsWith(".log"));
  }

  async function failure(work: Promise<unknown>): Promise<AppError> {
    const thrown: unknown = await work.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(thrown).toBeInstanceOf(AppError);
    return thrown as AppError;
  }

  /** Copies the directory, changes the only log file's bytes, opens the copy. */
  async function withBytes<T>(
    change: (bytes: Buffer) => Buffer,
    use: (copy: string) => Promise<T>,
  ): Promise<T> {
    const copy = await mkdtemp(join(tmpdir(), "millrace-copy-"));
    try {
      await cp(directory, copy, { recursive: true });
      const [name = ""] = await logFiles();
      await writeFile(join(copy, name), change(await readFile(join(copy, name))));
      return await use(copy);
    } finally {
      await rm(copy, { recursive: true });
    }
  }

  it("cuts a torn end at every byte of the last append, and goes on", async () => {
    const log = await openLog();
    await append(log, "a", "b");
    const [name = ""] = await logFiles();
    const before = (await stat(join(directory, name))).size;
    await append(log, "c");
    const after = (await stat(join(directory, name))).size;
    for (let size = before; size < after; size++) {
      // Either the file ends there, or what follows was never written and reads as zeros.
      for (const filler of [0, after - size]) {
        await withBytes(
          (bytes) => Buffer.concat([bytes.subarray(0, size), Buffer.alloc(filler)]),
          async (copy) => {
            const torn = await openEmbeddedLog({ disk: realDisk, directory: copy });
            const tail = filler === 0 ? size - before : after - before;
            // Zeros may happen to be what was written there.
            if (torn.head.sequence === 3) expect(filler).toBeGreaterThan(0);
            else {
              expect(torn.tornBytes).toBe(tail);
              expect(await ids(torn)).toEqual(["a", "b"]);
              await append(torn, "d");
              expect(await ids(torn)).toEqual(["a", "b", "d"]);
            }
            await torn.close();
          },
        );
      }
    }
  });

  it("stops at damage that others follow, at every byte, and changes nothing", async () => {
    const log = await openLog();
    await append(log, "a", "b");
    const [name = ""] = await logFiles();
    const lastEntry = (await stat(join(directory, name))).size;
    await append(log, "c");
    const bytes = await readFile(join(directory, name));
    for (let at = 0; at < lastEntry; at++) {
      await withBytes(
        (original) => {
          original[at] = (original[at] as number) ^ 0x10;
          return original;
        },
        async (copy) => {
          const error = await failure(openEmbeddedLog({ disk: realDisk, directory: copy }));
          expect(["RECORD_LOST_ON_DISK", "UNSUPPORTED_VERSION"]).toContain(error.reason);
          expect(error.message).toContain(name);
          expect((await readFile(join(copy, name))).byteLength).toBe(bytes.byteLength);
        },
      );
    }
  });

  it("does not cut below what a clean close proved durable", async () => {
    const log = await openLog();
    await append(log, "a", "b");
    await log.close();
    const [name = ""] = await logFiles();
    const { size } = await stat(join(directory, name));
    await truncate(join(directory, name), size - 1);
    const error = await failure(openLog());
    expect(error.reason).toBe("RECORD_LOST_ON_DISK");
    expect(error.message).toContain("batches through 2 were durable");
    expect((await stat(join(directory, name))).size).toBe(size - 1);
  });

  it("does not cut below a snapshot", async () => {
    const log = await openLog();
    await append(log, "a", "b");
    await log.saveSnapshot({ position: log.head, records: [] });
    const [name = ""] = await logFiles();
    await truncate(join(directory, name), (await stat(join(directory, name))).size - 1);
    expect((await failure(openLog())).message).toContain("were durable");
  });

  it("does not start an empty log where one was", async () => {
    const log = await openLog();
    await append(log, "a");
    await log.close();
    for (const name of await logFiles()) await rm(join(directory, name));
    expect((await failure(openLog())).reason).toBe("RECORD_LOST_ON_DISK");
  });

  it("rolls files, purges them behind the older snapshot, and says what was purged", async () => {
    const log = await openLog(directory, realDisk, 320);
    const all = Array.from({ length: 12 }, (_, index) => `b${index + 1}`);
    await append(log, ...all.slice(0, 6));
    const files = await logFiles();
    expect(files.length).toBeGreaterThan(2);
    await log.saveSnapshot({ position: log.head, records: [] });
    expect(await logFiles()).toEqual(files);
    await append(log, ...all.slice(6));
    await log.saveSnapshot({ position: log.head, records: [] });
    expect((await logFiles()).length).toBeLessThan(files.length + 3);
    const error = await failure(ids(log));
    expect(error.reason).toBe("INVALID_REQUEST");
    expect(error.message).toMatch(/starts at batch \d+/);
    const reopened = await openLog(directory, realDisk, 320);
    expect(reopened.head).toEqual(log.head);
    await append(reopened, "next");
    expect(reopened.head.sequence).toBe(13);
  });

  it("stops when a file in the middle is missing", async () => {
    const log = await openLog(directory, realDisk, 320);
    await append(log, ...Array.from({ length: 9 }, (_, index) => `b${index}`));
    const [, second = ""] = await logFiles();
    await rm(join(directory, second));
    expect((await failure(openLog())).message).toContain("does not follow batch");
  });

  it("falls back to the older snapshot when the newest is damaged, at every byte", async () => {
    const log = await openLog();
    await append(log, "a");
    const older = { position: log.head, records: [] };
    await log.saveSnapshot(older);
    await append(log, "b");
    await log.saveSnapshot({ position: log.head, records: [{ kind: "topicDeleted", topicId: "x" }] });
    const name = "00000000000000000002.snapshot";
    const bytes = await readFile(join(directory, name));
    for (let at = 0; at < bytes.byteLength; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] as number) ^ 0x01;
      await writeFile(join(directory, name), damaged);
      expect(await log.loadSnapshot()).toEqual(older);
      await writeFile(join(directory, name), bytes.subarray(0, at));
      expect(await log.loadSnapshot()).toEqual(older);
    }
  });

  it("removes what an interrupted replacement left", async () => {
    await append(await openLog(), "a");
    await writeFile(join(directory, "00000000000000000001.snapshot.x.tmp"), "half");
    await openLog();
    expect(await readdir(directory)).not.toContain("00000000000000000001.snapshot.x.tmp");
  });

  it("stops at a newer batch format with a clear message", async () => {
    const log = await openLog();
    await append(log, "a");
    const { MetadataBatch } = await import("@millrace/proto/metadatalog");
    const { encodeFrame } = await import("./format.ts");
    const payload = MetadataBatch.encode(
      MetadataBatch.create({
        formatVersion: 2,
        logId: log.logId,
        previousHash: Buffer.from(log.head.hash, "hex"),
      }),
    ).finish();
    const [name = ""] = await logFiles();
    const file = await open(join(directory, name), "a");
    await file.appendFile(Buffer.concat([encodeFrame(2, payload), payload]));
    await file.close();
    const error = await failure(openLog());
    expect(error.reason).toBe("UNSUPPORTED_VERSION");
    expect(error.message).toMatch(/format version 2.*start the version that wrote it/);
  });

  it("stops at a record of a kind it does not know", async () => {
    const log = await openLog();
    const { MetadataBatch } = await import("@millrace/proto/metadatalog");
    const { encodeFrame } = await import("./format.ts");
    const known = MetadataBatch.encode(
      MetadataBatch.create({ formatVersion: 1, logId: log.logId, partCount: 1 }),
    ).finish();
    // Field 8 (a record) with the unknown field 99 in it.
    const payload = Buffer.concat([known, Buffer.from([0x42, 0x03, 0x98, 0x06, 0x01])]);
    const [name = ""] = await logFiles();
    const file = await open(join(directory, name), "a");
    await file.appendFile(Buffer.concat([encodeFrame(1, payload), payload]));
    await file.close();
    expect((await failure(openLog())).message).toMatch(/does not know.*newer version/);
  });

  /** The real disk with failures planted into writes and syncs of log files. */
  class FailingDisk implements Disk {
    failWrite: string | undefined;
    failSync: string | undefined;
    list = realDisk.list.bind(realDisk);
    stat = realDisk.stat.bind(realDisk);
    makeDirectory = realDisk.makeDirectory.bind(realDisk);
    rename = realDisk.rename.bind(realDisk);
    link = realDisk.link.bind(realDisk);
    removeFile = realDisk.removeFile.bind(realDisk);
    removeTree = realDisk.removeTree.bind(realDisk);
    syncDirectory = realDisk.syncDirectory.bind(realDisk);
    freeBytes = realDisk.freeBytes.bind(realDisk);

    async open(path: string, mode: Parameters<Disk["open"]>[1]): Promise<DiskFile> {
      const file = await realDisk.open(path, mode);
      return {
        path,
        read: file.read.bind(file),
        truncate: file.truncate.bind(file),
        size: file.size.bind(file),
        close: file.close.bind(file),
        write: async (chunks, position) => {
          if (this.failWrite === undefined) return file.write(chunks, position);
          // Half of it arrives.
          const whole = Buffer.concat(chunks);
          await file.write([whole.subarray(0, whole.byteLength >> 1)], position);
          throw Object.assign(new Error("planted"), { code: this.failWrite });
        },
        dataSync: async () => {
          if (this.failSync !== undefined) throw Object.assign(new Error("planted"), { code: this.failSync });
          return file.dataSync();
        },
      };
    }
  }

  it("takes a write back when the disk is full, and goes on when there is room", async () => {
    const disk = new FailingDisk();
    const log = await openLog(directory, disk);
    await append(log, "a");
    disk.failWrite = "ENOSPC";
    const error = await failure(log.append(1, batch("b")));
    expect(error.reason).toBe("DISK_FULL");
    expect(log.head.sequence).toBe(1);
    expect(log.failure).toBeUndefined();
    disk.failWrite = undefined;
    await append(log, "c");
    expect(await ids(await openLog())).toEqual(["a", "c"]);
  });

  it("goes offline when the disk is full while it begins the next file only if it cannot take back", async () => {
    const disk = new FailingDisk();
    const log = await openLog(directory, disk, headerBytes + frameBytes + 150);
    await append(log, "a");
    disk.failWrite = "ENOSPC";
    expect((await failure(log.append(1, batch("b")))).reason).toBe("DISK_FULL");
    disk.failWrite = undefined;
    await append(log, "c", "d");
    expect(await ids(await openLog())).toEqual(["a", "c", "d"]);
  });

  it.each([
    ["a failed fsync", "failSync"],
    ["a failed write", "failWrite"],
  ] as const)("%s takes the log offline: no ack, no further append, until it is opened again", async (_, what) => {
    const disk = new FailingDisk();
    const log = await openLog(directory, disk);
    await append(log, "a");
    disk[what] = "EIO";
    expect((await failure(log.append(1, batch("b")))).reason).toBe("STORAGE_FAILED");
    disk[what] = undefined;
    expect((await failure(log.append(1, batch("c")))).reason).toBe("STORAGE_FAILED");
    expect(log.failure?.message).toContain("EIO");
    await log.close();
    // Unknown outcome: b is there or it is not; what was acknowledged is.
    const reopened = await openLog();
    expect([["a"], ["a", "b"]]).toContainEqual(await ids(reopened));
    await append(reopened, "d");
  });
});
