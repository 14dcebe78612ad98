import {
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ComponentContext, FlowRecord } from "@millrace/flow";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { taildirConfig, taildirFromFlume } from "./config.ts";
import { kindOfSample } from "./discovery.ts";
import { TaildirSource } from "./taildir-source.ts";

let folder: string;
let protectedPaths: string[];
const open: TaildirSource[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-taildir-"));
  protectedPaths = [];
});

afterEach(async () => {
  for (const source of open.splice(0)) await source.close();
  await rm(folder, { recursive: true, force: true });
});

/** A source with the positions of its "channel": what was committed survives it, nothing else does. */
class Harness {
  readonly committed = new Map<string, string>();
  readonly records: FlowRecord[] = [];
  source: TaildirSource;
  readonly #config: Record<string, unknown>;

  constructor(config: Record<string, unknown> = {}) {
    this.#config = { pollInterval: 20, ...config };
    this.source = this.#create();
  }

  #create(): TaildirSource {
    const context: ComponentContext = {
      name: "r1",
      telemetry: createTelemetry({ service: "test", node: "t", destination: "silent" }),
      clock: systemClock,
      disk: realDisk,
      workDirectory: join(folder, ".work"),
      ownerName: "a1",
      ownerId: "id",
      protectedPaths,
      bootstrapServers: [],
    };
    const source = new TaildirSource(
      taildirConfig.parse({ paths: [join(folder, "*.log")], ...this.#config }),
      context,
    );
    open.push(source);
    return source;
  }

  /** Kill and start again: only committed positions are known. */
  async restart(): Promise<void> {
    await this.source.close();
    this.source = this.#create();
    await this.source.open(this.committed);
  }

  /** Reads and commits until `count` records came in all. */
  async until(count: number): Promise<string[]> {
    const signal = AbortSignal.timeout(5000);
    while (this.records.length < count && !signal.aborted) await this.readOnce();
    return this.lines;
  }

  async readOnce(recordsMax = 100): Promise<boolean> {
    const result = await this.source.read(recordsMax);
    if (result.isIdle && result.records.length === 0)
      await this.source.whenReadable(AbortSignal.timeout(5000));
    this.records.push(...result.records);
    for (const { key, value } of result.positions) {
      if (value === null) this.committed.delete(key);
      else this.committed.set(key, value);
    }
    return result.isIdle;
  }

  /** Reads one record at a time until so many files are known. */
  async untilSeen(files: number): Promise<void> {
    const signal = AbortSignal.timeout(5000);
    while (this.source.streamCount() < files && !signal.aborted) await this.readOnce(1);
  }

  /** Reads until it is idle twice. */
  async drain(): Promise<string[]> {
    for (let idle = 0; idle < 2; ) idle = (await this.readOnce()) ? idle + 1 : 0;
    return this.lines;
  }

  get lines(): string[] {
    return this.records.map((record) => Buffer.from(record.value ?? []).toString("latin1"));
  }
}

const lines = (name: string, count: number): string =>
  Array.from({ length: count }, (_, i) => `${name}${i}\n`).join("");

const path = (name: string): string => join(folder, name);

async function started(config?: Record<string, unknown>): Promise<Harness> {
  const harness = new Harness(config);
  await harness.source.open(harness.committed);
  return harness;
}

describe("taildir", () => {
  it("gives bytes as they are: CR, NUL, invalid UTF-8, empty lines", async () => {
    const ugly = Buffer.from("a\r\n\n\0\0x\n\xff\xfe\xc3(\n\t\n", "latin1");
    await writeFile(path("a.log"), ugly);
    const harness = await started();
    expect(await harness.drain()).toEqual(["a\r", "", "\0\0x", "\xff\xfe\xc3(", "\t"]);
  });

  it("waits with a last line until its newline is there", async () => {
    await writeFile(path("a.log"), "one\ntw");
    const harness = await started();
    expect(await harness.drain()).toEqual(["one"]);
    await appendFile(path("a.log"), "o\n");
    expect(await harness.until(2)).toEqual(["one", "two"]);
  });

  it("a newline that comes after an unfinished last line is no record, also not at the next finish", async () => {
    await writeFile(path("a.log"), "one");
    const harness = await started();
    harness.source.finish();
    expect(await harness.drain()).toEqual(["one"]);
    await appendFile(path("a.log"), "\n");
    await harness.restart();
    harness.source.finish();
    expect(await harness.drain()).toEqual(["one"]);
    await appendFile(path("a.log"), "two");
    await harness.restart();
    harness.source.finish();
    expect(await harness.drain()).toEqual(["one", "two"]);
  });

  it("S1: positions count the records they account for, and reading again counts once", async () => {
    await writeFile(path("a.log"), "one\ntwo\nthree\n");
    const harness = await started({ batchSize: 2 });
    const counts: (number | undefined)[] = [];
    const read = async (): Promise<void> => {
      const { positions } = await harness.source.read(2);
      counts.push(positions.at(-1)?.recordCount);
      for (const { key, value } of positions) if (value !== null) harness.committed.set(key, value);
    };
    await read();
    const saved = new Map(harness.committed);
    await read();
    expect(counts).toEqual([2, 3]);
    harness.committed.clear();
    for (const [key, value] of saved) harness.committed.set(key, value);
    await harness.restart();
    await read();
    expect(counts).toEqual([2, 3, 3]);
  });

  it("gives the unfinished last line on finish, and a newline that comes later is not a line of its own", async () => {
    await writeFile(path("a.log"), "one\ntwo");
    const harness = await started();
    await harness.drain();
    harness.source.finish();
    expect(await harness.drain()).toEqual(["one", "two"]);
    await appendFile(path("a.log"), "\nthree\n");
    await harness.restart();
    expect(await harness.until(3)).toEqual(["one", "two", "three"]);
  });

  it("A1: goes on at the committed position after a restart, byte for byte", async () => {
    await writeFile(path("a.log"), Array.from({ length: 250 }, (_, i) => `line ${i}\n`).join(""));
    const harness = await started();
    await harness.readOnce();
    const uncommitted = await harness.source.read(100);
    expect(uncommitted.records.length).toBeGreaterThan(0);
    await harness.restart();
    expect(await harness.drain()).toEqual(Array.from({ length: 250 }, (_, i) => `line ${i}`));
  });

  it("gives a 1 MB line whole and cuts one over the limit into parts with nothing lost", async () => {
    const long = "x".repeat(1024 * 1024);
    await writeFile(path("a.log"), `${long}\nend\n`);
    const whole = await started();
    expect((await whole.drain()).map((line) => line.length)).toEqual([long.length, 3]);
    const cut = await started({ maxLineBytes: 300_000 });
    const parts = await cut.drain();
    expect(parts.slice(0, -1).join("")).toBe(long);
    expect(
      cut.records.slice(0, -1).map((record) => Buffer.from(record.headers[0]?.value ?? []).toString()),
    ).toEqual(["0", "1", "2", "3"]);
    expect(cut.records.at(-1)?.headers).toEqual([]);
  });

  describe("rotation", () => {
    it("reads a renamed file to its end before the new file of the name, each line once, in order", async () => {
      await writeFile(path("app.log"), "1\n2\n");
      const harness = await started({ paths: [path("app.log")] });
      await harness.until(2);
      await appendFile(path("app.log"), "3\n");
      await rename(path("app.log"), path("app.log.1"));
      await writeFile(path("app.log"), "4\n");
      await appendFile(path("app.log.1"), "3b\n");
      expect(await harness.until(5)).toEqual(["1", "2", "3", "3b", "4"]);
      expect(new Set(harness.records.map((record) => record.streamId))).toEqual(new Set([path("app.log")]));
    });

    it("does not read a file again when its new name matches too", async () => {
      await writeFile(path("app.log"), "1\n");
      const harness = await started({ paths: [], filegroups: { app: join(folder, "app\\.log(\\.\\d+)?") } });
      await harness.until(1);
      await rename(path("app.log"), path("app.log.1"));
      await writeFile(path("app.log"), "2\n");
      expect(await harness.until(2)).toEqual(["1", "2"]);
      await harness.restart();
      expect(await harness.drain()).toEqual(["1", "2"]);
    });

    it("finds the rest of a file that was renamed while nobody looked", async () => {
      await writeFile(path("app.log"), "1\n2\n");
      const harness = await started({ paths: [path("app.log")] });
      await harness.until(2);
      await appendFile(path("app.log"), "3\n");
      await rename(path("app.log"), path("app.log.1"));
      await writeFile(path("app.log"), "4\n");
      await harness.restart();
      expect(await harness.until(4)).toEqual(["1", "2", "3", "4"]);
    });

    it("reads parts that were rotated away while nobody looked oldest first, also those not begun", async () => {
      await writeFile(path("app.log"), lines("a", 150));
      const harness = await started({ paths: [path("app.log")] });
      await harness.readOnce();
      await rename(path("app.log"), path("app.log.1"));
      await writeFile(path("app.log"), lines("b", 150));
      // seen, but not begun: the older part has lines left
      await harness.untilSeen(2);
      await rename(path("app.log"), path("app.log.2"));
      await writeFile(path("app.log"), lines("c", 150));
      await harness.restart();
      const expected = ["a", "b", "c"].flatMap((name) => lines(name, 150).trimEnd().split("\n"));
      expect(await harness.until(450)).toEqual(expected);
    });

    it("reads a truncated file from its start, also when it has grown beyond the old position", async () => {
      await writeFile(path("a.log"), "1\n2\n");
      const harness = await started();
      await harness.until(2);
      await copyFile(path("a.log"), path("a.log.copy"));
      await truncate(path("a.log"), 0);
      await appendFile(path("a.log"), "a longer text than before\n");
      expect(await harness.until(3)).toEqual(["1", "2", "a longer text than before"]);
      await truncate(path("a.log"), 0);
      await harness.drain();
      await appendFile(path("a.log"), "z\n");
      expect(await harness.until(4)).toEqual(["1", "2", "a longer text than before", "z"]);
    });

    it("is not fooled by an inode that is used again", async () => {
      await writeFile(path("a.log"), "old content\n");
      const harness = await started();
      await harness.until(1);
      await harness.source.close();
      // the same inode with another content, as after delete and re-create on ext4
      await truncate(path("a.log"), 0);
      await appendFile(path("a.log"), "new content, longer than the old\n");
      await harness.restart();
      expect(await harness.until(2)).toEqual(["old content", "new content, longer than the old"]);
    });
  });

  it("lets no busy file starve another", async () => {
    await writeFile(path("a.log"), lines("a", 1000));
    await writeFile(path("b.log"), "b\n");
    const harness = await started();
    await harness.readOnce();
    await harness.readOnce();
    expect(harness.lines).toContain("b");
    expect(harness.lines).toContain("a0");
  });

  it("takes up files that appear later and starts at the end only with skipToEnd, once", async () => {
    await writeFile(path("a.log"), "skipped\n");
    const harness = await started({ skipToEnd: true });
    await harness.drain();
    await appendFile(path("a.log"), "while down\n");
    await harness.restart();
    expect(await harness.until(1)).toEqual(["while down"]);
  });

  it("reads at most the last bytes at first sight, from a whole line on", async () => {
    await writeFile(
      path("a.log"),
      Array.from({ length: 100 }, (_, i) => `line ${String(i).padStart(4, "0")}\n`).join(""),
    );
    const harness = await started({ firstSightBytes: 25 });
    expect(await harness.drain()).toEqual(["line 0098", "line 0099"]);
  });

  it("adds the headers asked for", async () => {
    await writeFile(path("a.log"), "1\n22\n");
    const harness = await started({
      paths: [],
      filegroups: { g: path("a\\.log") },
      headers: { g: { env: "prod" } },
      fileHeader: true,
      byteOffsetHeader: true,
    });
    await harness.drain();
    expect(
      harness.records.map((record) =>
        record.headers.map((h) => `${h.key}=${Buffer.from(h.value ?? []).toString()}`),
      ),
    ).toEqual([
      ["env=prod", `file=${path("a.log")}`, "byteoffset=0"],
      ["env=prod", `file=${path("a.log")}`, "byteoffset=2"],
    ]);
  });

  it("lists once what it leaves alone, with the reason, and never reads Millrace's own data", async () => {
    await writeFile(path("text.log"), "t\n");
    await writeFile(path("zip.log"), Buffer.from([0x1f, 0x8b, 8, 0]));
    await writeFile(path("bin.log"), Buffer.alloc(100));
    await symlink("loop.log", path("loop.log"));
    await symlink("text.log", path("link.log"));
    await mkdir(path("data"));
    await writeFile(path("data/meta"), '{"directoryId":"x"}');
    await writeFile(path("data/own.log"), "own\n");
    await mkdir(path("guarded"));
    await writeFile(path("guarded/g.log"), "guarded\n");
    protectedPaths = [path("guarded")];
    const harness = await started({ paths: [join(folder, "**/*.log")], skipBinary: true });
    expect(await harness.drain()).toEqual(["t"]);
    const reasons = Object.fromEntries(
      harness.source.skipped().map(({ name, reason }) => [name.slice(folder.length + 1), reason]),
    );
    expect(reasons).toEqual({
      "zip.log": "compressed",
      "bin.log": "binary",
      "loop.log": "symlink loop",
      "data/own.log": "Millrace's own data",
      "guarded/g.log": "Millrace's own data",
    });
  });

  it("takes Flume's flat keys and its position file", async () => {
    const keys = new Map([
      ["filegroups", "f1 f2"],
      ["filegroups.f1", "/var/log/a.log"],
      ["filegroups.f2", "/var/log/b.*"],
      ["headers.f1.k.with.dots", "v"],
      ["fileHeader", "true"],
      ["batchSize", "50"],
    ]);
    expect(taildirConfig.parse(taildirFromFlume(keys))).toMatchObject({
      filegroups: { f1: "/var/log/a.log", f2: "/var/log/b.*" },
      headers: { f1: { "k.with.dots": "v" } },
      fileHeader: true,
      batchSize: 50,
    });
    await writeFile(path("a.log"), "read by flume\nnew\n");
    const { ino } = await import("node:fs").then((fs) => fs.statSync(path("a.log")));
    await writeFile(path("positions.json"), JSON.stringify([{ inode: ino, pos: 14, file: path("a.log") }]));
    const harness = await started({ positionFile: path("positions.json") });
    expect(await harness.drain()).toEqual(["new"]);
  });

  it("tells text from binary and compressed data", () => {
    expect(kindOfSample(Buffer.from("plain text\n"))).toBeUndefined();
    expect(kindOfSample(Buffer.from("\xff\xfe latin1 \x1b[31m", "latin1"))).toBeUndefined();
    expect(kindOfSample(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]))).toBe("compressed");
    expect(kindOfSample(Buffer.alloc(64))).toBe("binary");
  });
});
