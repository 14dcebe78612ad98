/**
 * Routing into a topic (rules A4, A5), pure.
 *
 * A record's partition is a function of the record, its channel sequence and the routing generation: the value of
 * the key header if one is configured and there, else the source's stream id, else a chunk of sequences round
 * robin. So after a crash the partitions, and with the counters kept at the take position also the producer
 * sequences, can be derived again: nothing is stored before a send.
 */
import { invariant } from "@millrace/base";
import type { SinkRecord } from "@millrace/flow";
import { partitionForKey } from "@millrace/record";

/** Records without key and stream go to one partition for this many sequences. */
export const chunkSequences = 1024;

/** One routing generation. Records from `start` on, up to the next generation's start, go by it. */
export interface RoutingGeneration {
  readonly start: number;
  readonly topic: string;
  readonly topicId: string;
  readonly partitionCount: number;
  /** Header whose value is the key; empty = none. */
  readonly keyHeader: string;
}

/** What is kept durably: the generations still in use, oldest first. */
export interface RoutingHistory {
  readonly v: 1;
  readonly generations: readonly RoutingGeneration[];
}

/** The key a record is routed and stored by, or null. */
export function keyOf(record: SinkRecord, generation: RoutingGeneration): Uint8Array | null {
  if (generation.keyHeader === "") return record.key;
  return record.headers.find((header) => header.key === generation.keyHeader)?.value ?? record.key;
}

/** The partition of a record. */
export function partitionOf(record: SinkRecord, generation: RoutingGeneration): number {
  const key = keyOf(record, generation);
  if (key !== null) return partitionForKey(key, generation.partitionCount);
  if (record.streamId !== undefined)
    return partitionForKey(Buffer.from(record.streamId), generation.partitionCount);
  return Math.floor(record.offset / chunkSequences) % generation.partitionCount;
}

/** The generation a sequence belongs to. */
export function generationAt(history: RoutingHistory, sequence: number): RoutingGeneration {
  const found = history.generations.findLast((generation) => generation.start <= sequence);
  invariant(found !== undefined, `a routing generation covers sequence ${sequence}`);
  return found;
}

/** The history with a generation for what the sink is configured to do now, if that differs (A5). */
export function withGeneration(
  history: RoutingHistory | undefined,
  wanted: Omit<RoutingGeneration, "start">,
  start: { readonly first: number; readonly later: number },
): RoutingHistory {
  const last = history?.generations.at(-1);
  if (history === undefined || last === undefined)
    return { v: 1, generations: [{ ...wanted, start: start.first }] };
  if (isSameRouting(last, wanted)) return history;
  const kept = history.generations.filter((generation) => generation.start < start.later);
  return { v: 1, generations: [...kept, { ...wanted, start: start.later }] };
}

/** The history after the topic of id `deletedId` was deleted: everything not delivered goes to `wanted` (A5). */
export function withoutTopic(
  history: RoutingHistory,
  deletedId: string,
  wanted: Omit<RoutingGeneration, "start">,
  takePosition: number,
): RoutingHistory {
  const kept = history.generations.filter((generation) => generation.topicId !== deletedId);
  invariant(kept.length < history.generations.length, "the deleted topic was in use");
  return {
    v: 1,
    generations: [
      { ...wanted, start: takePosition },
      ...kept.filter((generation) => generation.start > takePosition && !isSameRouting(generation, wanted)),
    ],
  };
}

/** The history without generations that no sequence from `takePosition` on belongs to. */
export function pruned(history: RoutingHistory, takePosition: number): RoutingHistory {
  const current = history.generations.findLastIndex((generation) => generation.start <= takePosition);
  return current <= 0 ? history : { v: 1, generations: history.generations.slice(current) };
}

function isSameRouting(a: Omit<RoutingGeneration, "start">, b: Omit<RoutingGeneration, "start">): boolean {
  return a.topicId === b.topicId && a.partitionCount === b.partitionCount && a.keyHeader === b.keyHeader;
}
