export {
  type BatchHeader,
  batchSizeAt,
  type FoundBatch,
  iterateBatches,
  type ProducerStamp,
  readBatchHeader,
  setBaseOffset,
  setLeaderEpoch,
  setProducer,
} from "./batch-header.ts";
export { type Codec, type CompressionName, codecs, compressionNames } from "./codecs.ts";
export { crc32c } from "./crc32c.ts";
export { type DecodeLimits, decodeBatch } from "./decode.ts";
export { BatchBuilder, type BatchBuilderOptions, type EncodeOptions, encodeBatch } from "./encode.ts";
export {
  batchBytesHardMax,
  batchBytesMaxDefault,
  batchHeaderBytes,
  headersPerRecordMax,
  inflatedBytesMaxDefault,
  recordsPerBatchMax,
} from "./limits.ts";
export { murmur2, partitionForKey } from "./partitioner.ts";
export { type DecodedRecord, type Header, noHeaders, type Record } from "./types.ts";
export { type BatchLimits, validateProducedBatch, verifyBatch, walkBatch } from "./validate.ts";
