/** Looks at a pipeline's file without running it: `millrace agent validate` and `graph`. */
import { components } from "@millrace/components";
import { graphMermaid, loadPipeline } from "@millrace/flow";

/** How the file is read. */
export interface CheckOptions {
  /** Agent of the file; needed when it has several. */
  readonly agent?: string | undefined;
  readonly isFlumeCompat?: boolean | undefined;
}

/** What a sound file says. */
export interface CheckedPipeline {
  readonly agent: string;
  readonly sourceCount: number;
  readonly channelCount: number;
  readonly sinkCount: number;
  /** Lines for the user that stop nothing. */
  readonly warnings: readonly string[];
  /** The pipeline as a Mermaid flowchart. */
  readonly mermaid: string;
}

/** Reads and checks a file. Throws INVALID_CONFIG with a line `file:line: ...` for every problem. */
export async function checkPipeline(file: string, options: CheckOptions = {}): Promise<CheckedPipeline> {
  const config = await loadPipeline(file, {
    registry: components,
    ...(options.agent === undefined ? {} : { agent: options.agent }),
    ...(options.isFlumeCompat === undefined ? {} : { isFlumeCompat: options.isFlumeCompat }),
  });
  return {
    agent: config.agent,
    sourceCount: config.sources.length,
    channelCount: config.channels.length,
    sinkCount: config.sinks.length,
    warnings: config.warnings,
    mermaid: graphMermaid(config),
  };
}
