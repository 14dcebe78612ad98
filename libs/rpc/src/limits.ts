/** Every limit of the kit, in one place. */

/** Limits of a server. All can be set per server; these are the defaults. */
export interface ServerLimits {
  /** Largest message in either direction, in bytes. */
  readonly messageBytesMax: number;
  /** Calls at once on one connection. */
  readonly concurrentCallsMax: number;
  /** Connections at once on one listener. */
  readonly connectionsMax: number;
  /** Milliseconds from accept to a finished TLS and HTTP/2 handshake. */
  readonly handshakeMsMax: number;
  /** Milliseconds a unary call may take, whatever its caller allows. */
  readonly unaryMsMax: number;
  /** Milliseconds from the start of a call to its first whole message. */
  readonly firstMessageMsMax: number;
  /** Milliseconds a finished call's last messages may take to leave. */
  readonly flushMsMax: number;
  /** Bytes one call may have queued for the transport before `write` answers false. */
  readonly streamBufferBytes: number;
  /** HTTP/2 receive window of a stream and of a connection, in bytes (ecosystem.md §3.3). */
  readonly windowBytes: number;
  /** Memory of one HTTP/2 session, in MiB; beyond it new calls on it are refused. */
  readonly sessionMemoryMiB: number;
  /** Bytes of request headers. */
  readonly headerBytesMax: number;
  /** Milliseconds of silence before a ping, and for its answer. */
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Milliseconds a connection without calls is kept. */
  readonly idleMsMax: number;
  /** Milliseconds after which a connection takes no new calls: callers come back on a new one and may find new replicas. */
  readonly connectionAgeMs: number;
}

/** Defaults of {@link ServerLimits}. */
export const defaultServerLimits: ServerLimits = {
  messageBytesMax: 16 * 1024 * 1024,
  concurrentCallsMax: 256,
  connectionsMax: 1024,
  handshakeMsMax: 10_000,
  unaryMsMax: 60_000,
  firstMessageMsMax: 30_000,
  flushMsMax: 10_000,
  streamBufferBytes: 1024 * 1024,
  windowBytes: 4 * 1024 * 1024,
  sessionMemoryMiB: 64,
  headerBytesMax: 16 * 1024,
  keepaliveTimeMs: 30_000,
  keepaliveTimeoutMs: 10_000,
  idleMsMax: 5 * 60_000,
  connectionAgeMs: 60 * 60_000,
};

/** Limits of a client's connection. */
export interface ConnectionLimits {
  readonly messageBytesMax: number;
  readonly streamBufferBytes: number;
  readonly windowBytes: number;
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
  /** First and longest pause between attempts to connect. */
  readonly reconnectMsMin: number;
  readonly reconnectMsMax: number;
  /** Milliseconds of a unary call that names no deadline. */
  readonly deadlineMs: number;
}

/** Defaults of {@link ConnectionLimits}. */
export const defaultConnectionLimits: ConnectionLimits = {
  messageBytesMax: defaultServerLimits.messageBytesMax,
  streamBufferBytes: defaultServerLimits.streamBufferBytes,
  windowBytes: defaultServerLimits.windowBytes,
  keepaliveTimeMs: 20_000,
  keepaliveTimeoutMs: 10_000,
  reconnectMsMin: 50,
  reconnectMsMax: 1_000,
  deadlineMs: 30_000,
};

/** Longest error message on the wire, in characters: it travels in HTTP/2 trailers, whose size is bounded. */
export const errorMessageCharactersMax = 2_000;
