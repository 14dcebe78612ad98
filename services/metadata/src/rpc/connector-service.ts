/** ConnectorService: administration of connectors. Tasks are the controller's (C1). */
import { AppError, invariant } from "@millrace/base";
import { connectorNamed } from "@millrace/controller";
import type { ConnectorServiceService } from "@millrace/proto/connector";
import type { ServiceHandlers } from "@millrace/rpc";
import { checkCluster, pageOf, type ServiceContext } from "./service-context.ts";
import { toConnector, toTask } from "./to-proto.ts";

/** The handlers. */
export function connectorService(context: ServiceContext): ServiceHandlers<typeof ConnectorServiceService> {
  const { controller, taskBoard } = context;
  return {
    createConnector: async (request) => {
      checkCluster(controller.image, request.clusterId);
      const { requestId, name, topics, sinkConfigJson, reset } = request;
      const { answer, image } = await controller.submit({
        kind: "createConnector",
        ...{ requestId, name, topics, sinkConfigJson, reset },
      });
      invariant(answer?.kind === "connectorCreated", "a creation is answered as one");
      const connector = image.connectors.get(name);
      if (connector?.connectorId !== answer.connectorId) {
        throw new AppError(
          "CONNECTOR_NOT_FOUND",
          `the request was answered before; its connector ${name} was deleted since`,
        );
      }
      return { connector: toConnector(connector) };
    },
    listConnectors: async (request) => {
      const connectors = controller.image.connectors.values();
      const { page, nextPageToken } = pageOf(connectors, (connector) => connector.name, request);
      return { connectors: page.map(toConnector), nextPageToken };
    },
    describeConnector: async (request) => {
      const { image } = controller;
      const connector = connectorNamed(image, request.name);
      const tasks = [...image.tasks.values()].filter((task) => task.connector === connector.name);
      return {
        connector: toConnector(connector),
        assignments: tasks.map(toTask),
        statuses: taskBoard.of(image, connector.name),
      };
    },
    deleteConnector: async (request) => {
      checkCluster(controller.image, request.clusterId);
      const { requestId, name } = request;
      await controller.submit({ kind: "deleteConnector", requestId, name });
      return {};
    },
  };
}
