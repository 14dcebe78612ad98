/** The data itself: what a record is before it is encoded and after it is decoded. */

/** A header of a record. Keys may repeat; order is kept; "__proto__" is a key like any other. */
export interface Header {
  readonly key: string;
  readonly value: Uint8Array | null;
}

/** The unit of data. Key and value are bytes as they came; null and empty are different. */
export interface Record {
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: readonly Header[];
  /** Epoch ms, a safe integer; -1 = none (Kafka). */
  readonly timestampMs: number;
}

/** A record read from a log. Key and value are views into the batch's bytes: copy what outlives them. */
export interface DecodedRecord extends Record {
  /** Absolute offset in the partition. */
  readonly offset: number;
}

/** The one empty header list that all records without headers share. */
export const noHeaders: readonly Header[] = Object.freeze([]);
