export { AppError, type Reason } from "@millrace/base";
export {
  Admin,
  type ConnectorAdmin,
  type FoundOffset,
  type NewConnector,
  type NewTopic,
  type TopicChange,
} from "./admin.ts";
export type { PoisonBatch } from "./batch-split.ts";
export { bootstrapServersDefault, Client, type ClientOptions } from "./client.ts";
export {
  type Assignment,
  Consumer,
  type ConsumerBatch,
  type ConsumerOptions,
  type StartAt,
  type StoredPosition,
} from "./consumer.ts";
export type { MetadataCache, PartitionInfo, TopicInfo } from "./metadata-cache.ts";
export type { MetadataChange, MetadataView } from "./metadata-view.ts";
export { NodeSession, type NodeSessionOptions, type Registration, type SeenFloors } from "./node-session.ts";
export { encodeOpaque, type OpaqueMessage } from "./opaque-message.ts";
export type { ProducerIdentity } from "./partition-accumulator.ts";
export { PartitionWriter, type PartitionWriterOptions, type WriteOptions } from "./partition-writer.ts";
export type { ProduceAnswer } from "./produce-stream.ts";
export { Producer } from "./producer.ts";
export type {
  AckedRange,
  ProducerOptions,
  ProducerRecord,
  RecordMetadata,
  SendOptions,
} from "./producer-api.ts";
export { errorFromMessage, errorToMessage } from "./proto-errors.ts";
