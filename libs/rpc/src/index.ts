export { type ConnectOptions, connect } from "./client.ts";
export { type CreditVerdict, CreditWindow } from "./credit.ts";
export {
  type CallerIdentity,
  checkCluster,
  checkHandshake,
  checkHandshakeReply,
  makeHandshake,
  protocolVersion,
  type ServerIdentity,
  type Supported,
  supportedProtocol,
} from "./handshake.ts";
export {
  type ConnectionLimits,
  defaultConnectionLimits,
  defaultServerLimits,
  type ServerLimits,
} from "./limits.ts";
export { createRpcServer, type RpcServerOptions } from "./server.ts";
export { errorDomain, fromStatus, retryAfterKey, toStatus } from "./status.ts";
export type {
  Authorize,
  BoundListener,
  CallContext,
  ClientDuplex,
  Duplex,
  DuplexHandler,
  DuplexMethod,
  HandlerOf,
  ListenerOptions,
  OutgoingStream,
  Principal,
  RpcConnection,
  RpcServer,
  ServerStreamHandler,
  ServerStreamMethod,
  ServiceHandlers,
  TlsClientOptions,
  TlsServerOptions,
  UnaryHandler,
  UnaryMethod,
} from "./types.ts";
