/** Figures of a pipeline, read at scrape: hot paths keep plain fields. */
import type { Telemetry } from "@millrace/telemetry";
import {
  channelCapacityRecords,
  channelDeliveredTotal,
  channelDepthBytes,
  channelDepthRecords,
  channelPutTotal,
} from "../channel/events.ts";
import type { Channel } from "../channel/types.ts";
import { sinkDeliveredTotal, sourceRecordsTotal } from "../run/events.ts";
import type { SinkRunner } from "../run/sink-runner.ts";
import type { RunningSource } from "./open-parts.ts";

/** Registers the readers; returns what takes them away. */
export function observePipeline(
  { metrics }: Telemetry,
  channels: readonly Channel[],
  sinks: readonly SinkRunner[],
  sources: readonly RunningSource[],
): () => void {
  const first = new Map(channels.map((channel) => [channel, channel.figures]));
  const ofChannels = (read: (channel: Channel) => number) => () =>
    channels.map((channel) => ({ labels: { channel: channel.name }, value: read(channel) }));
  const delivered = ({ putCount, depthCount }: Channel["figures"]): number => putCount - depthCount;
  const since = (channel: Channel, read: (figures: Channel["figures"]) => number): number => {
    const before = first.get(channel);
    return Math.max(0, read(channel.figures) - (before === undefined ? 0 : read(before)));
  };
  const cancellations = [
    metrics.observe(
      channelDepthRecords,
      ofChannels(({ figures }) => figures.depthCount),
    ),
    metrics.observe(
      channelDepthBytes,
      ofChannels(({ figures }) => figures.depthBytes),
    ),
    metrics.observe(
      channelCapacityRecords,
      ofChannels(({ limits }) => limits.records),
    ),
    metrics.observe(
      channelPutTotal,
      ofChannels((channel) => since(channel, ({ putCount }) => putCount)),
    ),
    metrics.observe(
      channelDeliveredTotal,
      ofChannels((channel) => since(channel, delivered)),
    ),
    metrics.observe(sourceRecordsTotal, () =>
      sources.map(({ status }) => ({ labels: { source: status.name }, value: status.recordCount })),
    ),
    metrics.observe(sinkDeliveredTotal, () =>
      sinks.map(({ status }) => ({ labels: { sink: status.name }, value: status.deliveredCount })),
    ),
  ];
  return () => {
    for (const cancel of cancellations) cancel();
  };
}
