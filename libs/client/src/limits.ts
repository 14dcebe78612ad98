/** The named limits and defaults of the SDK. Bytes and milliseconds. */

/** How long `Client.open` looks for a cluster before it gives up. */
export const openTimeoutMs = 2_000;

/** Deadline of one attempt of a call to the metadata service. */
export const metadataAttemptMs = 5_000;

/** How long a call to the metadata service is repeated (it moves between replicas on failures). */
export const metadataTimeoutMs = 15_000;

/** Deadline of a unary call to a storage node. */
export const storageCallMs = 15_000;

/** Back-off between attempts: first step and cap. */
export const retryFirstMs = 20;
/** See {@link retryFirstMs}. */
export const retryCapMs = 1_000;

/** Default size at which a batch is closed and sent. */
export const batchBytesDefault = 256 * 1024;

/** Size up to which a batch grows while its partition has no room for it; below the default `max.message.bytes`. */
export const grownBatchBytesMax = 1_000_000;

/** Default time a batch waits for more records. */
export const lingerMsDefault = 5;

/** Default bytes of records a producer holds before `send` waits. */
export const bufferBytesDefault = 32 * 1024 * 1024;

/** Most sends that may wait for buffer space at once; more are refused with LIMIT_EXCEEDED. */
export const waitingSendsMax = 100_000;

/** Default time from `send` to the ack before the send is given up. */
export const deliveryTimeoutMsDefault = 120_000;

/** Batches in flight per partition: what an anonymous producer's window recognises (rule P1). */
export const inFlightPerPartitionMax = 5;

/** Default batches in flight per partition of a named producer, whose window is its whole past. */
export const namedInFlightDefault = 16;

/** How long a sender waits for the answers of a node it is about to leave before it counts them as unknown. */
export const drainAnswersMs = 5_000;

/** Default bytes of data on the way to a consumer, per storage node. */
export const consumerCreditBytesDefault = 16 * 1024 * 1024;

/** Default size of one message of a fetch stream. */
export const fetchBytesMaxDefault = 1024 * 1024;

/** How long a sender or reader waits for newer metadata after a node said that what it knows is stale. */
export const refreshWaitMs = 5_000;

/** The same after a connection broke: the known leader may be back before the metadata service is. */
export const brokenRefreshWaitMs = 250;

/** A metadata watch without a message for so long is dead: the service sends one every 2 s. */
export const watchSilenceMs = 7_000;

/** Room in front of a batch under construction for the request around it (ids, numbers, lengths: below 80 bytes). */
export const requestHeadroomBytes = 128;

/** Batches up to this size are built in fresh small memory. */
export const smallBatchBytes = 32 * 1024;
