export { type ConnectorConfig, connectorConfigSchema, connectorOptions } from "./config.ts";
export { checkSinkConfig } from "./drivers/sink-config.ts";
export type { ConnectorTaskStatus } from "./drivers/task-runner.ts";
export { startConnector } from "./main.ts";
export type { ConnectorOptions, ConnectorService } from "./service.ts";
