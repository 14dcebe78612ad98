/** Builds the parts of a pipeline from its configuration. */
import { join } from "node:path";
import { AppError, invariant } from "@millrace/base";
import type { DataDirectory } from "@millrace/log";
import { MemoryChannel } from "../channel/memory-channel.ts";
import { openFileChannel } from "../channel/open-channel.ts";
import type { Channel } from "../channel/types.ts";
import type { PipelineConfig, SinkConfig, SourceConfig } from "../config/pipeline-config.ts";
import type { ComponentContext } from "../contract.ts";
import { PutPath } from "../put/put-path.ts";
import { DeadLetters } from "../run/dead-letters.ts";
import { InterceptorChain } from "../run/interceptor-chain.ts";
import { PullRunner } from "../run/pull-runner.ts";
import { PushRunner } from "../run/push-runner.ts";
import { SinkBooks } from "../run/sink-books.ts";
import { type SinkLimits, SinkRunner } from "../run/sink-runner.ts";
import type { PipelineRuntime } from "./runtime.ts";

/** Either kind of source at work. */
export type RunningSource = PullRunner | PushRunner;

/** Bytes of one take, about. */
const takeBytes = 1024 * 1024;
/** Records and bytes taken and not settled, at most half of the channel. */
const windowRecordsMax = 500_000;
const windowBytesMax = 256 * 1024 * 1024;
/** A sink that holds records is flushed when nothing came for this long, milliseconds. */
const flushIdleMsDefault = 30_000;

const epochKey = "agent/epoch";

/** The number of this start, durable before it is used: higher fences lower (C1). */
export async function startEpoch(directory: DataDirectory): Promise<number> {
  const saved = directory.getState(epochKey);
  const epoch = saved === undefined ? 1 : Number(Buffer.from(saved).toString()) + 1;
  invariant(Number.isSafeInteger(epoch), "the number of the start is a number");
  await directory.commit([], [{ key: epochKey, value: Buffer.from(String(epoch)) }]).durable;
  return epoch;
}

/** Opens all channels, by name. */
export async function openChannels(
  config: PipelineConfig,
  runtime: PipelineRuntime,
): Promise<ReadonlyMap<string, Channel>> {
  const channels = new Map<string, Channel>();
  for (const { name, settings } of config.channels) {
    const channel =
      settings.type === "memory"
        ? new MemoryChannel(name, settings.limits)
        : await openFileChannel({ ...runtime, name, ...settings });
    channels.set(name, channel);
  }
  return channels;
}

/** Makes a source and its runner. */
export function openSource(
  source: SourceConfig,
  channels: ReadonlyMap<string, Channel>,
  runtime: PipelineRuntime,
): RunningSource {
  const { name, definition, config, batchSize } = source;
  const telemetry = runtime.telemetry.child({ component: name });
  const { clock } = runtime;
  const interceptors = source.interceptors.map((one) => ({
    name: one.name,
    interceptor: one.definition.create(one.config, contextOf(one.name, runtime)),
  }));
  const path = new PutPath({
    source: name,
    directory: runtime.directory,
    required: source.required.map((one) => channelOf(channels, one)),
    optional: source.optional.map((one) => channelOf(channels, one)),
    clock,
    telemetry,
  });
  const made = definition.create(config, contextOf(name, runtime));
  const common = {
    name,
    type: definition.type,
    path,
    chain: new InterceptorChain(interceptors, telemetry),
    clock,
    telemetry,
  };
  if (made.mode === "push") return new PushRunner({ ...common, source: made });
  const deadLetters = new DeadLetters({ ...runtime, component: name });
  return new PullRunner({ ...common, source: made, batchSize, deadLetters });
}

/** Makes a sink's runner; its generation is durable on return, before any source puts (A5). */
export async function openSink(
  sink: SinkConfig,
  channels: ReadonlyMap<string, Channel>,
  epoch: number,
  runtime: PipelineRuntime,
): Promise<SinkRunner> {
  const { name, definition, config, isShared } = sink;
  const { directory, clock } = runtime;
  const channel = channelOf(channels, sink.channel);
  const books = new SinkBooks(directory, name, channel.id);
  const context = contextOf(name, runtime);
  return new SinkRunner({
    name,
    type: definition.type,
    create: () => definition.create(config, context),
    channel,
    origin: {
      kind: "channel",
      agentId: directory.meta.directoryId,
      agentName: runtime.agent,
      channelId: channel.id,
      channelName: channel.name,
    },
    epoch,
    starts: directory.meta.starts,
    generation: await books.generation(sink.configHash),
    isShared,
    books,
    deadLetters: new DeadLetters({ ...runtime, component: name }),
    limits: sinkLimits(sink, channel, runtime),
    whenAllowed: definition.needsCluster === true ? runtime.whenClusterReady : undefined,
    clock,
    telemetry: runtime.telemetry.child({ component: name }),
  });
}

function sinkLimits(sink: SinkConfig, channel: Channel, runtime: PipelineRuntime): SinkLimits {
  const { records, bytes } = channel.limits;
  return {
    batchRecords: sink.batchSize,
    batchBytes: takeBytes,
    windowRecords: Math.max(1, Math.min(windowRecordsMax, Math.floor(records / 2))),
    windowBytes: Math.max(1, Math.min(windowBytesMax, Math.floor(bytes / 2))),
    flushIdleMs: flushIdleMsDefault,
    ...runtime.sinkLimits,
  };
}

function contextOf(name: string, runtime: PipelineRuntime): ComponentContext {
  const { directory } = runtime;
  return {
    name,
    telemetry: runtime.telemetry.child({ component: name }),
    clock: runtime.clock,
    disk: runtime.disk,
    workDirectory: join(directory.path, "components", name),
    ownerName: runtime.agent,
    ownerId: directory.meta.directoryId,
    protectedPaths: [directory.path, ...(runtime.protectedPaths ?? [])],
    bootstrapServers: runtime.bootstrapServers,
  };
}

function channelOf(channels: ReadonlyMap<string, Channel>, name: string): Channel {
  const channel = channels.get(name);
  if (channel === undefined) throw new AppError("INVALID_CONFIG", `there is no channel "${name}"`);
  return channel;
}
