/**
 * The one error table: reason -> gRPC status -> retry class -> Kafka code.
 *
 * Every error a user or a peer can meet is an {@link AppError} with a reason from this table; what is not in it
 * is a bug and travels as INTERNAL. The table is data: `libs/rpc` maps it to `google.rpc.ErrorInfo`, the Kafka
 * gateway to Kafka's numbers, and `docs/reference/errors.md` is generated from it.
 */

/** gRPC status codes (numbers of the gRPC specification) used by the table. */
export const grpcCode = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/**
 * What a caller may do: `never` repeat it, `backoff` and repeat it at the same place, `refresh` metadata first,
 * repeat `afterDelay` told by the server, or find out what happened first (`unknownOutcome`).
 */
export type RetryClass = "never" | "backoff" | "refresh" | "afterDelay" | "unknownOutcome";

interface ErrorRow {
  readonly grpc: number;
  readonly retry: RetryClass;
  /** Kafka protocol error code, -1 (UNKNOWN_SERVER_ERROR) where Kafka has none. */
  readonly kafka: number;
  readonly text: string;
}

const row = (grpc: number, retry: RetryClass, kafka: number, text: string): ErrorRow => ({
  grpc,
  retry,
  kafka,
  text,
});
const g = grpcCode;

/** Every reason the system reports, with how it is carried and what the caller may do. */
// biome-ignore format: a table reads as rows
export const errorTable = {
  INVALID_REQUEST: row(g.INVALID_ARGUMENT, "never", 42, "The request is malformed or breaks a documented limit."),
  INVALID_CONFIG: row(g.INVALID_ARGUMENT, "never", 40, "A configuration value is missing, unknown or out of range."),
  INVALID_TOPIC: row(g.INVALID_ARGUMENT, "never", 17, "The topic name is not allowed."),
  INVALID_RECORD: row(g.INVALID_ARGUMENT, "never", 87, "The batch or one of its records breaks the record format."),
  RECORD_TOO_LARGE: row(g.INVALID_ARGUMENT, "never", 10, "A batch or record is larger than the limit."),
  RECORD_CORRUPT: row(g.INVALID_ARGUMENT, "never", 2, "The batch does not match its checksum."),
  UNSUPPORTED_COMPRESSION: row(g.INVALID_ARGUMENT, "never", 76, "The compression codec is not known here."),
  UNSUPPORTED_VERSION: row(g.FAILED_PRECONDITION, "never", 35, "The protocol, format or feature level is not supported."),
  TOPIC_NOT_FOUND: row(g.NOT_FOUND, "refresh", 3, "No such topic."),
  TOPIC_ALREADY_EXISTS: row(g.ALREADY_EXISTS, "never", 36, "A topic of this name exists."),
  UNKNOWN_TOPIC_ID: row(g.NOT_FOUND, "refresh", 100, "No partition with this topic id is hosted here."),
  CONNECTOR_NOT_FOUND: row(g.NOT_FOUND, "never", -1, "No such connector."),
  CONNECTOR_ALREADY_EXISTS: row(g.ALREADY_EXISTS, "never", -1, "A connector of this name exists."),
  NOT_LEADER: row(g.ABORTED, "refresh", 6, "This node does not lead the partition."),
  FENCED_LEADER_EPOCH: row(g.ABORTED, "refresh", 74, "The request carries an older leader epoch."),
  UNKNOWN_LEADER_EPOCH: row(g.ABORTED, "refresh", 75, "The request carries a leader epoch this node has not heard of."),
  NOT_CONTROLLER: row(g.ABORTED, "refresh", 41, "This metadata replica is not the active controller."),
  STALE_NODE_EPOCH: row(g.FAILED_PRECONDITION, "refresh", 77, "The node has registered again since; this request is of an older registration."),
  LINEAGE_REFUSED: row(g.FAILED_PRECONDITION, "never", 104, "The data directory is a copy or an older state of one that went on."),
  CLUSTER_MISMATCH: row(g.FAILED_PRECONDITION, "never", 104, "The peer or the directory belongs to another cluster."),
  HISTORY_MISMATCH: row(g.FAILED_PRECONDITION, "never", 104, "The metadata log is another history than the one that was followed so far."),
  PRODUCER_FENCED: row(g.FAILED_PRECONDITION, "never", 90, "A newer epoch of this producer exists."),
  OUT_OF_ORDER_SEQUENCE: row(g.FAILED_PRECONDITION, "never", 45, "The producer's sequence leaves a gap."),
  UNKNOWN_PRODUCER: row(g.FAILED_PRECONDITION, "never", 59, "The producer's state is unknown and its sequence is not 0."),
  SEQUENCE_PARTLY_PRESENT: row(g.FAILED_PRECONDITION, "never", 46, "A part of the batch is in the log already; the sender trims."),
  OFFSET_OUT_OF_RANGE: row(g.OUT_OF_RANGE, "never", 1, "The offset is not in the log."),
  LOG_TRUNCATED: row(g.OUT_OF_RANGE, "never", 1, "The stored position's leader epoch does not match the log: it was truncated."),
  NOT_ENOUGH_REPLICAS: row(g.UNAVAILABLE, "backoff", 19, "Too few in-sync replicas."),
  NODE_STARTING: row(g.UNAVAILABLE, "backoff", 14, "The node is starting or draining."),
  STORAGE_FAILED: row(g.UNAVAILABLE, "backoff", 56, "The data directory is offline after a disk error."),
  DISK_FULL: row(g.UNAVAILABLE, "backoff", 56, "The disk is full; appends are paused until there is room."),
  RECORD_LOST_ON_DISK: row(g.DATA_LOSS, "never", 2, "Flushed data on disk is corrupt; the range is reported and not served."),
  CREDIT_EXCEEDED: row(g.RESOURCE_EXHAUSTED, "afterDelay", 89, "More bytes in flight than the stream or partition was granted."),
  CHANNEL_FULL: row(g.RESOURCE_EXHAUSTED, "afterDelay", 89, "The channel is full."),
  LIMIT_EXCEEDED: row(g.RESOURCE_EXHAUSTED, "never", 44, "A named limit of the server would be passed."),
  HOP_REFUSED: row(g.FAILED_PRECONDITION, "never", -1, "The receiver cannot take this sender's records; its message says why."),
  STALE_SESSION: row(g.FAILED_PRECONDITION, "never", 82, "A newer start or session of this sender is known."),
  STALE_TASK: row(g.FAILED_PRECONDITION, "never", 22, "The task has moved: a higher task epoch is known."),
  ALREADY_LOCKED: row(g.FAILED_PRECONDITION, "never", -1, "Another process holds the directory or port."),
  UNAVAILABLE: row(g.UNAVAILABLE, "backoff", 8, "The peer cannot be reached."),
  TIMED_OUT: row(g.DEADLINE_EXCEEDED, "unknownOutcome", 7, "No answer within the deadline; the outcome is unknown."),
  CANCELLED: row(g.CANCELLED, "unknownOutcome", -1, "The call was cancelled; the outcome is unknown."),
  NOT_AUTHENTICATED: row(g.UNAUTHENTICATED, "never", 58, "The caller did not prove who it is."),
  ACCESS_DENIED: row(g.PERMISSION_DENIED, "never", 29, "The caller may not do this."),
  UNIMPLEMENTED: row(g.UNIMPLEMENTED, "never", 35, "The server does not know this call."),
  INTERNAL: row(g.INTERNAL, "never", -1, "An unexpected failure; its id is in the server's log."),
} as const satisfies Record<string, ErrorRow>;

/** A reason from {@link errorTable}. */
export type Reason = keyof typeof errorTable;

/** True when `text` names a reason of the table. */
export function isReason(text: string): text is Reason {
  return Object.hasOwn(errorTable, text);
}

/** Dynamic parts of an error's message by name, so that programs need not parse text. */
export type ErrorMetadata = Readonly<Record<string, string>>;

/**
 * An expected failure: something a user, a peer or the disk can cause.
 * The message says what happened, where, and what to do.
 */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly reason: Reason;
  readonly metadata: ErrorMetadata;

  constructor(reason: Reason, message: string, options: { metadata?: ErrorMetadata; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.metadata = options.metadata ?? {};
  }

  /** What a caller may do about it. */
  get retry(): RetryClass {
    return errorTable[this.reason].retry;
  }

  /** True when the same request may be sent again without harm. */
  get isRetriable(): boolean {
    return this.retry === "backoff" || this.retry === "refresh" || this.retry === "afterDelay";
  }

  /** Wraps anything thrown: an AppError stays itself, everything else becomes INTERNAL with its cause. */
  static from(thrown: unknown): AppError {
    if (thrown instanceof AppError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new AppError("INTERNAL", message, { cause: thrown });
  }
}

/** A bug: an assumption of the code does not hold. It stops the partition, channel or task, never the truth. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** Throws {@link InvariantError} unless `condition` holds. Stays on in production. */
export function invariant(condition: unknown, text: string): asserts condition {
  if (!condition) throw new InvariantError(text);
}

/** Marks a branch the types prove unreachable. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable: ${JSON.stringify(value)}`);
}
