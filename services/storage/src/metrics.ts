/** Metrics read at scrape from plain fields of the hot paths. */
import type { DataDirectory } from "@millrace/log";
import type { Telemetry } from "@millrace/telemetry";
import type { Appender } from "./drivers/appender.ts";
import type { Partitions } from "./drivers/partitions.ts";
import * as events from "./events.ts";
import type { ServiceParts } from "./rpc/service-parts.ts";

/** What is observed. */
export interface ObservedParts {
  readonly parts: ServiceParts;
  readonly appender: Appender;
  readonly partitions: Partitions;
  readonly directory: DataDirectory;
}

/** Registers the readers. */
export function observeStorage(
  { metrics }: Telemetry,
  { parts, appender, partitions, directory }: ObservedParts,
): void {
  const { counts } = appender;
  const { gauges } = parts;
  metrics.observe(events.producedBytes, () => [{ labels: {}, value: counts.bytes }]);
  metrics.observe(events.producedRecords, () => [{ labels: {}, value: counts.records }]);
  metrics.observe(events.producedBatches, () => [{ labels: {}, value: counts.batches }]);
  metrics.observe(events.duplicateBatches, () => [{ labels: {}, value: counts.duplicates }]);
  metrics.observe(events.fetchedBytes, () => [{ labels: {}, value: gauges.fetchedBytes }]);
  metrics.observe(events.openStreams, () => [
    { labels: { kind: "produce" }, value: gauges.produceStreams },
    { labels: { kind: "fetch" }, value: gauges.fetchStreams },
  ]);
  metrics.observe(events.hostedPartitions, () => {
    const all = [...partitions.all];
    const served = all.filter((partition) => partition.servingEpoch !== undefined).length;
    return [
      { labels: { state: "served" }, value: served },
      { labels: { state: "notServed" }, value: all.length - served },
    ];
  });
  metrics.observe(events.logBytes, () => [
    { labels: {}, value: directory.logs.reduce((sum, log) => sum + log.sizeBytes, 0) },
  ]);
}
