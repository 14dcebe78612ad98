/**
 * Topic configuration under Kafka's names (kafka.md §1.1), its ranges and defaults. A key that Kafka has and this
 * version does not yet honour is refused with that sentence, never accepted and ignored.
 */
import { AppError, nearestName, printable } from "@millrace/base";

/** What a value of a key may be. */
export type TopicConfigType =
  | { readonly kind: "integer"; readonly min: number; readonly max: number; readonly unit: string }
  | { readonly kind: "choice"; readonly choices: readonly string[]; readonly later: readonly string[] };

/** One key of a topic's configuration. */
export interface TopicConfigKey {
  readonly default: string;
  readonly type: TopicConfigType;
  readonly text: string;
}

const integer = (unit: string, min: number, max: number): TopicConfigType => ({
  kind: "integer",
  min,
  max,
  unit,
});
const choice = (choices: readonly string[], later: readonly string[] = []): TopicConfigType => ({
  kind: "choice",
  choices,
  later,
});
const longMax = Number.MAX_SAFE_INTEGER;
const intMax = 2 ** 31 - 1;
const mebibyte = 1024 * 1024;

/** Largest `max.message.bytes`: a batch must fit into one gRPC message (8 MiB) with room for its frame. */
export const messageBytesMax = 7 * mebibyte;

// biome-ignore format: a table reads as rows
/** Every key a topic may have. */
export const topicConfigKeys: Readonly<Record<string, TopicConfigKey>> = {
  "cleanup.policy": { default: "delete", type: choice(["delete"], ["compact", "compact,delete"]), text: "What happens to old segments." },
  "compression.type": { default: "producer", type: choice(["producer"], ["uncompressed", "gzip", "snappy", "lz4", "zstd"]), text: "Batches are stored as produced." },
  "flush.policy": { default: "fsync", type: choice(["fsync", "os"]), text: "`fsync`: durable before the ack; `os`: acknowledged once in the page cache." },
  "index.interval.bytes": { default: "4096", type: integer("bytes", 0, intMax), text: "Bytes between two entries of the index." },
  "max.message.bytes": { default: "1048588", type: integer("bytes", 1024, messageBytesMax), text: "Largest batch as stored." },
  "message.timestamp.type": { default: "CreateTime", type: choice(["CreateTime"], ["LogAppendTime"]), text: "Whose clock stamps a record." },
  "min.insync.replicas": { default: "1", type: integer("replicas", 1, 16), text: "In-sync replicas an append needs." },
  "retention.bytes": { default: "-1", type: integer("bytes", -1, longMax), text: "Size per partition beyond which old segments go; -1 = no limit." },
  "retention.ms": { default: "604800000", type: integer("ms", -1, longMax), text: "Age beyond which closed segments go; -1 = no limit." },
  "segment.bytes": { default: "1073741824", type: integer("bytes", mebibyte, intMax), text: "Size at which a segment is closed." },
  "segment.index.bytes": { default: "10485760", type: integer("bytes", 1024, intMax), text: "Size limit of each index file." },
  "segment.ms": { default: "604800000", type: integer("ms", 1, longMax), text: "Age at which a segment is closed." },
};

/** Kafka's keys that this version does not have. */
const laterKeys = new Set([
  "delete.retention.ms",
  "file.delete.delay.ms",
  "flush.messages",
  "flush.ms",
  "follower.replication.throttled.replicas",
  "leader.replication.throttled.replicas",
  "local.retention.bytes",
  "local.retention.ms",
  "max.compaction.lag.ms",
  "message.timestamp.after.max.ms",
  "message.timestamp.before.max.ms",
  "min.cleanable.dirty.ratio",
  "min.compaction.lag.ms",
  "preallocate",
  "remote.storage.enable",
  "segment.jitter.ms",
  "unclean.leader.election.enable",
]);

/** The configuration after `set` and `unset`, its values in canonical form. Throws INVALID_CONFIG with every problem. */
export function changeTopicConfig(
  present: Readonly<Record<string, string>>,
  set: Readonly<Record<string, string>>,
  unset: readonly string[],
): Record<string, string> {
  const problems: string[] = [];
  const next = new Map(Object.entries(present));
  for (const key of unset) {
    const problem = keyProblem(key);
    if (problem !== undefined) problems.push(problem);
    else if (Object.hasOwn(set, key)) problems.push(`${key} is both set and unset`);
    next.delete(key);
  }
  for (const [key, text] of Object.entries(set)) {
    const problem = keyProblem(key) ?? valueProblem(key, text.trim());
    if (problem === undefined) next.set(key, canonicalValue(key, text.trim()));
    else problems.push(problem);
  }
  const sorted = [...next].sort(([a], [b]) => (a < b ? -1 : 1));
  if (problems.length > 0) {
    throw new AppError("INVALID_CONFIG", `topic configuration: ${problems.join("; ")}`);
  }
  return Object.fromEntries(sorted);
}

/** The value of a key, its default where it is not set. */
export function topicConfigValue(config: Readonly<Record<string, string>>, key: string): string {
  const known = topicConfigKeys[key];
  if (known === undefined) throw new AppError("INVALID_CONFIG", `unknown topic configuration key ${key}`);
  return Object.hasOwn(config, key) ? (config[key] as string) : known.default;
}

function keyProblem(key: string): string | undefined {
  if (Object.hasOwn(topicConfigKeys, key)) return undefined;
  if (laterKeys.has(key)) return `${key} is a key of Kafka that this version does not have yet`;
  const near = nearestName(key, Object.keys(topicConfigKeys));
  return `unknown key "${printable(key)}"${near === undefined ? `; known: ${Object.keys(topicConfigKeys).join(", ")}` : `, did you mean ${near}?`}`;
}

function valueProblem(key: string, text: string): string | undefined {
  const { type } = topicConfigKeys[key] as TopicConfigKey;
  if (type.kind === "choice") {
    if (type.choices.includes(text)) return undefined;
    if (type.later.includes(text))
      return `${key}=${text} is not supported yet; use ${type.choices.join(" or ")}`;
    return `${key}="${printable(text)}" is not one of ${[...type.choices, ...type.later].join(", ")}`;
  }
  const value = /^-?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= type.min && value <= type.max) return undefined;
  return `${key}="${printable(text)}" is no whole number of ${type.unit} from ${type.min} to ${type.max}`;
}

function canonicalValue(key: string, text: string): string {
  return topicConfigKeys[key]?.type.kind === "integer" ? String(Number(text)) : text;
}
