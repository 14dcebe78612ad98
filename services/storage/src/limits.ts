/** The named limits of the storage service. Bytes and milliseconds. */
/** Port of the client listener unless configured. Metadata has 9750. */
export const storagePortDefault = 9760;

/** Largest batch any topic may allow: `max.message.bytes` of the metadata service ends below the message limit. */
export const requestBytesMaxDefault = 7 * 1024 * 1024;

/** Bytes of batches a produce stream may have unanswered; at least four of the largest. */
export const streamCreditBytesDefault = 32 * 1024 * 1024;

/** Bytes of one fetch message unless the reader says otherwise, and the most it may ask for. */
export const fetchBytesDefault = 1024 * 1024;
/** See {@link fetchBytesDefault}. */
export const fetchBytesMax = 4 * 1024 * 1024;

/** Subscriptions of one fetch stream. */
export const subscriptionsMax = 10_000;

/** Bytes of one message of plain records. */
export const recordsMessageBytesMax = 1024 * 1024;

/** Longest wait of one FetchOnce. */
export const fetchOnceWaitMsMax = 60_000;

/** How long a stopping node waits until its streams have their answers. */
export const drainMsMax = 10_000;

/** Pause before partitions that could not be opened, led or deleted are tried again. */
export const bringUpRetryMs = 1_000;
