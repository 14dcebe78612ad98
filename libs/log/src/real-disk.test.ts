import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { realDisk, systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openDataDirectory } from "./directory.ts";
import { startsMax } from "./limits.ts";
import { append, batchOf, otherId, readAll, smallConfig, topicId } from "./testing/test-helpers.ts";
import type { DataDirectory, DirectoryIdentity, Log } from "./types.ts";

let parent: string;
const opened: DataDirectory[] = [];

beforeEach(async () => {
  parent = await mkdtemp(join(import.meta.dirname, ".test-"));
});

afterEach(async () => {
  for (const directory of opened.splice(0)) await directory.close();
  await rm(parent, { recursive: true, force: true });
});

async function open(path: string, identity: DirectoryIdentity = { role: "storage" }): Promise<DataDirectory> {
  const directory = await openDataDirectory({ path, disk: realDisk, clock: systemClock, identity });
  opened.push(directory);
  return directory;
}

const refusal = (reason: string, message: RegExp): object => ({
  reason,
  message: expect.stringMatching(message) as string,
});

describe("a data directory on the real disk", () => {
  it("gives back what was committed, after a close and after none", async () => {
    const path = join(parent, "deep", "data");
    const directory = await open(path);
    const logs = [
      await directory.createLog(topicId, smallConfig),
      await directory.createLog(otherId, smallConfig),
    ];
    const durables = [];
    for (let i = 0; i < 200; i++) {
      const batch = batchOf(`b${i}`, { valueBytes: 10 + (i % 50) * 11 });
      durables.push(
        directory.commit([{ logs, batch, leaderEpoch: 0 }], [{ key: "n", value: Buffer.from(String(i)) }])
          .durable,
      );
    }
    await Promise.all(durables);
    const expected = Array.from({ length: 200 }, (_, i) => [i, `b${i}`]);
    for (const log of logs) expect(await readAll(log)).toEqual(expected);
    await directory.close();
    const again = await open(path);
    expect(again.recovery.wasClean).toBe(true);
    expect(again.logs.map((log) => log.label)).toEqual(["topic-0", "other-1"]);
    for (const log of again.logs) expect(await readAll(log)).toEqual(expected);
    expect(Buffer.from(again.getState("n") ?? []).toString()).toBe("199");
    await append(again, again.logs, batchOf("more"));
    expect((await readAll(again.getLog(topicId) as Log, 200))[0]).toEqual([200, "more"]);
  });

  it("is opened by one process at a time", async () => {
    const path = join(parent, "data");
    const first = await open(path);
    await expect(open(path)).rejects.toMatchObject({ reason: "ALREADY_LOCKED" });
    await first.close();
    await open(path);
  });

  it("refuses a folder that is not its own, and leaves it as it was", async () => {
    const path = join(parent, "foreign");
    await mkdir(path);
    await writeFile(join(path, "letter.txt"), "dear");
    await expect(open(path)).rejects.toMatchObject(
      refusal("INVALID_CONFIG", /holds "letter.txt" and no meta file/),
    );
    expect(await readFile(join(path, "letter.txt"), "utf8")).toBe("dear");
    expect((await readdir(path)).filter((name) => !name.startsWith("."))).toEqual(["letter.txt"]);
  });

  it("refuses a path that is a file", async () => {
    await writeFile(join(parent, "file"), "");
    await expect(open(join(parent, "file"))).rejects.toMatchObject(
      refusal("INVALID_CONFIG", /cannot be used/),
    );
  });

  it("refuses another role, cluster, node and a newer format, each in one sentence", async () => {
    const path = join(parent, "data");
    const directory = await open(path);
    await directory.setIdentity({ clusterId: "one", nodeId: "1" });
    await expect(directory.setIdentity({ clusterId: "two", nodeId: "1" })).rejects.toMatchObject({
      reason: "CLUSTER_MISMATCH",
    });
    await directory.close();
    await expect(open(path, { role: "agent" })).rejects.toMatchObject(
      refusal("INVALID_CONFIG", /role storage, not of agent/),
    );
    await expect(open(path, { role: "storage", clusterId: "two" })).rejects.toMatchObject(
      refusal("CLUSTER_MISMATCH", /belongs to cluster one, not to two/),
    );
    await expect(open(path, { role: "storage", clusterId: "one", nodeId: "2" })).rejects.toMatchObject(
      refusal("CLUSTER_MISMATCH", /belongs to node 1, not to 2/),
    );
    const meta = JSON.parse(await readFile(join(path, "meta"), "utf8")) as Record<string, unknown>;
    await writeFile(join(path, "meta"), JSON.stringify({ ...meta, formatVersion: 9 }));
    await expect(open(path)).rejects.toMatchObject(
      refusal("UNSUPPORTED_VERSION", /newer version \(format 9/),
    );
    for (const broken of [
      "",
      "{",
      "[1]",
      '{"formatVersion":1}',
      '{"formatVersion":1,"role":"storage","directoryId":5}',
    ]) {
      await writeFile(join(path, "meta"), broken);
      await expect(open(path)).rejects.toMatchObject({ reason: "INVALID_CONFIG" });
    }
    // The refusals have not used up the directory: with its meta back it opens.
    await writeFile(join(path, "meta"), JSON.stringify(meta));
    expect((await open(path)).meta.clusterId).toBe("one");
  });

  it("L1 L2: appends a start to a bounded history before it is open, and keeps its directory id", async () => {
    const path = join(parent, "data");
    const first = await open(path);
    const { directoryId } = first.meta;
    expect(first.meta.starts).toHaveLength(1);
    await first.close();
    const second = await open(path);
    expect(second.meta).toMatchObject({ directoryId, starts: [first.meta.starts[0], expect.any(String)] });
    await second.close();
    const meta = JSON.parse(await readFile(join(path, "meta"), "utf8")) as Record<string, unknown>;
    await writeFile(
      join(path, "meta"),
      JSON.stringify({ ...meta, starts: Array.from({ length: startsMax }, (_, i) => String(i)) }),
    );
    const third = await open(path);
    expect(third.meta.starts).toHaveLength(startsMax);
    expect(third.meta.starts[0]).toBe("1");
    expect((JSON.parse(await readFile(join(path, "meta"), "utf8")) as { starts: string[] }).starts).toEqual(
      third.meta.starts,
    );
  });

  it("stops with a clear message when its journal or checkpoint is damaged", async () => {
    const path = join(parent, "data");
    const directory = await open(path);
    await append(directory, [await directory.createLog(topicId, smallConfig)], batchOf("a"));
    await directory.close();
    const checkpoint = join(path, "journal", "checkpoint");
    const bytes = await readFile(checkpoint);
    await writeFile(checkpoint, bytes.subarray(0, bytes.length - 4));
    await expect(open(path)).rejects.toMatchObject(refusal("RECORD_LOST_ON_DISK", /checkpoint is damaged/));
    await writeFile(checkpoint, bytes);
    await open(path);
  });
});
