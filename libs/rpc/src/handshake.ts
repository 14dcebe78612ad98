/**
 * The handshake that opens every stream and registration: who is there, of which cluster, speaking what. Pure decisions.
 */
import { AppError } from "@millrace/base";
import type { Handshake, HandshakeReply } from "@millrace/proto/common";

/** The protocol version this code speaks. The first is 1. */
export const protocolVersion = 1;

/** Who a server is. The functions are asked at each handshake: both values are learned at registration. */
export interface ServerIdentity {
  /** "" until known. */
  clusterId(): string;
  readonly nodeId: string;
  /** Id of this start of the process. */
  readonly incarnation: string;
  /** 0 where the server is not a registered node. */
  nodeEpoch(): number;
}

/** What a side can speak. */
export interface Supported {
  readonly protocolMin: number;
  readonly protocolMax: number;
  readonly features: readonly string[];
}

/** What this version speaks. */
export const supportedProtocol: Supported = {
  protocolMin: protocolVersion,
  protocolMax: protocolVersion,
  features: [],
};

/** Who calls. */
export interface CallerIdentity {
  /** "" when unknown. */
  readonly clusterId: string;
  readonly nodeId: string;
  readonly incarnation: string;
  /** 0 for clients. */
  readonly nodeEpoch?: number;
}

/** The opening message of a caller. */
export function makeHandshake(caller: CallerIdentity, supported: Supported = supportedProtocol): Handshake {
  return {
    clusterId: caller.clusterId,
    nodeId: caller.nodeId,
    incarnation: caller.incarnation,
    protocolMin: supported.protocolMin,
    protocolMax: supported.protocolMax,
    features: [...supported.features],
    nodeEpoch: caller.nodeEpoch ?? 0,
  };
}

/**
 * The server's side: the answer, or CLUSTER_MISMATCH, UNSUPPORTED_VERSION, or INVALID_REQUEST when a stream does not begin
 * with a handshake. `creditBytes` is what the stream grants (0 where it grants nothing).
 */
export function checkHandshake(
  handshake: Handshake | undefined,
  identity: ServerIdentity,
  supported: Supported = supportedProtocol,
  creditBytes = 0,
): HandshakeReply {
  if (handshake === undefined) {
    throw new AppError(
      "INVALID_REQUEST",
      "the first message of the stream must be a handshake (field `open`)",
    );
  }
  checkCluster(handshake.clusterId, identity, handshake.nodeId || "the caller");
  const { protocolMin, protocolMax } = handshake;
  const version = Math.min(protocolMax, supported.protocolMax);
  if (protocolMin > protocolMax || version < Math.max(protocolMin, supported.protocolMin)) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `${handshake.nodeId || "the caller"} speaks protocol versions ${protocolMin} to ${protocolMax}, node ` +
        `${identity.nodeId} speaks ${supported.protocolMin} to ${supported.protocolMax}: upgrade the older one`,
      {
        metadata: { protocolMin: String(supported.protocolMin), protocolMax: String(supported.protocolMax) },
      },
    );
  }
  return {
    clusterId: identity.clusterId(),
    nodeId: identity.nodeId,
    incarnation: identity.incarnation,
    protocolVersion: version,
    features: supported.features.filter((feature) => handshake.features.includes(feature)),
    creditBytes,
    nodeEpoch: identity.nodeEpoch(),
  };
}

/** Refuses a caller of another cluster. An id that one side does not know yet ("") matches. */
export function checkCluster(clusterId: string, identity: ServerIdentity, caller = "the caller"): void {
  const own = identity.clusterId();
  if (clusterId === "" || own === "" || clusterId === own) return;
  throw new AppError(
    "CLUSTER_MISMATCH",
    `${caller} belongs to cluster ${clusterId}, node ${identity.nodeId} to cluster ${own}: check the address`,
    { metadata: { clusterId: own } },
  );
}

/** The caller's side: refuses an answer from another cluster than `clusterId` ("" = any) or in an unknown version. */
export function checkHandshakeReply(
  reply: HandshakeReply | undefined,
  clusterId: string,
  supported: Supported = supportedProtocol,
): HandshakeReply {
  if (reply === undefined) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      "the server did not answer the handshake: it is no Millrace node",
    );
  }
  if (clusterId !== "" && reply.clusterId !== "" && reply.clusterId !== clusterId) {
    throw new AppError(
      "CLUSTER_MISMATCH",
      `node ${reply.nodeId} belongs to cluster ${reply.clusterId}, this process to ${clusterId}: check the address`,
      { metadata: { clusterId: reply.clusterId } },
    );
  }
  if (reply.protocolVersion < supported.protocolMin || reply.protocolVersion > supported.protocolMax) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      `node ${reply.nodeId} chose protocol version ${reply.protocolVersion}, this process speaks ` +
        `${supported.protocolMin} to ${supported.protocolMax}`,
    );
  }
  return reply;
}
