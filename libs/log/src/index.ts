export { openDataDirectory, renewIdentity } from "./directory.ts";
export type { LogEvent } from "./events.ts";
export { defaultLogConfig } from "./limits.ts";
export {
  type Append,
  type Committed,
  type DataDirectory,
  type DirectoryIdentity,
  type DirectoryMeta,
  type DirectoryOptions,
  type Log,
  type LogConfig,
  type LogId,
  namedProducerIdMin,
  type ProducerInfo,
  type RecoveryReport,
  type SequenceVerdict,
  type StateChange,
} from "./types.ts";
