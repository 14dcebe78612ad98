/** What users of a producer see beside the producer itself. */
import type { CompressionName, Header } from "@millrace/record";

/** Options of a producer. Times in milliseconds. */
export interface ProducerOptions {
  /** How long a batch waits for more records; default 5. */
  readonly lingerMs?: number;
  /** Size at which a batch is sent; default 256 KiB. */
  readonly batchBytes?: number;
  /** none (default), gzip or zstd. */
  readonly compression?: CompressionName;
  /** Bytes of records held before `send` waits; default 32 MiB. */
  readonly bufferBytes?: number;
  /** From `send` to the ack; then the send is given up, its outcome unknown if it was under way. Default 120 000. */
  readonly deliveryTimeoutMs?: number;
  /** Batches in flight per partition, at most 5 (rule P1); default 5. */
  readonly maxInFlightPerPartition?: number;
  /** False: no producer id; a retry may then write twice. Default true. */
  readonly idempotent?: boolean;
}

/** A record to send. Strings are UTF-8. */
export interface ProducerRecord {
  readonly key?: Uint8Array | string | null;
  readonly value: Uint8Array | string | null;
  readonly headers?: readonly Header[];
  /** Epoch milliseconds; default now. */
  readonly timestampMs?: number;
}

/** Where to. */
export interface SendOptions {
  /** Overrides key and sticky choice. */
  readonly partition?: number;
}

/** Where a record landed. */
export interface RecordMetadata {
  readonly partition: number;
  /** -1 for a recognised repetition whose offset is no longer known. */
  readonly offset: number;
  readonly timestampMs: number;
}

/** A run of records of one `sendMany` that landed next to each other. */
export interface AckedRange {
  readonly partition: number;
  /** Offset of the first; -1 for a recognised repetition whose offset is no longer known. */
  readonly baseOffset: number;
  readonly count: number;
}
