export { type ChannelDefinition, type ChannelSettings, channelDefinitions } from "./channel/definitions.ts";
export { FileChannel } from "./channel/file-channel.ts";
export { batchBytesMax } from "./channel/limits.ts";
export { MemoryChannel } from "./channel/memory-channel.ts";
export { type OpenFileChannelOptions, openFileChannel } from "./channel/open-channel.ts";
export { decodeRecords, encodeRecords } from "./channel/record-codec.ts";
export type { Channel, ChannelFigures, ChannelLimits, Checkpoint, Take } from "./channel/types.ts";
export { graphMermaid, graphText } from "./config/graph.ts";
export { loadPipeline, type PipelineOptions, parsePipeline } from "./config/load.ts";
export type {
  ChannelConfig,
  InterceptorConfig,
  PipelineConfig,
  SinkConfig,
  SourceConfig,
} from "./config/pipeline-config.ts";
export {
  type Assignment,
  type ComponentContext,
  type ComponentDefinition,
  type ComponentRegistry,
  type DestinationBooks,
  defineInterceptor,
  defineSink,
  defineSource,
  type FlowRecord,
  type Guarantee,
  type Intake,
  type Interceptor,
  type InterceptorDefinition,
  type Offering,
  type OfferOutcome,
  type Origin,
  originKey,
  type PullSource,
  type PushSource,
  type ReadResult,
  type Sink,
  type SinkBatch,
  type SinkDefinition,
  type SinkFeedback,
  type SinkRecord,
  type SkippedInput,
  type Source,
  type SourceDefinition,
  type SourcePosition,
  type Standing,
  streamHeader,
} from "./contract.ts";
export { Pipeline, type PipelineStatus, type SourceAddress } from "./pipeline/pipeline.ts";
export type { PipelineRuntime } from "./pipeline/runtime.ts";
export { PutPath, type PutPathOptions } from "./put/put-path.ts";
export type { ChannelStatus, ComponentState, SinkStatus, SourceStatus } from "./run/component-state.ts";
export { type DeadLetter, DeadLetters } from "./run/dead-letters.ts";
