/** A pipeline that is known to be sound: what both syntaxes come to. */
import type { ChannelSettings } from "../channel/definitions.ts";
import type { InterceptorDefinition, SinkDefinition, SourceDefinition } from "../contract.ts";

/** One agent's pipeline. */
export interface PipelineConfig {
  readonly agent: string;
  /** Where it was read. */
  readonly file: string;
  readonly sources: readonly SourceConfig[];
  readonly channels: readonly ChannelConfig[];
  readonly sinks: readonly SinkConfig[];
  /** Lines for the user that stop nothing. */
  readonly warnings: readonly string[];
}

/** A source. */
export interface SourceConfig {
  readonly name: string;
  readonly definition: SourceDefinition;
  /** Parsed by the definition's schema. */
  readonly config: unknown;
  /** Channels that must take every record. */
  readonly required: readonly string[];
  /** Channels that take what they have room for. */
  readonly optional: readonly string[];
  readonly interceptors: readonly InterceptorConfig[];
  /** Records per read and transaction. */
  readonly batchSize: number;
}

/** An interceptor of a source. */
export interface InterceptorConfig {
  readonly name: string;
  readonly definition: InterceptorDefinition;
  readonly config: unknown;
}

/** A channel. */
export interface ChannelConfig {
  readonly name: string;
  readonly settings: ChannelSettings;
}

/** A sink. */
export interface SinkConfig {
  readonly name: string;
  readonly definition: SinkDefinition;
  readonly config: unknown;
  readonly channel: string;
  /** Records per take. */
  readonly batchSize: number;
  /** Changes when the configuration does (A5, C5). */
  readonly configHash: string;
  /** Another sink takes from the same channel (A6). */
  readonly isShared: boolean;
}
