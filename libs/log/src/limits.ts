/** Every limit and period of the data directory, named. Sizes in bytes, times in milliseconds. */
import type { LogConfig } from "./types.ts";

const mebibyte = 1024 * 1024;

/** Size of one journal file unless `DirectoryOptions.journalFileBytes` says otherwise. */
export const journalFileBytesDefault = 64 * mebibyte;
/** Smallest journal file accepted: header, state table and an entry must fit (tests use it). */
export const journalFileBytesMin = 4096;
/** Journal files of a directory, in use and spare: the bound of the journal's size. */
export const journalFilesMax = 4;
/** Most bytes written with one fsync; one larger entry still goes alone. */
export const journalGroupBytesMax = 8 * mebibyte;
/** A journal file that is not yet allocated grows by zeros of this size, so that most fsyncs change no metadata. */
export const journalExtendBytes = 4 * mebibyte;
/** Payloads up to this size are copied beside their entry's head: fewer, larger chunks per write. */
export const inlinePayloadBytesMax = 4096;
/** Bytes queued for the journal beyond which `whenWritable` waits, by default. */
export const pendingBytesMaxDefault = 64 * mebibyte;
/** Share of a journal file that the state table may fill (J5: it opens each file). */
export const stateShareMax = 1 / 4;
/** Longest key of the state table in UTF-8 bytes (u16 on disk). */
export const stateKeyBytesMax = 1024;

/** Batches already in their segment files that stay in memory for readers at the end, per directory. */
export const tailCacheBytesMax = 32 * mebibyte;
/** Bytes durable but not yet in segment files beyond which the segment writer starts at once. */
export const segmentWriteBytes = 4 * mebibyte;
/** Longest time durable bytes wait for the segment writer. */
export const segmentWriteDelayMs = 200;
/** Most bytes in one write to a segment file. */
export const segmentWriteGroupBytesMax = 4 * mebibyte;
/** Logs written or synced side by side; the rest of the thread pool is the journal's. */
export const backgroundIoMax = 2;
/** Entries waiting in memory for an index file; beyond it they are written out. */
export const indexPendingBytesMax = 4096;

/** Longest time a lazy commit waits for company. */
export const lazyCommitDelayMs = 1000;
/** Open segment and index files kept per directory. */
export const openFilesMax = 512;
/** Read positions remembered per log, so that a reader that goes on needs no index. */
export const readHintsMax = 16;
/** Bytes read at a time while segments and journals are walked. */
export const walkChunkBytes = mebibyte;
/** Starts kept in `meta` (L1). */
export const startsMax = 1000;

/** How often a full disk is looked at again. */
export const diskFullRetryMs = 1000;
/** Free bytes from which a full disk counts as usable again. */
export const diskFullResumeBytes = 16 * mebibyte;

/** How often retention runs by itself (Kafka: log.retention.check.interval.ms). */
export const retentionCheckMs = 300_000;
/** A wall clock that moves against the monotonic one by more than this between two checks pauses time retention. */
export const clockJumpMsMax = 60_000;

/** Batches of an anonymous producer remembered by sequence (Kafka: ProducerStateEntry). */
export const producerWindowBatches = 5;
/** Anonymous producers are forgotten after this time without a batch (Kafka: producer.id.expiration.ms). */
export const anonymousProducerExpiryMs = 86_400_000;
/** Anonymous producers remembered per log; beyond it the longest silent one is forgotten. */
export const anonymousProducersMax = 65_536;

/** A log's settings where nobody says otherwise: Kafka's defaults, and fsync before ack. */
export const defaultLogConfig: LogConfig = {
  segmentBytes: 1024 * mebibyte,
  segmentMs: 7 * 86_400_000,
  indexIntervalBytes: 4096,
  segmentIndexBytes: 10 * mebibyte,
  retentionMs: 7 * 86_400_000,
  retentionBytes: -1,
  batchBytesMax: 1_048_588,
  flushPolicy: "fsync",
};

/** How often Kafka's own checkpoint files are refreshed (Kafka: log.flush.offset.checkpoint.interval.ms). */
export const kafkaCheckpointMs = 60_000;
/** Share of a journal file that one entry may fill, so that it fits behind the state snapshot. */
export const entryShareMax = 0.7;
