/** The connector service from outside: what it is started with, and what a running one offers. */
import type { AppError } from "@millrace/base";
import type { ComponentRegistry } from "@millrace/flow";
import type { TlsClientOptions } from "@millrace/rpc";
import type { Clock, Disk } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import type { ConnectorTaskStatus } from "./drivers/task-runner.ts";

/** How a connector instance is started. */
export interface ConnectorOptions {
  /** Data directory, made when absent. */
  readonly dataDirectory: string;
  /** Default: the directory's, or one made of the directory's id. */
  readonly nodeId?: string;
  /** Metadata replicas, host:port. */
  readonly bootstrapServers: readonly string[];
  /** TLS towards the cluster. */
  readonly tls?: TlsClientOptions;
  readonly telemetry?: Telemetry;
  readonly rack?: string;
  readonly version?: string;
  readonly clock?: Clock;
  readonly disk?: Disk;
  /** Sink types; those of this build when absent. */
  readonly registry?: ComponentRegistry;
}

/** A running connector instance. */
export interface ConnectorService {
  readonly nodeId: string;
  readonly telemetry: Telemetry;
  /** Resolves when the instance is registered and follows the metadata; rejects when it is refused for good. */
  readonly ready: Promise<void>;
  /** Resolves with the error that ends the instance's usefulness: refused by the controller. */
  readonly failed: Promise<AppError>;
  /** The tasks as they stand now; synchronous, one consistent cut (S1). Storage holds retention at `resume` (S2). */
  status(): ConnectorTaskStatus[];
  /** Publishes what all sinks hold now, instead of when they would (`--once`). */
  flush(): Promise<void>;
  /** Publishes what was read, lets the tasks move, stops; returns what did not stop well. */
  stop(): Promise<readonly AppError[]>;
}
