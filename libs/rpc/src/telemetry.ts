/** What the kit logs and measures. */
import { declareCounter, declareEvent, declareGauge } from "@millrace/telemetry";

/** Calls by method and outcome. */
export const callsTotal = declareCounter({
  name: "rpc_calls_total",
  help: "Finished calls, by method and by OK or the reason of the error table.",
  labels: ["method", "outcome"],
});

/** Calls now running. */
export const callsInFlight = declareGauge({
  name: "rpc_calls_in_flight",
  help: "Calls being served.",
  labels: ["listener"],
});

/** Connections now open. */
export const connectionsOpen = declareGauge({
  name: "rpc_connections",
  help: "Open connections.",
  labels: ["listener"],
});

/** A connection that never became a gRPC connection. */
export const connectionRefused = declareEvent({
  name: "rpc_connection_refused",
  level: "warn",
  message: "A connection was refused.",
  fields: {
    listener: "name of the listener",
    cause: "handshake_timeout, handshake_failed, too_many",
    peer: "address of the caller",
    detail: "what the transport said",
  },
  counter: "rpc_connections_refused_total",
  labels: ["listener", "cause"],
  rateLimitMs: 10_000,
});

/** A failure nobody expected: the caller gets the id, the log the details. */
export const internalError = declareEvent({
  name: "rpc_internal_error",
  level: "error",
  message: "A call failed unexpectedly.",
  fields: { errorId: "id that the caller was told", method: "path of the call", error: "what was thrown" },
  counter: "rpc_internal_errors_total",
  labels: ["method"],
});

/** The server listens. */
export const listenerBound = declareEvent({
  name: "rpc_listener_bound",
  level: "info",
  message: "Listening.",
  fields: {
    listener: "name of the listener",
    address: "bound address",
    advertised: "address that peers are told",
    tls: "true when connections are encrypted",
  },
});
