import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createFileExclusively, readWholeFile, replaceFile } from "./atomic-file.ts";
import { Backoff, retry } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import { lockDirectory } from "./directory-lock.ts";
import { realDisk } from "./disk.ts";
import { isId, randomId } from "./ids.ts";
import { Shutdown } from "./shutdown.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-runtime-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the real disk", () => {
  it("writes many chunks at a position and reads them back", async () => {
    const file = await realDisk.open(join(folder, "f"), "create");
    const chunks = Array.from({ length: 3000 }, (_, i) => new Uint8Array(i % 5).fill(i));
    await file.write(chunks, 7);
    await file.dataSync();
    const all = Buffer.concat(chunks);
    expect(await file.size()).toBe(7 + all.length);
    const back = new Uint8Array(all.length);
    expect(await file.read(back, 0, back.length, 7)).toBe(all.length);
    expect(Buffer.from(back).equals(all)).toBe(true);
    expect(await file.read(back, 0, 10, 7 + all.length)).toBe(0);
    await file.close();
  });

  it("tells absence from failure", async () => {
    expect(await realDisk.stat(join(folder, "none"))).toBeUndefined();
    expect(await realDisk.list(join(folder, "none"))).toEqual([]);
    await realDisk.removeFile(join(folder, "none"));
    await expect(realDisk.open(join(folder, "none"), "read")).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("makes folders with their parents, private to the user", async () => {
    await realDisk.makeDirectory(join(folder, "a/b/c"));
    await realDisk.makeDirectory(join(folder, "a/b/c"));
    expect((await realDisk.stat(join(folder, "a/b/c")))?.kind).toBe("directory");
  });
});

describe("atomic files", () => {
  it("replaces a file whole and leaves no temporary behind", async () => {
    await replaceFile(realDisk, join(folder, "f"), Buffer.from("one"));
    await replaceFile(realDisk, join(folder, "f"), Buffer.from("two"));
    expect(await readFile(join(folder, "f"), "utf8")).toBe("two");
    expect(await readdir(folder)).toEqual(["f"]);
    expect(await readWholeFile(realDisk, join(folder, "none"))).toBeUndefined();
  });

  it("C2: of many racing creators of one name exactly one wins, and its bytes stay", async () => {
    const path = join(folder, "entry");
    const wins = await Promise.all(
      Array.from({ length: 16 }, (_, i) => createFileExclusively(realDisk, path, Buffer.from(`writer ${i}`))),
    );
    expect(wins.filter(Boolean)).toHaveLength(1);
    expect(await readFile(path, "utf8")).toBe(`writer ${wins.indexOf(true)}`);
    expect(await readdir(folder)).toEqual(["entry"]);
  });
});

describe("the directory lock", () => {
  it("keeps a second holder out, within the process and from another, and is free after release", () => {
    const lock = lockDirectory(folder);
    expect(() => lockDirectory(folder)).toThrow(AppError);
    const program = `
      const { lockDirectory } = await import(${JSON.stringify(new URL("./directory-lock.ts", import.meta.url).href)});
      try { lockDirectory(${JSON.stringify(folder)}); console.log("got it"); } catch (e) { console.log(e.message); }`;
    const run = (): string =>
      spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" }).stdout;
    expect(run()).toContain(`in use by process ${process.pid}`);
    lock.release();
    expect(run()).toContain("got it");
    // the other process is gone without releasing: the kernel dropped its lock
    lockDirectory(folder).release();
  });
});

describe("retry and back-off", () => {
  const quick: Clock = {
    nowMs: () => 0,
    monotonicMs: () => 0,
    after: (delayMs, run) => systemClock.after(delayMs, run),
    sleep: () => Promise.resolve(),
  };

  it("repeats retriable failures only", async () => {
    let calls = 0;
    const result = await retry(
      () => {
        calls++;
        if (calls < 4) throw new AppError("NOT_LEADER", "elsewhere");
        return Promise.resolve("done");
      },
      { clock: quick, firstMs: 1, capMs: 2 },
    );
    expect([result, calls]).toEqual(["done", 4]);
    calls = 0;
    const never = (): Promise<never> => {
      calls++;
      return Promise.reject(new AppError("INVALID_TOPIC", "x"));
    };
    await expect(retry(never, { clock: quick, firstMs: 1, capMs: 2 })).rejects.toMatchObject({
      reason: "INVALID_TOPIC",
    });
    expect(calls).toBe(1);
  });

  it("grows to the cap and stays between half the step and the step", () => {
    const low = new Backoff({ firstMs: 100, capMs: 1000, random: () => 0 });
    expect([1, 2, 3, 4, 5, 6].map(() => low.nextMs())).toEqual([50, 100, 200, 400, 500, 500]);
  });
});

describe("shutdown", () => {
  it("stops parts in reverse order, and one that fails or hangs does not keep the others", async () => {
    const stopped: string[] = [];
    const shutdown = new Shutdown(systemClock, 20);
    shutdown.register("first", () => {
      stopped.push("first");
    });
    shutdown.register("hangs", () => new Promise<void>(() => undefined));
    shutdown.register("fails", () => Promise.reject(new Error("no")));
    shutdown.register("last", () => {
      stopped.push("last");
    });
    const failures = await shutdown.stop();
    expect(stopped).toEqual(["last", "first"]);
    expect(failures.map((failure) => failure.reason)).toEqual(["INTERNAL", "TIMED_OUT"]);
    expect(shutdown.signal.aborted).toBe(true);
  });
});

describe("ids", () => {
  it("are 22 characters and never look like a flag", () => {
    for (let i = 0; i < 500; i++) {
      const id = randomId();
      expect(isId(id)).toBe(true);
      expect(id.startsWith("-")).toBe(false);
    }
  });
});
