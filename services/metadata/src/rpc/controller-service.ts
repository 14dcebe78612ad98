/** ControllerService: registration (L1, L2) and heartbeats of nodes. */
import { AppError, invariant, printable } from "@millrace/base";
import type { Command } from "@millrace/controller";
import type {
  ControllerServiceService,
  HeartbeatRequest,
  HeartbeatResponse,
  RegisterNodeRequest,
  RegisterNodeResponse,
} from "@millrace/proto/controller";
import type { ServiceHandlers } from "@millrace/rpc";
import type { ServiceContext } from "./service-context.ts";
import { roleName } from "./to-proto.ts";

/** Entries of a start history that are looked at, the latest ones. */
const startsMax = 1_024;

/** The handlers. */
export function controllerService(context: ServiceContext): ServiceHandlers<typeof ControllerServiceService> {
  return {
    registerNode: (request) => registerNode(context, request),
    heartbeat: (request) => heartbeat(context, request),
  };
}

async function registerNode(
  context: ServiceContext,
  request: RegisterNodeRequest,
): Promise<RegisterNodeResponse> {
  const { controller, sessions } = context;
  const { clusterId } = context.greet(request.handshake);
  const { answer } = await controller.submit(registration(request));
  invariant(answer?.kind === "nodeRegistered", "a registration is answered as one");
  return {
    clusterId,
    nodeEpoch: answer.nodeEpoch,
    sessionTimeoutMs: sessions.timeoutMs,
    controllerId: controller.image.controllerId,
  };
}

function registration(request: RegisterNodeRequest): Command {
  const { handshake } = request;
  if (handshake === undefined)
    throw new AppError("INVALID_REQUEST", "a registration begins with a handshake");
  const role = roleName(request.role);
  if (role === undefined) {
    throw new AppError(
      "INVALID_REQUEST",
      `node ${printable(handshake.nodeId)} does not say what it does (role)`,
    );
  }
  return {
    kind: "registerNode",
    requestId: request.requestId,
    nodeId: handshake.nodeId,
    role,
    incarnation: handshake.incarnation,
    directoryId: request.directoryId,
    starts: request.starts.slice(-startsMax),
    listeners: request.listeners,
    rack: request.rack,
    version: request.version,
    seenNodeEpoch: request.seenNodeEpoch,
    seenProducerId: request.seenProducerId,
    seenNamedProducerId: request.seenNamedProducerId,
    seenEpochs: request.seenEpochs,
  };
}

async function heartbeat(context: ServiceContext, request: HeartbeatRequest): Promise<HeartbeatResponse> {
  const { controller, sessions, taskBoard } = context;
  const { nodeId, nodeEpoch, incarnation } = request;
  const node = controller.image.nodes.get(nodeId);
  if (node === undefined) return { mayStop: request.isStopping, isFenced: true };
  if (node.nodeEpoch !== nodeEpoch || node.incarnation !== incarnation) {
    throw new AppError(
      "STALE_NODE_EPOCH",
      `node ${nodeId} registered again since (epoch ${node.nodeEpoch}, this heartbeat has ${nodeEpoch}): another process runs under its id, or this one missed its own registration`,
      { metadata: { nodeId, nodeEpoch: String(node.nodeEpoch) } },
    );
  }
  if (node.state === "fenced") return { mayStop: request.isStopping, isFenced: true };
  sessions.touch(nodeId, nodeEpoch);
  taskBoard.report(controller.image, nodeId, request.tasks);
  if (request.isStopping && node.state === "alive") {
    await controller.submit({ kind: "stopNode", nodeId, nodeEpoch });
  }
  return { mayStop: request.isStopping, isFenced: false };
}
