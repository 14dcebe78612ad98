/** A topic's configuration as the log takes it. The metadata service has checked keys and values. */
import { defaultLogConfig, type LogConfig } from "@millrace/log";

const numberKeys = {
  "segment.bytes": "segmentBytes",
  "segment.ms": "segmentMs",
  "index.interval.bytes": "indexIntervalBytes",
  "segment.index.bytes": "segmentIndexBytes",
  "retention.ms": "retentionMs",
  "retention.bytes": "retentionBytes",
  "max.message.bytes": "batchBytesMax",
} as const satisfies Record<string, keyof LogConfig>;

/** The log's settings: the keys that are set, over the defaults. A value that is no number keeps the default. */
export function toLogConfig(config: Readonly<Record<string, string>>): LogConfig {
  const numbers: Partial<Record<(typeof numberKeys)[keyof typeof numberKeys], number>> = {};
  for (const [key, name] of Object.entries(numberKeys)) {
    const value = Number(config[key] ?? "");
    if (config[key] !== undefined && Number.isSafeInteger(value)) numbers[name] = value;
  }
  const flushPolicy = config["flush.policy"] === "os" ? "os" : "fsync";
  return { ...defaultLogConfig, ...numbers, flushPolicy };
}
