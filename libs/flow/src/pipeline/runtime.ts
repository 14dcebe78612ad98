/** What a pipeline runs on. */
import type { DataDirectory } from "@millrace/log";
import type { Clock, Disk } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import type { SinkLimits } from "../run/sink-runner.ts";

/** The surroundings of a pipeline. */
export interface PipelineRuntime {
  /** Name of the agent. */
  readonly agent: string;
  /** Opened with role agent; the pipeline does not close it. */
  readonly directory: DataDirectory;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** Default metadata addresses of components. */
  readonly bootstrapServers: readonly string[];
  /** Paths no source may read, beside the data directory. */
  readonly protectedPaths?: readonly string[];
  /** Sinks that need the cluster open only once this resolves (L1). */
  readonly whenClusterReady?: (signal: AbortSignal) => Promise<void>;
  /** Bounds of sinks, where they differ from the defaults. */
  readonly sinkLimits?: Partial<SinkLimits>;
}
