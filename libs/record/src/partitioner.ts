/** Which partition a key belongs to: Kafka's rule, so that clients of both systems agree. */
import { invariant } from "@millrace/base";

/** Murmur2 with Kafka's seed, as the signed int32 that Kafka's `Utils.murmur2` returns. */
export function murmur2(bytes: Uint8Array): number {
  const multiplier = 0x5bd1e995;
  const length = bytes.length;
  let hash = 0x9747b28c ^ length;
  const wordsEnd = length - (length % 4);
  for (let at = 0; at < wordsEnd; at += 4) {
    let word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    word = Math.imul(word, multiplier);
    word ^= word >>> 24;
    hash = Math.imul(hash, multiplier) ^ Math.imul(word, multiplier);
  }
  const rest = length - wordsEnd;
  if (rest > 0) {
    if (rest === 3) hash ^= (bytes[wordsEnd + 2] as number) << 16;
    if (rest >= 2) hash ^= (bytes[wordsEnd + 1] as number) << 8;
    hash = Math.imul(hash ^ (bytes[wordsEnd] as number), multiplier);
  }
  hash = Math.imul(hash ^ (hash >>> 13), multiplier);
  return (hash ^ (hash >>> 15)) | 0;
}

/** Partition of a record with this key: Kafka's `toPositive(murmur2(key)) % partitionCount`. */
export function partitionForKey(key: Uint8Array, partitionCount: number): number {
  invariant(Number.isInteger(partitionCount) && partitionCount > 0, "a topic has at least one partition");
  return (murmur2(key) & 0x7fffffff) % partitionCount;
}
