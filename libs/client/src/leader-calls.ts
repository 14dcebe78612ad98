/** Unary calls to the leader of a partition, repeated while leaders move. */
import { AppError } from "@millrace/base";
import type { RpcConnection } from "@millrace/rpc";
import { Backoff, type Clock } from "@millrace/runtime";
import type { Connections } from "./connections.ts";
import { retryCapMs, retryFirstMs, storageCallMs } from "./limits.ts";
import type { MetadataCache } from "./metadata-cache.ts";
import type { CallOptions } from "./metadata-client.ts";

/** Calls leaders. */
export class LeaderCalls {
  readonly #connections: Connections;
  readonly #cache: MetadataCache;
  readonly #clock: Clock;

  constructor(connections: Connections, cache: MetadataCache, clock: Clock) {
    this.#connections = connections;
    this.#cache = cache;
    this.#clock = clock;
  }

  /**
   * Calls `run` with the leader's connection and epoch; repeats retriable failures until the time is over.
   * Only for calls that may be repeated. Throws TOPIC_NOT_FOUND for a deleted topic, INVALID_REQUEST for a partition
   * that does not exist.
   */
  async call<T>(
    topicId: string,
    partition: number,
    run: (connection: RpcConnection, leaderEpoch: number, deadlineMs: number) => Promise<T>,
    options: CallOptions = {},
  ): Promise<T> {
    const endMs = this.#clock.monotonicMs() + (options.timeoutMs ?? storageCallMs);
    const backoff = new Backoff({ firstMs: retryFirstMs, capMs: retryCapMs });
    for (;;) {
      try {
        const topic = await this.#cache.byId(topicId, options);
        const leader = topic.partitions[partition];
        if (leader === undefined) throw noPartition(topic.name, partition, topic.partitions.length);
        if (leader.leaderAddress === undefined)
          throw new AppError("NOT_LEADER", `${topic.name}-${partition} has no leader now`);
        const leftMs = Math.max(1, endMs - this.#clock.monotonicMs());
        return await run(this.#connections.to(leader.leaderAddress), leader.leaderEpoch, leftMs);
      } catch (thrown) {
        const error = AppError.from(thrown);
        const isWorthIt =
          error.reason !== "TOPIC_NOT_FOUND" && (error.isRetriable || error.reason === "TIMED_OUT");
        const delayMs = backoff.nextMs();
        const isOver = this.#clock.monotonicMs() + delayMs >= endMs || options.signal?.aborted === true;
        if (!isWorthIt || isOver) throw thrown;
        await this.#clock.sleep(delayMs, options.signal);
        await this.#refresh(topicId, options);
      }
    }
  }

  async #refresh(topicId: string, options: CallOptions): Promise<void> {
    try {
      await this.#cache.refresh(topicId, options);
    } catch (thrown) {
      // metadata is away: the leader known so far may still answer
      if (AppError.from(thrown).reason === "TOPIC_NOT_FOUND") throw thrown;
    }
  }
}

/** The error of a partition number that the topic does not have. */
export function noPartition(name: string, partition: number, count: number): AppError {
  return new AppError(
    "INVALID_REQUEST",
    `topic "${name}" has partitions 0 to ${count - 1}, not ${partition}`,
  );
}
