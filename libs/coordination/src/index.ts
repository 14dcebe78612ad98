export { batchHash, decodeBatch, encodeBatch, planChange } from "./batch-codec.ts";
export { ChangeAssembler, type LoggedChange } from "./change-assembler.ts";
export { EmbeddedLog, type EmbeddedLogOptions, openEmbeddedLog } from "./embedded/embedded-log.ts";
export {
  type AppendOutcome,
  batchBytesMax,
  type LoggedBatch,
  type LogPosition,
  type LogSnapshot,
  logStart,
  type MetadataLog,
  type NewBatch,
} from "./types.ts";
