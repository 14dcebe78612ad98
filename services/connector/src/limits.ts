/** Named limits of the connector service. */

/** Port of /metrics when nobody says otherwise. */
export const httpPortDefault = 9781;

/** Bytes on their way to one task. Four times the largest message, so that a task never waits for its own credit. */
export const taskCreditBytes = 4 * 1024 * 1024;

/** Bytes asked for at once. */
export const taskFetchBytesMax = 1024 * 1024;

/** A sink without standing that holds records is flushed when nothing came for this long, milliseconds. */
export const idleFlushMs = 1_000;

/** Time a sink gets to publish what it holds when its task ends or the service stops, milliseconds. */
export const closingFlushMs = 5_000;

/** Time the controller gets to take the tasks over when the service stops, milliseconds. */
export const leaveMsMax = 2_000;

/** First and longest pause before a failed task is opened again, milliseconds. */
export const taskBackoff = { firstMs: 100, capMs: 5_000 } as const;

/** Longest error text kept in a status, in characters. */
export const statusErrorCharsMax = 1_000;
