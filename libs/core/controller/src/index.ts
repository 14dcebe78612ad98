export { applyBatch, applyRecords, beginBatch, ImageBuilder } from "./apply.ts";
export { changesOf, type ImageChanges } from "./changes.ts";
export type {
  AllocateProducerIds,
  AlterTopic,
  Command,
  CreateConnector,
  CreateTopic,
  Decision,
  DecisionInputs,
  DeleteConnector,
  DeleteTopic,
  ElectController,
  InitProducer,
  NodeTimedOut,
  RegisterNode,
  RemoveProducer,
  SeenLeaderEpoch,
  StopNode,
} from "./commands.ts";
export { decide } from "./decide.ts";
export { connectorNamed } from "./decide-connectors.ts";
export { topicNamed, topicWithId } from "./decide-topics.ts";
export {
  type AnsweredRequest,
  aliveNodes,
  type ClusterImage,
  type ConnectorImage,
  type ConnectorMemory,
  compareText,
  emptyImage,
  type LineageImage,
  type NodeImage,
  type ProducerImage,
  type TaskImage,
  type TopicImage,
  taskKey,
  topicByName,
} from "./image.ts";
export {
  type ControllerLimits,
  defaultLimits,
  featureLevelSupported,
  namedProducerIdMin,
  producerEpochMax,
  requestMemoryBatches,
} from "./limits.ts";
export type * from "./records.ts";
export { snapshotRecords } from "./snapshot.ts";
export {
  changeTopicConfig,
  messageBytesMax,
  type TopicConfigKey,
  type TopicConfigType,
  topicConfigKeys,
  topicConfigValue,
} from "./topic-config.ts";
