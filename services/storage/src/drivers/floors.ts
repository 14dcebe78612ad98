/**
 * What the directory remembers of the cluster: the highest node epoch and producer ids it has seen, and where its
 * metadata watch stood. Told at registration, so that a controller that lost its log never issues at or below (design
 * §4), and so that a younger or other metadata history is not followed.
 */
import { AppError } from "@millrace/base";
import type { MetadataView, SeenFloors } from "@millrace/client";
import { type DataDirectory, namedProducerIdMin, type StateChange } from "@millrace/log";
import { WatchToken } from "@millrace/proto/metadata";

const key = {
  nodeEpoch: "cluster.nodeEpoch",
  producerId: "cluster.producerId",
  namedProducerId: "cluster.namedProducerId",
  token: "cluster.metadataToken",
} as const;

/** See the file's comment. */
export class Floors {
  readonly #directory: DataDirectory;
  #nodeEpoch: number;
  #producerId: number;
  #namedProducerId: number;

  constructor(directory: DataDirectory) {
    this.#directory = directory;
    this.#nodeEpoch = readNumber(directory.getState(key.nodeEpoch));
    const highest = readNumber(directory.getState(key.producerId));
    // Directories of before the split hold one number for both ranges.
    this.#producerId = highest >= namedProducerIdMin ? 0 : highest;
    const named = readNumber(directory.getState(key.namedProducerId));
    this.#namedProducerId = Math.max(named, highest >= namedProducerIdMin ? highest : 0);
  }

  /** Where the watch stood at the last stop. */
  get token(): WatchToken | undefined {
    const bytes = this.#directory.getState(key.token);
    return bytes === undefined ? undefined : WatchToken.decode(bytes);
  }

  /** For the registration. */
  seen(): SeenFloors {
    const leaderEpochs = this.#directory.logs.flatMap((log) =>
      log.id.kind === "topic" && log.leaderEpoch >= 0
        ? [{ topicId: log.id.topicId, partition: log.id.partition, leaderEpoch: log.leaderEpoch }]
        : [],
    );
    return {
      nodeEpoch: this.#nodeEpoch,
      producerId: this.#producerId,
      namedProducerId: this.#namedProducerId,
      leaderEpochs,
    };
  }

  /** Notes the epoch of a registration; resolves when it is durable. */
  async noteNodeEpoch(nodeEpoch: number): Promise<void> {
    this.#nodeEpoch = Math.max(this.#nodeEpoch, nodeEpoch);
    await this.#directory.commit([], [number(key.nodeEpoch, this.#nodeEpoch)]).durable;
  }

  /** Notes a producer id; written with the next group. */
  noteProducerId(producerId: number): void {
    if (producerId >= namedProducerIdMin) {
      if (producerId <= this.#namedProducerId) return;
      this.#namedProducerId = producerId;
      this.#lazily(number(key.namedProducerId, producerId));
      return;
    }
    if (producerId <= this.#producerId) return;
    this.#producerId = producerId;
    this.#lazily(number(key.producerId, producerId));
  }

  /** Notes where the view stands; written with the next group. */
  noteToken(view: MetadataView): void {
    if (view.token === undefined) return;
    this.#lazily({ key: key.token, value: WatchToken.encode(view.token).finish() });
  }

  #lazily(change: StateChange): void {
    try {
      this.#directory.commit([], [change], { lazy: true }).durable.catch(() => {});
    } catch (thrown) {
      // a full or failed disk: appends meet the same error and tell it; the floor is noted again later
      if (!(thrown instanceof AppError)) throw thrown;
    }
  }
}

function number(name: string, value: number): StateChange {
  return { key: name, value: Buffer.from(String(value)) };
}

function readNumber(bytes: Uint8Array | undefined): number {
  return bytes === undefined ? 0 : Number(Buffer.from(bytes).toString());
}
