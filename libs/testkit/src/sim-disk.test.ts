import { readWholeFile, replaceFile } from "@millrace/runtime";
import { describe, expect, it } from "vitest";
import { SimClock, SimDisk } from "./index.ts";

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString("latin1");

async function diskWith(path: string, content: string): Promise<SimDisk> {
  const disk = new SimDisk();
  await disk.makeDirectory("/d");
  await replaceFile(disk, path, Buffer.from(content));
  return disk;
}

describe("SimDisk", () => {
  it("keeps synced bytes and loses unsynced ones when nothing survives", async () => {
    const disk = await diskWith("/d/a", "synced");
    const file = await disk.open("/d/a", "write");
    await file.write([Buffer.from("lost")], 6);
    expect(text(disk.contents("/d/a"))).toBe("syncedlost");
    expect(text(disk.crash(0).contents("/d/a"))).toBe("synced");
    expect(text(disk.crash(1).contents("/d/a"))).toBe("syncedlost");
    await file.dataSync();
    expect(text(disk.crash(0).contents("/d/a"))).toBe("syncedlost");
  });

  it("makes names durable only with syncDirectory, and renames whole", async () => {
    const disk = await diskWith("/d/a", "x");
    const file = await disk.open("/d/b", "create");
    await file.write([Buffer.from("b")], 0);
    await file.dataSync();
    expect(await disk.crash(0).list("/d")).toEqual(["a"]);
    await disk.rename("/d/b", "/d/c");
    await disk.syncDirectory("/d");
    expect(await disk.crash(0).list("/d")).toEqual(["a", "c"]);
    await disk.removeFile("/d/a");
    expect(await disk.crash(0).list("/d")).toEqual(["a", "c"]);
    expect(await disk.crash(1).list("/d")).toEqual(["c"]);
  });

  it("tears unsynced writes at sectors, differently by seed, equally for the same seed", async () => {
    const disk = await diskWith("/d/a", "");
    const file = await disk.open("/d/a", "write");
    await file.write([Buffer.alloc(512 * 40, 1)], 0);
    const shapes = new Set<string>();
    for (let seed = 2; seed < 30; seed++) {
      const bytes = disk.crash(seed).contents("/d/a") as Uint8Array;
      expect(text(bytes)).toBe(text(disk.crash(seed).contents("/d/a")));
      for (let at = 0; at + 512 <= bytes.length; at += 512) {
        expect(new Set(bytes.subarray(at, at + 512)).size).toBe(1);
      }
      shapes.add(Buffer.from(bytes).toString("base64"));
    }
    expect(shapes.size).toBeGreaterThan(3);
  });

  it("leaves the disk and its images independent of each other", async () => {
    const disk = await diskWith("/d/a", "one");
    const image = disk.crash(0);
    await (await disk.open("/d/a", "write")).write([Buffer.from("two")], 0);
    await (await image.open("/d/a", "write")).write([Buffer.from("3")], 0);
    expect([text(disk.contents("/d/a")), text(image.contents("/d/a"))]).toEqual(["two", "3ne"]);
  });

  it("injects errors and runs full", async () => {
    const disk = await diskWith("/d/a", "12345");
    disk.inject = ({ kind }) => (kind === "dataSync" ? "EIO" : undefined);
    const file = await disk.open("/d/a", "write");
    await expect(file.dataSync()).rejects.toMatchObject({ code: "EIO" });
    disk.inject = undefined;
    disk.capacityBytes = 8;
    await expect(file.write([Buffer.alloc(4)], 5)).rejects.toMatchObject({ code: "ENOSPC" });
    await file.write([Buffer.alloc(3)], 5);
    expect(await disk.freeBytes("/")).toBe(0);
    expect((await readWholeFile(disk, "/d/a"))?.length).toBe(8);
  });
});

describe("SimClock", () => {
  it("runs timers in order while it is moved, and jumps the wall alone", async () => {
    const clock = new SimClock(1000);
    const seen: string[] = [];
    clock.after(20, () => seen.push(`b${clock.nowMs()}`));
    clock.after(10, () => {
      seen.push(`a${clock.nowMs()}`);
      clock.after(5, () => seen.push(`c${clock.nowMs()}`));
    });
    clock.after(11, () => seen.push("never")).cancel();
    const slept = clock.sleep(30);
    clock.advance(30);
    await slept;
    expect(seen).toEqual(["a1010", "c1015", "b1020"]);
    clock.jumpWall(1000);
    expect([clock.nowMs(), clock.monotonicMs(), clock.timerCount]).toEqual([2030, 30, 0]);
  });
});
