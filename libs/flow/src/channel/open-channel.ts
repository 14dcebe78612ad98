/** Opens the channels of a data directory by name. */
import { type DataDirectory, defaultLogConfig, type Log } from "@millrace/log";
import { type Clock, randomId } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { FileChannel } from "./file-channel.ts";
import { batchBytesMax, segmentBytesDefault } from "./limits.ts";
import type { ChannelLimits } from "./types.ts";

/** What a file channel is opened with. */
export interface OpenFileChannelOptions {
  readonly name: string;
  readonly directory: DataDirectory;
  readonly limits: ChannelLimits;
  /** Size of a segment file; delivered data goes in these units. */
  readonly segmentBytes?: number;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/** The file channel of this name, with its id of old, or a new one. */
export async function openFileChannel(options: OpenFileChannelOptions): Promise<FileChannel> {
  const { directory, name, segmentBytes = segmentBytesDefault } = options;
  // a batch is never larger than a segment file
  const recordBytes = Math.min(options.limits.recordBytes, segmentBytes);
  const fitting = { ...options, limits: { ...options.limits, recordBytes } };
  const config = {
    ...defaultLogConfig,
    segmentBytes,
    // only delivered records go, by advanceStart
    segmentMs: Number.MAX_SAFE_INTEGER,
    retentionMs: -1,
    retentionBytes: -1,
    batchBytesMax,
    flushPolicy: "fsync" as const,
  };
  const present = channelLog(directory, name);
  if (present === undefined) {
    const id = { kind: "channel" as const, channelId: randomId(), channelName: name };
    return FileChannel.open({ ...fitting, log: await directory.createLog(id, config) });
  }
  present.alterConfig(config);
  return FileChannel.open({ ...fitting, log: present });
}

/** The log of the channel of this name. */
export function channelLog(directory: DataDirectory, name: string): Log | undefined {
  return directory.logs.find(({ id }) => id.kind === "channel" && id.channelName === name);
}
