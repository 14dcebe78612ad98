/**
 * The few places where the kit reaches into grpc-js 1.14.7 (pinned), because its public surface lacks them: the HTTP/2
 * server behind a `Server` (for the receive window, which grpc-js never raises: grpc-node #3058) and the HTTP/2 stream
 * behind a call (to end one whose peer no longer reads). Everything is checked when it is used, so an upgrade that moves
 * these fails at once.
 */
import type { Http2Server, ServerHttp2Stream, ServerOptions } from "node:http2";
import type { Server, ServerCredentials } from "@grpc/grpc-js";
import { invariant } from "@millrace/base";

interface ServerInternals {
  commonServerOptions?: ServerOptions & { readonly handshakeTimeout?: number };
  createHttp2Server?: (credentials: ServerCredentials) => Http2Server;
}

/** Adds options to the HTTP/2 servers a `Server` makes, and shows each to `onServer` when it is made. */
export function tuneHttp2(
  server: Server,
  options: ServerOptions & { readonly handshakeTimeout: number },
  onServer: (server: Http2Server) => void,
): void {
  const internals = server as unknown as ServerInternals;
  const create = internals.createHttp2Server?.bind(server);
  invariant(
    create !== undefined && internals.commonServerOptions !== undefined,
    "grpc-js is the pinned version",
  );
  internals.commonServerOptions = {
    ...internals.commonServerOptions,
    ...options,
    settings: { ...internals.commonServerOptions.settings, ...options.settings },
  };
  internals.createHttp2Server = (credentials) => {
    const made = create(credentials);
    onServer(made);
    return made;
  };
}

/** The HTTP/2 stream of a call. */
export function streamOfCall(call: object): ServerHttp2Stream {
  const { stream } = (call as { readonly call?: { readonly stream?: ServerHttp2Stream } }).call ?? {};
  invariant(stream !== undefined, "grpc-js is the pinned version");
  return stream;
}
