import { mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeBatch, readBatchHeader } from "@millrace/record";
import { realDisk, systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, expect, it } from "vitest";
import { defaultLogConfig, openDataDirectory } from "./index.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-damage-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const openFolder = () =>
  openDataDirectory({ path: folder, disk: realDisk, clock: systemClock, identity: { role: "agent" } });

it("J4: what stands behind damaged batches of a segment is read; the damage is stepped over", async () => {
  const id = { kind: "channel", channelId: "AAAAAAAAAAAAAAAAAAAAAA", channelName: "c1" } as const;
  const record = { key: null, value: Buffer.alloc(100, 7), headers: [], timestampMs: 1 };
  const directory = await openFolder();
  const log = await directory.createLog(id, defaultLogConfig);
  const sizeBytes = encodeBatch([record]).byteLength;
  for (let i = 0; i < 6; i++) {
    await directory.commit([{ logs: [log], batch: encodeBatch([record]), leaderEpoch: 0 }]).durable;
  }
  await directory.close();
  const channel = join(folder, "channels", id.channelId);
  const segment = (await readdir(channel)).find((name) => name.endsWith(".log")) ?? "";
  const file = await open(join(channel, segment), "r+");
  for (const batch of [1, 3]) await file.write(Buffer.alloc(20, 255), 0, 20, batch * sizeBytes + 70);
  await file.close();
  const again = await openFolder();
  const reopened = again.getLog(id);
  const offsets: (number | string)[] = [];
  for (let offset = 0; offset < 6; offset++) {
    try {
      const [chunk] = (await reopened?.read(offset, 1)) ?? [];
      offsets.push(chunk === undefined ? "nothing" : readBatchHeader(chunk).baseOffset);
    } catch (error) {
      offsets.push(String((error as { reason?: string }).reason));
    }
  }
  expect(offsets).toEqual([0, "RECORD_LOST_ON_DISK", 2, "RECORD_LOST_ON_DISK", 4, 5]);
  await again.close();
});
