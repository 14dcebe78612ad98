/**
 * The named limits of the record format. Each one bounds what a hostile or broken batch can make a reader allocate
 * (reliability.md §6.6 cases 2, 7, 11, 16, 17, 20, 21, 24).
 */

/** Size of a batch's header: everything before the first record. */
export const batchHeaderBytes = 61;

/** Bytes before and with the length field; a batch's whole size is its length field plus this. */
export const batchPrefixBytes = 12;

/** Default largest batch on produce, header included: Kafka's default `max.message.bytes`. */
export const batchBytesMaxDefault = 1_048_588;

/** Largest batch this library ever builds. The format's own limit is 2^31 - 1. */
export const batchBytesHardMax = 2 ** 30;

/** Smallest possible record: length, attributes, timestamp delta, offset delta, key, value and header count, 1 byte each. */
export const recordBytesMin = 7;

/** Largest number of records in one batch; 1.8 MB of empty records. */
export const recordsPerBatchMax = 262_144;

/** Largest number of headers of one record. */
export const headersPerRecordMax = 1_024;

/** Default cap on the records of one batch after decompression; inflation is aborted there. */
export const inflatedBytesMaxDefault = 64 * 1024 * 1024;

/** Largest number of concatenated zstd frames in one records block; producers write one. Each costs a call. */
export const framesPerBlockMax = 1_024;

/** Below this size the call into the native CRC costs more than it saves (ecosystem.md §1.3). */
export const nativeCrcBytesMin = 256;

/** Encoded header keys remembered by the encoder, and the longest key worth remembering. */
export const headerKeyCacheEntriesMax = 256;
/** See {@link headerKeyCacheEntriesMax}. */
export const headerKeyCacheCharsMax = 64;

/** First buffer of a batch under construction; it doubles from here. */
export const builderBytesInitial = 4_096;
