import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry } from "@millrace/telemetry";
import { describe, expect, it } from "vitest";
import { type ChannelSetup, conformChannel } from "../conformance/channel.ts";
import { PutPath } from "../put/put-path.ts";
import { openFileChannel } from "./open-channel.ts";

const limits = {
  records: 10_000,
  bytes: 64 * 1024 * 1024,
  transactionRecords: 10_000,
  recordBytes: 16 * 1024 * 1024,
  keepAliveMs: 100,
};
const telemetry = createTelemetry({ service: "test", node: "test", destination: "silent" });
const signal = new AbortController().signal;

function openDirectory(path: string): Promise<DataDirectory> {
  return openDataDirectory({ path, disk: realDisk, clock: systemClock, identity: { role: "agent" } });
}

async function open(path: string): Promise<ChannelSetup> {
  const directory = await openDirectory(path);
  const options = { directory, clock: systemClock, telemetry };
  const channel = await openFileChannel({ ...options, name: "c1", limits });
  const putPath = new PutPath({ ...options, source: "r1", required: [channel], optional: [] });
  const close = async (): Promise<void> => {
    await channel.close();
    await directory.close();
  };
  let isClosed = false;
  return {
    channel,
    put: async (records) => {
      expect(await putPath.offer({ records }, { waitMs: 0, signal })).toBe("committed");
    },
    reopen: async () => {
      isClosed = true;
      await close();
      const again = await open(path);
      closers.push(again.tearDown);
      return again;
    },
    tearDown: async () => {
      if (!isClosed) await close();
      for (const closer of closers.splice(0)) await closer();
      await rm(path, { recursive: true, force: true });
    },
  };
}

const closers: (() => Promise<void>)[] = [];

describe("file channel", () => {
  const cases = conformChannel({
    setUp: async () => open(await mkdtemp(join(tmpdir(), "millrace-channel-"))),
  });
  for (const { title, run } of cases) it(title, run);
});
