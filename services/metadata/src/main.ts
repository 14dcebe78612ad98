/**
 * The metadata service: cluster metadata, node liveness, placement, ids, task assignment; one process on the embedded
 * log. `millrace up` and `millrace serve metadata` start it.
 */

import { type ControllerLimits, defaultLimits } from "@millrace/controller";
import type { Authorize, BoundListener, ListenerOptions } from "@millrace/rpc";
import { type Clock, type Disk, realDisk, systemClock } from "@millrace/runtime";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { defaultWatchLimits, type WatchLimits } from "./drivers/watch-hub.ts";
import { wire } from "./wiring.ts";

/** Port of the client listener, where clients and nodes bootstrap. */
export const defaultPort = 9750;

/** How the service is started; everything but the directory has a default. */
export interface MetadataOptions {
  /** Data directory, made when absent. */
  readonly dataDirectory: string;
  /** Id of this node; noted in the directory at first start. */
  readonly nodeId?: string;
  /** Where it listens; one client listener on 127.0.0.1:9750 when absent. */
  readonly listeners?: readonly ListenerOptions[];
  /** True: listeners beyond loopback may go without TLS. */
  readonly allowInsecure?: boolean;
  /** Time without heartbeat after which a node is fenced, milliseconds. */
  readonly sessionTimeoutMs?: number;
  /** Partitions of topics that do not say. */
  readonly defaultPartitionCount?: number;
  readonly defaultReplicationFactor?: number;
  /** Batches of the log between two snapshots. */
  readonly snapshotEveryBatches?: number;
  readonly limits?: ControllerLimits;
  readonly watchLimits?: WatchLimits;
  readonly version?: string;
  /** A silent one when absent. The caller closes what it gives. */
  readonly telemetry?: Telemetry;
  readonly authorize?: Authorize;
  readonly clock?: Clock;
  readonly disk?: Disk;
}

/** A running metadata service. */
export interface MetadataService {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly listeners: readonly BoundListener[];
  /** `host:port` of the client listener as clients are told. */
  readonly address: string;
  /** False once the metadata log went offline. */
  readonly ready: boolean;
  /** Ends watches, commits what is pending, closes the log cleanly. */
  stop(): Promise<void>;
}

/**
 * Starts the service and returns when it is the active controller and listens. Throws ALREADY_LOCKED (directory or port
 * in use), RECORD_LOST_ON_DISK (damaged log), UNSUPPORTED_VERSION (written by a newer version), CLUSTER_MISMATCH.
 */
export async function startMetadata(options: MetadataOptions): Promise<MetadataService> {
  const nodeId = options.nodeId ?? "metadata-1";
  const clock = options.clock ?? systemClock;
  const telemetry =
    options.telemetry ?? createTelemetry({ service: "metadata", node: nodeId, destination: "silent", clock });
  return wire({
    nodeId,
    clock,
    telemetry,
    dataDirectory: options.dataDirectory,
    listeners: options.listeners ?? [{ name: "client", host: "127.0.0.1", port: defaultPort }],
    allowInsecure: options.allowInsecure ?? false,
    sessionTimeoutMs: options.sessionTimeoutMs ?? 3_000,
    defaultPartitionCount: options.defaultPartitionCount ?? 1,
    defaultReplicationFactor: options.defaultReplicationFactor ?? 1,
    snapshotEveryBatches: options.snapshotEveryBatches ?? 5_000,
    limits: options.limits ?? defaultLimits,
    watchLimits: options.watchLimits ?? defaultWatchLimits,
    version: options.version ?? "",
    authorize: options.authorize,
    disk: options.disk ?? realDisk,
  });
}
