/** Which partition a record without a key goes to: one at a time, until its batch is sent (Kafka's sticky rule). Pure. */
import { invariant } from "@millrace/base";
import { partitionForKey } from "@millrace/record";
import type { TopicInfo } from "./metadata-cache.ts";

/** Chooses partitions of one topic. */
export class PartitionChooser {
  #sticky: number;

  /** `start`: where the first batch goes; random in life, so that clients spread. */
  constructor(start: number) {
    this.#sticky = start;
  }

  /** The record's partition: its key's, else the sticky one. */
  choose(key: Uint8Array | null, topic: TopicInfo): number {
    const count = topic.partitions.length;
    invariant(count > 0, "a topic has partitions");
    if (key !== null) return partitionForKey(key, count);
    if (this.#sticky >= count) this.#sticky %= count;
    return this.#sticky;
  }

  /** The sticky partition's batch is closed: the next one with a leader takes over. */
  advance(closedPartition: number, topic: TopicInfo): void {
    const count = topic.partitions.length;
    if (closedPartition !== this.#sticky) return;
    for (let step = 1; step <= count; step++) {
      const candidate = (this.#sticky + step) % count;
      if (topic.partitions[candidate]?.leaderAddress !== undefined || step === count) {
        this.#sticky = candidate;
        return;
      }
    }
  }
}
