import { mkdir, readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Origin } from "@millrace/flow";
import { crc32c } from "@millrace/record";
import { type Disk, type DiskFile, realDisk, systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readCommitLog } from "./commit-log.ts";
import { fileSinkSchema, fromFlumeKeys } from "./config.ts";
import { bufferBytes } from "./data-file.ts";
import { decodeEntry, encodeEntry, entryFileName } from "./entry.ts";
import {
  expectedLines,
  makeSink,
  never,
  numbered,
  origin,
  published,
  publishedLines,
  sinkRecord,
  temporaryFolder,
} from "./testing/harness.ts";
import { StepDisk } from "./testing/step-disk.ts";

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let directory: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  directory = join(folder.path, "out");
});
afterEach(() => folder.remove());

const entriesFolder = (): string =>
  join(directory, ".millrace", `${"c".repeat(22)}.connector-1.${"t".repeat(22)}-0`, "entries");

describe("publishing", () => {
  it("shows only complete files, named by topic, partition and first offset, without a colon", async () => {
    const { open, write, flush, feedback, sink } = makeSink(directory);
    expect(await open(1)).toEqual({ resumeFrom: undefined });
    await write(numbered(0, 3));
    expect(await published(directory)).toEqual(new Map());
    await flush();
    await write(numbered(3, 5));
    await flush();
    expect(Object.fromEntries(await published(directory))).toEqual({
      "logs-0-00000000000000000000.log": "record 0\nrecord 1\nrecord 2\n",
      "logs-0-00000000000000000003.log": "record 3\nrecord 4\n",
    });
    expect(feedback.delivered_).toEqual([3, 5]);
    expect(sink.publishedCount()).toBe(5);
    await sink.close();
  });

  it("an entry says what C2 asks for, and its books grow over restarts", async () => {
    const first = makeSink(directory);
    await first.open(7);
    await first.write({
      ...numbered(0, 3),
      records: numbered(0, 3).records.map((r, i) => ({
        ...r,
        sourcePosition: { key: "a.log", order: i + 10 },
      })),
      leaderEpoch: 4,
    });
    await first.flush();
    await first.sink.close();
    const [entry] = await readCommitLog(realDisk, directory);
    const text = "record 0\nrecord 1\nrecord 2\n";
    expect(entry).toMatchObject({
      number: 2,
      origin,
      ownerId: "connector-1",
      epoch: 7,
      generation: 1,
      begun: 0,
      resume: { offset: 3, leaderEpoch: 4 },
      floor: 2,
      totals: { files: 1, records: 3, bytes: text.length, refused: 0 },
      files: [
        {
          name: "logs-0-00000000000000000000.log",
          bucket: "",
          firstOffset: 0,
          lastOffset: 2,
          count: 3,
          bytes: text.length,
          crc32c: crc32c(Buffer.from(text)),
          positions: { "a.log": 12 },
        },
      ],
    });
    const second = makeSink(directory);
    expect(await second.open(8)).toEqual({ resumeFrom: 3, leaderEpoch: 4 });
    await second.write(numbered(3, 10));
    await second.flush();
    expect((await readCommitLog(realDisk, directory))[0]?.totals).toMatchObject({ files: 2, records: 10 });
    await second.sink.close();
  });

  it("the order is C3's: data fsynced, folder, entry, its folder, listing, then rename", async () => {
    const disk = new StepDisk(realDisk);
    const { open, write, flush } = makeSink(directory, disk);
    await open(1);
    disk.steps.length = 0;
    await write(numbered(0, 3));
    await flush();
    const data = ["open:createNew", "write", "dataSync", "syncDirectory"];
    const entry = ["open:createNew", "write", "dataSync", "link", "removeFile", "syncDirectory", "list"];
    expect(disk.steps.slice(0, 14)).toEqual([...data, ...entry, "stat", "stat", "rename"]);
  });

  it("old entries go: their number stays bounded, and the highest is always there", async () => {
    const { open, write, flush } = makeSink(directory);
    await open(1);
    for (let i = 0; i < 30; i++) {
      await write(numbered(i, i + 1));
      await flush();
    }
    const names = await readdir(entriesFolder());
    expect(names.length).toBeLessThanOrEqual(6);
    expect(names.at(-1)).toBe(entryFileName(31));
  });

  it.each([
    ["rollCount", { rollCount: 4 }, ["4", "4", "2"]],
    ["rollSize", { rollSize: 20 }, ["3", "3", "3", "1"]],
  ])("rolls by %s in the middle of a batch", async (_, config, counts) => {
    const { open, write, flush, sink } = makeSink(directory, realDisk, config);
    await open(1);
    await write(numbered(0, 10));
    await flush();
    const files = [...(await published(directory)).values()];
    expect(files.map((text) => String(text.split("\n").length - 1))).toEqual(counts);
    expect(await publishedLines(directory)).toEqual(expectedLines(10));
    await sink.close();
  });

  it("rolls by time without being asked", async () => {
    const { open, write, feedback, sink } = makeSink(directory, realDisk, { rollInterval: 0.05 });
    await open(1);
    await write(numbered(0, 3));
    await vi.waitFor(() => expect(feedback.delivered_).toEqual([3]), { timeout: 5000, interval: 5 });
    expect(await publishedLines(directory)).toEqual(expectedLines(3));
    await sink.close();
  });

  it("offsets without records move the resume offset, without a file (C5)", async () => {
    const { open, write, flush, sink } = makeSink(directory);
    await open(1);
    await write({ from: 0, to: 100, records: [], leaderEpoch: 2, setAsideCount: 3 });
    await flush();
    expect(sink.books()).toEqual({ begun: 0, resume: 100, published: 0, setAside: 3, files: 0 });
    await sink.close();
    expect(await published(directory)).toEqual(new Map());
    expect(await makeSink(directory).open(2)).toEqual({ resumeFrom: 100, leaderEpoch: 2 });
  });

  it("what is given again below the resume offset is left out (C5)", async () => {
    const first = makeSink(directory);
    await first.open(1);
    await first.write(numbered(0, 5));
    await first.flush();
    await first.sink.close();
    const second = makeSink(directory);
    await second.open(2);
    await second.write(numbered(0, 10));
    await second.flush();
    expect(await publishedLines(directory)).toEqual(expectedLines(10));
  });

  it("closing publishes nothing and leaves no temporary", async () => {
    const { open, write, sink } = makeSink(directory);
    await open(1);
    await write(numbered(0, 5));
    await sink.close();
    expect(await published(directory)).toEqual(new Map());
    expect(await readdir(join(entriesFolder(), "..", "tmp"))).toEqual([]);
    await expect(sink.write(numbered(0, 5), never)).rejects.toMatchObject({ reason: "CANCELLED" });
  });

  it("a sink of a channel starts where the channel stands when the directory is new", async () => {
    const channel: Origin = {
      kind: "channel",
      agentId: "a".repeat(22),
      agentName: "a1",
      channelId: "k".repeat(22),
      channelName: "c 1",
    };
    const first = makeSink(directory);
    expect(await first.open(1, { origin: channel, deliveredThrough: 40 })).toEqual({ resumeFrom: undefined });
    await first.write(numbered(40, 42, -1));
    await first.flush();
    expect([...(await published(directory)).keys()]).toEqual(["c_1-00000000000000000040.log"]);
    await first.sink.close();
    expect((await readCommitLog(realDisk, directory))[0]).toMatchObject({
      begun: 40,
      resume: { offset: 42 },
    });
    expect(await makeSink(directory).open(2, { origin: channel, deliveredThrough: 0 })).toMatchObject({
      resumeFrom: 42,
    });
  });
});

describe("names never collide", () => {
  it("a re-created topic (L3) starts at 0 beside the old files, and neither replaces the other", async () => {
    const again: Origin = { ...origin, topicId: "u".repeat(22) } as Origin;
    for (const [epoch, from] of [origin, again, origin, again].entries()) {
      const { open, write, flush, sink } = makeSink(directory);
      const standing = await open(epoch + 1, { origin: from });
      const at = standing.resumeFrom ?? 0;
      await write(numbered(at, at + 2));
      await flush();
      await sink.close();
    }
    expect([...(await published(directory)).keys()]).toEqual([
      "logs-0-00000000000000000000.log",
      "logs-0-00000000000000000002.log",
      "logs-0.2-00000000000000000000.log",
      "logs-0.2-00000000000000000002.log",
    ]);
  });

  it("two connectors of one topic share a directory and do not meet; a reset one starts over (C9)", async () => {
    for (const owner of ["connector-1", "connector-2"]) {
      const { open, write, flush, sink } = makeSink(directory, realDisk, {}, owner);
      expect(await open(1)).toEqual({ resumeFrom: undefined });
      await write(numbered(0, 2));
      await flush();
      await sink.close();
    }
    const back = makeSink(directory, realDisk, {}, "connector-1");
    expect(await back.open(2)).toMatchObject({ resumeFrom: 2 });
    expect((await readCommitLog(realDisk, directory)).map((entry) => entry.ownerId)).toEqual([
      "connector-1",
      "connector-2",
    ]);
    expect((await published(directory)).size).toBe(2);
  });

  it("a foreign file of the wanted name is left alone", async () => {
    await mkdir(directory);
    await writeFile(join(directory, "logs-0-00000000000000000000.log"), "mine");
    const { open, write, flush } = makeSink(directory);
    await open(1);
    await write(numbered(0, 2));
    await flush();
    expect(Object.fromEntries(await published(directory))).toEqual({
      "logs-0-00000000000000000000.log": "mine",
      "logs-0-00000000000000000000.1.log": "record 0\nrecord 1\n",
    });
  });

  it("a published file that the user deleted stays deleted", async () => {
    const first = makeSink(directory);
    await first.open(1);
    await first.write(numbered(0, 2));
    await first.flush();
    await unlink(join(directory, "logs-0-00000000000000000000.log"));
    await first.sink.close();
    const second = makeSink(directory);
    expect(await second.open(2)).toMatchObject({ resumeFrom: 2 });
    expect(second.sink.publishedCount()).toBe(2);
    expect(await published(directory)).toEqual(new Map());
  });
});

describe("bytes", () => {
  const ugly: readonly (string | Uint8Array | null)[] = [
    "",
    null,
    "plain",
    "carriage\r",
    Uint8Array.of(0),
    Uint8Array.of(0xff, 0xfe, 0x00, 0xc3, 0x28),
    "\\n already",
    new Uint8Array(1_000_000).fill(0x78),
    new Uint8Array(bufferBytes * 3).fill(0x79),
  ];

  async function writeAll(
    values: readonly (string | Uint8Array | null)[],
    config: Parameters<typeof makeSink>[2],
  ): Promise<Buffer> {
    const test = makeSink(directory, realDisk, config);
    await test.open(1);
    await test.write({
      from: 0,
      to: values.length,
      records: values.map((value, i) => sinkRecord(i, value)),
      leaderEpoch: 0,
    });
    await test.flush();
    refused = test.feedback.refused;
    await test.sink.close();
    const [name] = (await readdir(directory)).filter((one) => !one.startsWith("."));
    return readFile(join(directory, name as string));
  }
  let refused: { offset: number; reason: string }[] = [];

  it("text: as they were, and a newline", async () => {
    const expected = Buffer.concat(ugly.flatMap((value) => [Buffer.from(value ?? ""), Buffer.from("\n")]));
    expect((await writeAll(ugly, {})).equals(expected)).toBe(true);
  });

  it.each([
    ["escape", "a\\nb\\n\\n\nplain\n", []],
    ["keep", "a\nb\n\n\nplain\n", []],
    ["reject", "plain\n", [{ offset: 0, reason: "newline-in-value" }]],
  ] as const)("text: newlines inside: %s", async (newlines, expected, expectedRefused) => {
    expect((await writeAll(["a\nb\n\n", "plain"], { newlines })).toString()).toBe(expected);
    expect(refused).toEqual(expectedRefused);
    const [entry] = await readCommitLog(realDisk, directory);
    expect(entry?.totals.refused).toBe(expectedRefused.length);
    expect(entry?.resume.offset).toBe(2);
  });

  it("json: keeps everything", async () => {
    const test = makeSink(directory, realDisk, { format: "json" });
    await test.open(1);
    const bytes = Uint8Array.of(0xff, 0x00);
    const records = [
      { ...sinkRecord(0, "a\nb"), key: Buffer.from("k"), timestampMs: 12 },
      {
        ...sinkRecord(1, null),
        key: bytes,
        headers: [
          { key: "h", value: bytes },
          { key: "h", value: null },
          { key: "__proto__", value: Buffer.from("v") },
          { key: "__millrace.stream", value: bytes },
        ],
      },
      sinkRecord(2, ""),
    ];
    await test.write({ from: 0, to: 3, records, leaderEpoch: 0 });
    await test.flush();
    const lines = [...(await published(directory))].flatMap(([name, text]) => [
      name,
      ...text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
    ]);
    const common = { topic: "logs", partition: 0 };
    expect(lines).toEqual([
      "logs-0-00000000000000000000.jsonl",
      { ...common, offset: 0, timestamp: 12, key: "k", value: "a\nb", headers: [] },
      {
        ...common,
        offset: 1,
        timestamp: -1,
        keyBase64: "/wA=",
        value: null,
        headers: [
          { key: "h", valueBase64: "/wA=" },
          { key: "h", value: null },
          { key: "__proto__", value: "v" },
        ],
      },
      { ...common, offset: 2, timestamp: -1, key: null, value: "", headers: [] },
    ]);
  });
});

/** A disk whose file writes or syncs fail with `code` while `fails()`. */
function failingDisk(code: string, operation: "write" | "dataSync", fails: () => boolean): Disk {
  const fail = (): Promise<never> =>
    Promise.reject(Object.assign(new Error(`${code}: as planned`), { code }));
  return new Proxy(realDisk, {
    get: (disk, name: keyof Disk) =>
      name === "open"
        ? async (...args: Parameters<Disk["open"]>) =>
            new Proxy(await disk.open(...args), {
              get: (file, method: keyof DiskFile) => {
                if (method === operation && fails()) return fail;
                const value: unknown = Reflect.get(file, method);
                return typeof value === "function" ? (value.bind(file) as unknown) : value;
              },
            })
        : (disk[name].bind(disk) as unknown),
  });
}

describe("a failing disk loses nothing", () => {
  it.each([
    ["ENOSPC", "write", "DISK_FULL"],
    ["EIO", "write", "STORAGE_FAILED"],
    ["EIO", "dataSync", "STORAGE_FAILED"],
  ] as const)("%s on %s: a named error, and the next opening goes on", async (code, operation, reason) => {
    let isFailing = false;
    const test = makeSink(
      directory,
      failingDisk(code, operation, () => isFailing),
    );
    await test.open(1);
    await test.write(numbered(0, 5));
    await test.flush();
    isFailing = true;
    const failed = test.write(numbered(5, 10)).then(test.flush);
    await expect(failed).rejects.toMatchObject({
      reason,
      message: expect.stringContaining(directory) as string,
    });
    // Broken until it is opened again: nothing half-written may be committed.
    isFailing = false;
    await expect(test.flush()).rejects.toMatchObject({ reason });
    await test.sink.close();
    expect(await test.open(1)).toMatchObject({ resumeFrom: 5 });
    await test.write(numbered(5, 10));
    await test.flush();
    expect(await publishedLines(directory)).toEqual(expectedLines(10));
    expect(test.feedback.delivered_).toEqual([5, 10]);
  });

  it("a failure at the roll by time reaches the runner", async () => {
    let isFailing = false;
    const disk = failingDisk("EIO", "dataSync", () => isFailing);
    const test = makeSink(directory, disk, { rollInterval: 0.02 });
    await test.open(1);
    isFailing = true;
    await test.write(numbered(0, 5));
    await vi.waitFor(() => expect(test.feedback.failures).toHaveLength(1), { timeout: 5000, interval: 5 });
    await test.sink.close();
  });

  it("a directory that cannot be made is named", async () => {
    await writeFile(join(folder.path, "file"), "");
    const test = makeSink(join(folder.path, "file", "out"));
    await expect(test.open(1)).rejects.toMatchObject({
      message: expect.stringContaining("file/out") as string,
    });
  });
});

describe("a commit entry", () => {
  async function damageLast(change: (text: string) => string): Promise<void> {
    const test = makeSink(directory);
    await test.open(1);
    await test.sink.close();
    const path = join(entriesFolder(), entryFileName(1));
    await writeFile(path, change(await readFile(path, "utf8")));
  }

  it.each([
    ["torn", (text: string) => text.slice(0, 40), "STORAGE_FAILED"],
    ["with a changed digit", (text: string) => text.replace('"offset":0', '"offset":7'), "STORAGE_FAILED"],
    ["not an object", () => "null", "STORAGE_FAILED"],
    [
      "of a newer version",
      (text: string) => text.replace('"formatVersion":1', '"formatVersion":2'),
      "UNSUPPORTED_VERSION",
    ],
  ] as const)("%s: refused with its path, never skipped", async (_, change, reason) => {
    await damageLast(change);
    const error = { reason, message: expect.stringContaining(entryFileName(1)) as string };
    await expect(makeSink(directory).open(2)).rejects.toMatchObject(error);
    await expect(readCommitLog(realDisk, directory)).rejects.toMatchObject(error);
  });

  it("every flipped bit is noticed", async () => {
    await damageLast((text) => text);
    const path = join(entriesFolder(), entryFileName(1));
    const bytes = await readFile(path);
    const whole = decodeEntry(bytes, path);
    expect(Buffer.from(encodeEntry(whole)).equals(bytes)).toBe(true);
    for (let bit = 0; bit < (bytes.length - 1) * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      let read: unknown;
      try {
        read = decodeEntry(flipped, path);
      } catch {
        continue;
      }
      // Only a change that says the same may pass (white space).
      expect(read).toEqual(whole);
    }
  });
});

describe("configuration", () => {
  it("takes Flume's keys", () => {
    const flume = new Map([
      ["sink.directory", "/var/out"],
      ["sink.rollInterval", "0"],
      ["sink.serializer", "TEXT"],
      ["sink.batchSize", "1000"],
      ["sink.pathManager", "DEFAULT"],
      ["sink.pathManager.prefix", "p-"],
      ["sink.pathManager.extension", "txt"],
    ]);
    expect(fileSinkSchema.parse(fromFlumeKeys(flume))).toMatchObject({
      directory: "/var/out",
      rollInterval: 0,
      serializer: "TEXT",
      batchSize: 1000,
      prefix: "p-",
      extension: "txt",
      format: "text",
      newlines: "escape",
    });
  });

  it.each([
    [{}, "directory"],
    [{ directory: "d", rolInterval: 1 }, "rolInterval"],
    [{ directory: "d", rollInterval: -1 }, "rollInterval"],
    [{ directory: "d", prefix: "../x" }, "prefix"],
    [{ directory: "d", extension: "a/b" }, "extension"],
    [{ directory: "d", serializer: "HEADER_AND_TEXT" }, "serializer"],
    [{ directory: "d", format: "xml" }, "format"],
  ])("refuses %j and names %s", (config, key) => {
    const result = fileSinkSchema.safeParse(config);
    expect(result.success).toBe(false);
    expect(JSON.stringify(result.error?.issues)).toContain(key);
  });

  it("the clock of a sink is the injected one", async () => {
    const after = vi.spyOn(systemClock, "after");
    const { open, write, sink } = makeSink(directory, realDisk, { rollInterval: 30 });
    await open(1);
    await write(numbered(0, 1));
    expect(after).toHaveBeenCalledWith(30_000, expect.any(Function));
    await sink.close();
    after.mockRestore();
  });
});
