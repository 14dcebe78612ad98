/**
 * A running pipeline: channels, sinks and sources of one agent on one data directory.
 *
 *   start:  channels -> sinks (their generation durable first, A5) -> sources
 *   stop:   sources -> memory channels run dry -> sinks deliver what they hold -> channels save their positions
 *   finish: sources read what is there and end -> every channel delivered -> (stop)
 */
import { AppError, invariant } from "@millrace/base";
import { FileChannel } from "../channel/file-channel.ts";
import type { Channel } from "../channel/types.ts";
import { WakeList } from "../channel/wake-list.ts";
import type { PipelineConfig } from "../config/pipeline-config.ts";
import type { ChannelStatus, SinkStatus, SourceStatus } from "../run/component-state.ts";
import { PushRunner } from "../run/push-runner.ts";
import type { SinkRunner } from "../run/sink-runner.ts";
import { channelLeftBehind, volatileRecordsLost } from "./events.ts";
import { observePipeline } from "./metrics.ts";
import { openChannels, openSink, openSource, type RunningSource, startEpoch } from "./open-parts.ts";
import type { PipelineRuntime } from "./runtime.ts";

/** A pipeline at one moment: all figures are taken together (S1). */
export interface PipelineStatus {
  readonly agent: string;
  readonly agentId: string;
  readonly sources: readonly SourceStatus[];
  readonly channels: readonly ChannelStatus[];
  readonly sinks: readonly SinkStatus[];
}

/** An address a source listens on. */
export interface SourceAddress {
  readonly source: string;
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** How long a stop gives the sinks to deliver what they hold, milliseconds. */
const stopGraceMsDefault = 10_000;

/** A running pipeline. */
export class Pipeline {
  readonly config: PipelineConfig;
  readonly #runtime: PipelineRuntime;
  readonly #channels: readonly Channel[];
  readonly #sinks: readonly SinkRunner[];
  readonly #sources: readonly RunningSource[];
  readonly #stopObserving: () => void;
  readonly #progress = new WakeList();
  #stopping: Promise<void> | undefined;

  /** Opens and starts everything. Sources and sinks that fail to start are tried again; a broken channel is an error. */
  static async start(config: PipelineConfig, runtime: PipelineRuntime): Promise<Pipeline> {
    const epoch = await startEpoch(runtime.directory);
    const channels = await openChannels(config, runtime);
    warnOfChannelsLeftBehind(config, runtime);
    const sinks: SinkRunner[] = [];
    for (const sink of config.sinks) sinks.push(await openSink(sink, channels, epoch, runtime));
    const sources = config.sources.map((source) => openSource(source, channels, runtime));
    const pipeline = new Pipeline(config, runtime, [...channels.values()], sinks, sources);
    for (const sink of sinks) sink.start();
    await Promise.all(sources.map(async (source) => source.start()));
    return pipeline;
  }

  private constructor(
    config: PipelineConfig,
    runtime: PipelineRuntime,
    channels: readonly Channel[],
    sinks: readonly SinkRunner[],
    sources: readonly RunningSource[],
  ) {
    this.config = config;
    this.#runtime = runtime;
    this.#channels = channels;
    this.#sinks = sinks;
    this.#sources = sources;
    for (const sink of sinks) sink.onProgress = () => this.#progress.wake();
    this.#stopObserving = observePipeline(runtime.telemetry, channels, sinks, sources);
  }

  /** Everything at one moment; synchronous, so the figures belong together (S1). */
  status(): PipelineStatus {
    return {
      agent: this.config.agent,
      agentId: this.#runtime.directory.meta.directoryId,
      sources: this.#sources.map((source) => source.status),
      channels: this.#channels.map(channelStatus),
      sinks: this.#sinks.map((sink) => sink.status),
    };
  }

  /** Where push sources listen. */
  get addresses(): readonly SourceAddress[] {
    return this.#sources.flatMap((source) =>
      source instanceof PushRunner
        ? source.addresses.map((address) => ({ source: source.name, ...address }))
        : [],
    );
  }

  /** Sources read and take nothing more until `resume`; sinks go on. */
  pause(): void {
    for (const source of this.#sources) source.pause();
  }

  resume(): void {
    for (const source of this.#sources) source.resume();
  }

  /**
   * `--once`: reads what is there, a last unfinished line too, and resolves when the sinks have delivered all of it.
   * Push sources stop. Rejects CANCELLED when `signal` aborts first; the pipeline still has to be stopped.
   */
  async finishAndDrain(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<never>((_, reject) => {
      const stop = (): void => reject(new AppError("CANCELLED", "stopped before everything was delivered"));
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop, { once: true });
    });
    stopped.catch(() => undefined);
    await Promise.race([Promise.all(this.#sources.map((source) => source.finish())), stopped]);
    await this.#drain(this.#sinks, signal);
    if (signal.aborted) await stopped;
  }

  /** Stops in order; the same promise for every caller. What memory channels still hold at the end is counted as lost. */
  stop(graceMs = stopGraceMsDefault): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.stop()));
    const deadline = new AbortController();
    const timer = this.#runtime.clock.after(graceMs, () => deadline.abort());
    const startMs = this.#runtime.clock.monotonicMs();
    await this.#drain(
      this.#sinks.filter((sink) => sink.channel.durability === "volatile"),
      deadline.signal,
    );
    timer.cancel();
    const leftMs = Math.max(0, graceMs - (this.#runtime.clock.monotonicMs() - startMs));
    await Promise.all(this.#sinks.map((sink) => sink.stop(leftMs)));
    for (const channel of this.#channels) this.#countLost(channel);
    await Promise.all(this.#channels.map((channel) => channel.close()));
    this.#stopObserving();
  }

  /** Resolves when the channels of these sinks are empty, or when `signal` aborts. */
  async #drain(sinks: readonly SinkRunner[], signal: AbortSignal): Promise<void> {
    for (const sink of sinks) sink.drain();
    while (sinks.some(({ channel }) => channel.figures.depthCount > 0) && !signal.aborted) {
      await this.#progress.wait(signal);
    }
  }

  #countLost(channel: Channel): void {
    const { depthCount } = channel.figures;
    if (channel.durability !== "volatile" || depthCount === 0) return;
    const { telemetry } = this.#runtime;
    telemetry.discarded(channel.name, "memory_channel_stopped", depthCount);
    telemetry.emit(volatileRecordsLost, { channel: channel.name, records: depthCount });
  }
}

function channelStatus(channel: Channel): ChannelStatus {
  const { putCount, depthCount, depthBytes, takenCount } = channel.figures;
  return {
    name: channel.name,
    type: channel.type,
    channelId: channel.id,
    putCount,
    depthCount,
    depthBytes,
    takenCount,
    sizeBytes: channel instanceof FileChannel ? channel.log.sizeBytes : depthBytes,
    capacityCount: channel.limits.records,
    capacityBytes: channel.limits.bytes,
  };
}

/** A channel that was taken out of the configuration keeps its records; nobody delivers them, so somebody has to know. */
function warnOfChannelsLeftBehind(config: PipelineConfig, { directory, telemetry }: PipelineRuntime): void {
  const configured = new Set(
    config.channels.filter(({ settings }) => settings.type === "file").map(({ name }) => name),
  );
  for (const log of directory.logs) {
    if (log.id.kind !== "channel" || configured.has(log.id.channelName)) continue;
    invariant(log.endOffset >= log.startOffset, `${log.label} ends after its start`);
    if (log.endOffset === log.startOffset) continue;
    telemetry.emit(channelLeftBehind, { channel: log.id.channelName, endSequence: log.endOffset });
  }
}
