/** The parts of an agent that the benches drive directly: a data directory, a file channel, a put path into it. */
import { join } from "node:path";
import { type FileChannel, type FlowRecord, openFileChannel, PutPath } from "@millrace/flow";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { letHeapGrow, realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";

/** Bytes of a record's value: Flume's usual event. */
export const recordValueBytes = 500;

/** See the file's comment. */
export interface AgentParts {
  readonly directory: DataDirectory;
  readonly channel: FileChannel;
  readonly putPath: PutPath;
  readonly telemetry: Telemetry;
  close(): Promise<void>;
}

/** Opens a data directory with one file channel, `name`, and a put path into it, in a process set up as an agent's is. */
export async function openAgentParts(folder: string, name: string): Promise<AgentParts> {
  letHeapGrow();
  const directory = await openDataDirectory({
    path: join(folder, "agent"),
    disk: realDisk,
    clock: systemClock,
    identity: { role: "agent" },
  });
  const telemetry = createTelemetry({ service: "bench", node: "bench", destination: "silent" });
  const parts = { directory, clock: systemClock, telemetry };
  const limits = {
    records: 10_000_000,
    bytes: 8_000_000_000,
    transactionRecords: 10_000,
    recordBytes: 1_000_000,
    keepAliveMs: 3000,
  };
  const channel = await openFileChannel({ ...parts, name, limits });
  const putPath = new PutPath({ ...parts, source: "bench", required: [channel], optional: [] });
  const close = async (): Promise<void> => {
    putPath.close();
    await channel.close();
    await directory.close();
  };
  return { directory, channel, putPath, telemetry, close };
}

/** So many records of 500 B. */
export function makeRecords(count: number): FlowRecord[] {
  const value = Buffer.from(Array.from({ length: recordValueBytes }, (_, i) => (i * 7919) & 0xff));
  const timestampMs = Date.now();
  return Array.from({ length: count }, () => ({ key: null, value, headers: [], timestampMs }));
}
