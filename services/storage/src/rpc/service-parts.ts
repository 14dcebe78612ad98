/** What the RPC handlers of this service share. */
import { AppError } from "@millrace/base";
import type { Handshake, HandshakeReply } from "@millrace/proto/common";
import { checkHandshake, type ServerIdentity } from "@millrace/rpc";
import type { Clock } from "@millrace/runtime";
import type { Appender } from "../drivers/appender.ts";
import type { Partitions } from "../drivers/partitions.ts";

/** Open streams and bytes sent, read at scrape. */
export interface Gauges {
  produceStreams: number;
  fetchStreams: number;
  fetchedBytes: number;
}

/** What {@link ServiceParts} is made of. */
export interface ServicePartsOptions {
  readonly partitions: Partitions;
  readonly appender: Appender;
  readonly clock: Clock;
  readonly identity: ServerIdentity;
  readonly streamCreditBytes: number;
  readonly requestBytesMax: number;
  /** Resolves when the node begins to stop: streams answer what they have and end. */
  readonly stopping: Promise<void>;
  readonly onRefused: (reason: string) => void;
  readonly onAppendMs: (ms: number) => void;
}

/** See the file's comment. */
export class ServiceParts {
  readonly partitions: Partitions;
  readonly appender: Appender;
  readonly clock: Clock;
  readonly streamCreditBytes: number;
  readonly requestBytesMax: number;
  readonly stopping: Promise<void>;
  readonly gauges: Gauges = { produceStreams: 0, fetchStreams: 0, fetchedBytes: 0 };
  readonly #options: ServicePartsOptions;

  constructor(options: ServicePartsOptions) {
    this.#options = options;
    this.partitions = options.partitions;
    this.appender = options.appender;
    this.clock = options.clock;
    this.streamCreditBytes = options.streamCreditBytes;
    this.requestBytesMax = options.requestBytesMax;
    this.stopping = options.stopping;
  }

  /** Answers the handshake of a stream. Throws CLUSTER_MISMATCH, UNSUPPORTED_VERSION, NODE_STARTING. */
  openStream(handshake: Handshake, creditBytes: number): HandshakeReply {
    this.#checkRegistered();
    return { ...checkHandshake(handshake, this.#options.identity), creditBytes };
  }

  /** Checks the cluster id of a unary call; "" = the caller does not know it. */
  checkCluster(clusterId: string): void {
    this.#checkRegistered();
    const own = this.#options.identity.clusterId();
    if (clusterId !== "" && clusterId !== own)
      throw new AppError(
        "CLUSTER_MISMATCH",
        `this node belongs to cluster ${own}, the request is for ${clusterId}`,
      );
  }

  /** Runs and counts a refusal by reason. */
  counted<T>(run: () => T): T {
    try {
      return run();
    } catch (thrown) {
      this.#options.onRefused(AppError.from(thrown).reason);
      throw thrown;
    }
  }

  /** Notes the time from a batch's arrival to its durability. */
  observeAppend(ms: number): void {
    this.#options.onAppendMs(ms);
  }

  #checkRegistered(): void {
    if (this.#options.identity.clusterId() === "")
      throw new AppError("NODE_STARTING", "this node has not registered with a cluster yet; try again");
  }
}
