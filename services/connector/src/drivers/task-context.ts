/** What all tasks of an instance work with. */
import type { Client } from "@millrace/client";
import type { ComponentRegistry, DeadLetters } from "@millrace/flow";
import type { DataDirectory } from "@millrace/log";
import type { Clock, Disk } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";

/** See the file's comment. */
export interface TaskContext {
  readonly registry: ComponentRegistry;
  /** The cluster's client, opened at the first use. Throws UNAVAILABLE. */
  readonly client: () => Promise<Client>;
  readonly directory: DataDirectory;
  /** Dead letters of a connector, one file for all its tasks here. */
  readonly deadLetters: (connector: string) => DeadLetters;
  readonly bootstrapServers: readonly string[];
  readonly clock: Clock;
  readonly disk: Disk;
  readonly telemetry: Telemetry;
}
