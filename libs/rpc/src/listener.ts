/**
 * One bound address: a TCP server of our own in front of grpc-js, which takes accepted connections.
 *
 * What the gate adds: errors that name the owner of a port, a cap on connections, a time limit for TLS and HTTP/2
 * handshakes (half-open connections, bad input 42 and 44) and for a call's first message (39), and the receive window.
 */
import { readFileSync } from "node:fs";
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { createServer, isIP, type Server as NetServer, type Socket } from "node:net";
import { hostname } from "node:os";
import { type ConnectionInjector, Server, ServerCredentials } from "@grpc/grpc-js";
import { AppError } from "@millrace/base";
import { errorCode, portInUse } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { tuneHttp2 } from "./grpc-internals.ts";
import type { ServerLimits } from "./limits.ts";
import { connectionRefused, listenerBound } from "./telemetry.ts";
import type { BoundListener, ListenerOptions, TlsServerOptions } from "./types.ts";

/** How often calls that wait for their first message are looked at. */
const sweepMs = 1_000;
/** HTTP/2 error code CANCEL. */
const http2Cancel = 8;

/** See the file's comment. */
export class Listener {
  readonly grpc: Server;
  readonly #options: ListenerOptions;
  readonly #limits: ServerLimits;
  readonly #telemetry: Telemetry | undefined;
  readonly #sockets = new Set<Socket>();
  /** HTTP/2 streams whose call has not reached its handler, and since when. */
  readonly #waiting = new Map<ServerHttp2Stream, number>();
  readonly #net: NetServer;
  #sweep: NodeJS.Timeout | undefined;

  constructor(options: ListenerOptions, limits: ServerLimits, telemetry: Telemetry | undefined) {
    this.#options = options;
    this.#limits = limits;
    this.#telemetry = telemetry;
    this.grpc = new Server({
      "grpc.max_receive_message_length": limits.messageBytesMax,
      // Checked before sending, with a clearer error.
      "grpc.max_send_message_length": -1,
      "grpc.max_concurrent_streams": limits.concurrentCallsMax,
      "grpc.keepalive_time_ms": limits.keepaliveTimeMs,
      "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
      "grpc.max_connection_idle_ms": limits.idleMsMax,
      "grpc.max_connection_age_ms": limits.connectionAgeMs,
      "grpc-node.max_session_memory": limits.sessionMemoryMiB,
      "grpc.enable_channelz": 0,
    });
    tuneHttp2(
      this.grpc,
      {
        handshakeTimeout: limits.handshakeMsMax,
        settings: { initialWindowSize: limits.windowBytes, maxHeaderListSize: limits.headerBytesMax },
      },
      (server) => this.#watch(server),
    );
    this.#net = createServer({ noDelay: true });
    this.#net.maxConnections = limits.connectionsMax;
  }

  get name(): string {
    return this.#options.name;
  }

  get connectionCount(): number {
    return this.#sockets.size;
  }

  /** The call of this HTTP/2 stream has reached its handler. */
  started(stream: ServerHttp2Stream): void {
    this.#waiting.delete(stream);
  }

  /** Binds the address. Throws ALREADY_LOCKED when the port is taken, INVALID_CONFIG for what else is wrong. */
  async bind(): Promise<BoundListener> {
    const injector = this.#createInjector();
    this.#net.on("connection", (socket) => {
      this.#sockets.add(socket);
      // Without a listener an error before HTTP/2 has taken over would end the process.
      socket.on("error", () => undefined);
      socket.once("close", () => this.#sockets.delete(socket));
      injector.injectConnection(socket);
    });
    this.#net.on("drop", (dropped) => {
      this.#refused(
        "too_many",
        dropped?.remoteAddress,
        `more than ${this.#limits.connectionsMax} connections`,
      );
    });
    await this.#listen();
    this.#sweep = setInterval(() => this.#closeSlowCalls(), sweepMs).unref();
    return this.#bound();
  }

  /** No new connections and calls; resolves when the last connection is gone. */
  shutDown(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#net.close(() => resolve()));
    // Its own callback comes too early on Node 24, where closing an HTTP/2 server marks all sessions closed at once.
    this.grpc.tryShutdown(() => undefined);
    return closed;
  }

  /** Closes what is left at once. */
  destroy(): void {
    clearInterval(this.#sweep);
    this.#net.close();
    this.grpc.forceShutdown();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** What takes accepted connections; the certificate is read and checked here. */
  #createInjector(): ConnectionInjector {
    const { tls, name } = this.#options;
    try {
      return this.grpc.createConnectionInjector(
        tls === undefined ? ServerCredentials.createInsecure() : createTlsCredentials(tls),
      );
    } catch (error) {
      throw new AppError(
        "INVALID_CONFIG",
        `the TLS files of listener ${name} cannot be used: ${AppError.from(error).message}`,
        { cause: error },
      );
    }
  }

  #listen(): Promise<void> {
    const { host, port, name } = this.#options;
    return new Promise((resolve, reject) => {
      this.#net.once("error", (error) => {
        reject(
          errorCode(error) === "EADDRINUSE"
            ? portInUse(host, port, flagOf(this.#options), error)
            : new AppError(
                "INVALID_CONFIG",
                `listener ${name} cannot bind ${host}:${port}: ${error.message}. Check the address`,
                { cause: error },
              ),
        );
      });
      this.#net.listen(port, host, resolve);
    });
  }

  #bound(): BoundListener {
    const { name, host, advertisedHost, advertisedPort, tls } = this.#options;
    const address = this.#net.address();
    const port = typeof address === "object" && address !== null ? address.port : this.#options.port;
    const bound: BoundListener = {
      name,
      host,
      port,
      // A wildcard is no address that anybody could connect to.
      advertisedHost: advertisedHost ?? (isWildcard(host) ? hostname() : host),
      advertisedPort: advertisedPort ?? port,
      tls: tls !== undefined,
    };
    this.#telemetry?.emit(listenerBound, {
      listener: name,
      address: `${host}:${port}`,
      advertised: `${bound.advertisedHost}:${bound.advertisedPort}`,
      tls: bound.tls,
    });
    return bound;
  }

  #watch(server: Http2Server): void {
    server.on("session", (session) => this.#watchSession(session));
    // Before grpc-js's own listener, which may start the handler at once.
    server.prependListener("stream", (stream: ServerHttp2Stream) => {
      this.#waiting.set(stream, performance.now());
      stream.once("close", () => this.#waiting.delete(stream));
    });
    server.on("tlsClientError", (error: Error, socket: Socket) => {
      this.#refused("handshake_failed", socket.remoteAddress, error.message);
      socket.destroy();
    });
  }

  #watchSession(session: ServerHttp2Session): void {
    // A new session's window is 64 KiB, whatever the settings say of its streams.
    session.setLocalWindowSize(this.#limits.windowBytes);
    const peer = session.socket.remoteAddress;
    const timer = setTimeout(() => {
      this.#refused("handshake_timeout", peer, `no HTTP/2 settings within ${this.#limits.handshakeMsMax} ms`);
      session.destroy();
    }, this.#limits.handshakeMsMax).unref();
    let isGreeted = false;
    session.once("remoteSettings", () => {
      isGreeted = true;
      clearTimeout(timer);
    });
    session.once("close", () => clearTimeout(timer));
    session.on("error", (error: Error) => {
      if (!isGreeted) this.#refused("handshake_failed", peer, error.message);
    });
  }

  #closeSlowCalls(): void {
    const oldest = performance.now() - this.#limits.firstMessageMsMax;
    for (const [stream, since] of this.#waiting) {
      // In order of arrival.
      if (since > oldest) return;
      this.#waiting.delete(stream);
      stream.close(http2Cancel);
    }
  }

  #refused(cause: string, peer: string | undefined, detail: string): void {
    this.#telemetry?.emit(connectionRefused, { listener: this.name, cause, peer: peer ?? "unknown", detail });
  }
}

/** The flag that sets a listener's port. */
function flagOf(options: ListenerOptions): string {
  return options.portFlag ?? "--port";
}

/** True for addresses only this machine reaches. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::" || host === "";
}

function createTlsCredentials(tls: TlsServerOptions): ServerCredentials {
  const authority = tls.clientAuthorityFile === undefined ? null : readFileSync(tls.clientAuthorityFile);
  const pair = { private_key: readFileSync(tls.keyFile), cert_chain: readFileSync(tls.certificateFile) };
  return ServerCredentials.createSsl(authority, [pair], authority !== null);
}
