/** The named limits of channels and their defaults; Flume's where Flume has one. */

/** Flume's file channel: capacity. */
export const fileCapacityRecords = 1_000_000;
/** Flume's file channel: transactionCapacity. */
export const fileTransactionRecords = 10_000;
/** Bytes of undelivered records in a file channel. Flume has no such limit, only free disk space. */
export const fileCapacityBytes = 1024 * 1024 * 1024;
/** Flume's memory channel: capacity and transactionCapacity. */
export const memoryCapacityRecords = 100;
/** Bytes of records in a memory channel. Flume: 80 % of the heap. */
export const memoryCapacityBytes = 64 * 1024 * 1024;
/** Flume's keep-alive: how long a put waits for room. */
export const keepAliveMsDefault = 3_000;

/** Largest record in a channel: fields, headers and 64 bytes of framing. */
export const recordBytesMax = 16 * 1024 * 1024;
/** A put is encoded in batches of about this size; a larger record has a batch of its own. */
export const batchBytesTarget = 1024 * 1024;
/** Largest batch in a channel's log: one largest record and its header. */
export const batchBytesMax = recordBytesMax + 64 * 1024;
/** Size of a channel's segment files: delivered data is removed in these units. */
export const segmentBytesDefault = 64 * 1024 * 1024;

/** Bytes read from the log at once, and so about the most a file channel holds decoded. */
export const readAheadBytes = 1024 * 1024;
/** Put bytes after which a count of them is saved: what is counted again at the next start is at most this. */
export const countedBytesInterval = 16 * 1024 * 1024;
/** Distance of byte marks: how exactly the bytes of a partly delivered backlog are known. */
export const byteMarkInterval = 1024 * 1024;
/** Take positions are saved this long after a commit, milliseconds: many commits, one entry. */
export const saveDelayMs = 20;
/** Delivered bytes after which the log is told to let go of segments. */
export const advanceStartBytes = 1024 * 1024;
