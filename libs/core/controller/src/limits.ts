/**
 * The named limits of the metadata. Together they keep a whole snapshot below one gRPC message (8 MiB), so that a
 * watch can always start.
 */

/** Limits that a decision enforces. */
export interface ControllerLimits {
  readonly topicsMax: number;
  readonly partitionsPerTopicMax: number;
  /** Partitions of all topics together. */
  readonly partitionsMax: number;
  /** Largest replication factor. One, until storage nodes replicate. */
  readonly replicationFactorMax: number;
  readonly nodesMax: number;
  readonly listenersPerNodeMax: number;
  readonly namedProducersMax: number;
  readonly connectorsMax: number;
  /** Topics of one connector. */
  readonly topicsPerConnectorMax: number;
  readonly tasksMax: number;
  /** One connector's sink configuration, characters of JSON. */
  readonly sinkConfigCharsMax: number;
  /** All connectors' sink configurations, characters of JSON. */
  readonly sinkConfigTotalCharsMax: number;
  /** Directories and connector names remembered after they went. */
  readonly rememberedNamesMax: number;
}

/** What the metadata service enforces. */
export const defaultLimits: ControllerLimits = {
  topicsMax: 10_000,
  partitionsPerTopicMax: 1_000,
  partitionsMax: 20_000,
  replicationFactorMax: 1,
  nodesMax: 1_000,
  listenersPerNodeMax: 8,
  namedProducersMax: 100_000,
  connectorsMax: 256,
  topicsPerConnectorMax: 1_000,
  tasksMax: 20_000,
  sinkConfigCharsMax: 64 * 1024,
  sinkConfigTotalCharsMax: 2 * 1024 * 1024,
  rememberedNamesMax: 100_000,
};

/** Requests are remembered for this many batches of the log ... */
export const requestMemoryBatches = 4_096;

/** ... and never more than this many of them. */
export const requestMemoryMax = 8_192;

/** Removed producers told to watchers; the oldest are forgotten beyond it (their state then stays on storage nodes). */
export const removedProducersKept = 10_000;

/** Longest request id, in characters. */
export const requestIdCharsMax = 64;

/** Longest free text of a node: incarnation, directory, rack, version, host. */
export const nodeTextCharsMax = 256;

/** Highest feature level this code writes and understands. */
export const featureLevelSupported = 1;

/** Ids from here on belong to named producers (P1). */
export const namedProducerIdMin = 2 ** 40;

/** Highest producer epoch: an int16 (P2). */
export const producerEpochMax = 32_767;
