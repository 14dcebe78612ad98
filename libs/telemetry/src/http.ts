/**
 * The one HTTP port of a process: `/metrics` (Prometheus), `/healthz` (alive), `/readyz` (ready, with reasons).
 * It tells nothing else; requests are bounded in size, time and number. Loopback unless told otherwise.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { AppError } from "@millrace/base";
import { errorCode, portInUse } from "@millrace/runtime";
import { mergeMetricTexts } from "./metrics.ts";
import type { ReadinessSnapshot } from "./readiness.ts";
import type { Telemetry } from "./telemetry.ts";

/** Connections served at once. */
const connectionsMax = 64;
/** Milliseconds for a request to arrive whole. */
const requestMsMax = 10_000;

/** Where the port is bound. */
export interface HttpOptions {
  /** 127.0.0.1 when absent. */
  readonly host?: string;
  /** 0 = any free one. */
  readonly port: number;
  /** The flag named when the port is in use. */
  readonly flag?: string;
}

/** A running port. */
export interface HttpEndpoint {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Serves one root, or several in one process (`millrace up`). Throws ALREADY_LOCKED when the port is taken. */
export async function startHttp(
  telemetry: Telemetry | readonly Telemetry[],
  options: HttpOptions,
): Promise<HttpEndpoint> {
  const roots: readonly Telemetry[] = "metrics" in telemetry ? [telemetry] : telemetry;
  const host = options.host ?? "127.0.0.1";
  const server = createServer({
    requestTimeout: requestMsMax,
    headersTimeout: requestMsMax,
    maxHeaderSize: 8192,
  });
  server.maxConnections = connectionsMax;
  server.keepAliveTimeout = 5_000;
  server.on("request", (request, response) => {
    answer(roots, request, response).catch((error: unknown) => {
      roots[0]?.log.error({ error: AppError.from(error) }, "An answer on the HTTP port failed.");
      send(response, 500, "text/plain; charset=utf-8", "internal error\n");
    });
  });
  await listen(server, host, options);
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  return {
    host,
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, host: string, options: HttpOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => {
      reject(
        errorCode(error) === "EADDRINUSE"
          ? portInUse(host, options.port, options.flag ?? "--http-port", error)
          : new AppError("INVALID_CONFIG", `cannot listen on ${host}:${options.port}: ${error.message}`, {
              cause: error,
            }),
      );
    });
    server.listen(options.port, host, resolve);
  });
}

async function answer(
  roots: readonly Telemetry[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // A body is not read: the connection ends with the answer.
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("connection", "close");
    send(response, 405, "text/plain; charset=utf-8", "only GET is served here\n");
    return;
  }
  switch (request.url?.split("?", 1)[0]) {
    case "/metrics": {
      const texts = await Promise.all(roots.map((root) => root.metrics.text()));
      send(response, 200, "text/plain; version=0.0.4; charset=utf-8", mergeMetricTexts(texts));
      return;
    }
    case "/healthz":
      send(response, 200, "text/plain; charset=utf-8", "ok\n");
      return;
    case "/readyz": {
      const state = mergeReadiness(roots);
      send(response, state.ready ? 200 : 503, "application/json", `${JSON.stringify(state)}\n`);
      return;
    }
    default:
      send(
        response,
        404,
        "text/plain; charset=utf-8",
        "not found: /metrics, /healthz and /readyz are here\n",
      );
  }
}

/** With several roots each part's name starts with its service. */
function mergeReadiness(roots: readonly Telemetry[]): ReadinessSnapshot {
  const states = roots.map((root) => ({ root, state: root.readiness.snapshot() }));
  const parts = states.flatMap(({ root, state }) =>
    state.parts.map((part) => ({
      ...part,
      name: roots.length > 1 ? `${root.service}: ${part.name}` : part.name,
    })),
  );
  return { ready: states.every(({ state }) => state.ready), parts };
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  if (response.headersSent) return;
  response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
  response.end(body);
}
