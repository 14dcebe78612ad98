/** Configuration of the connector service: file < environment < flag. */
import { addressList, formatHostPort, port, z } from "@millrace/config";
import { httpPortDefault } from "./limits.ts";
import type { ConnectorOptions } from "./service.ts";

/** See the file's comment. */
export const connectorConfigSchema = z.strictObject({
  dataDirectory: z.string().default("./data/connector").describe("Data directory; one process at a time."),
  nodeId: z.string().optional().describe("Name of the instance; made at the first start when absent."),
  bootstrapServers: addressList().prefault("127.0.0.1:9750").describe("Metadata replicas, host:port."),
  httpHost: z.string().default("127.0.0.1").describe("Address of /metrics, /healthz and /readyz."),
  httpPort: port()
    .default(httpPortDefault)
    .describe("Port of /metrics, /healthz and /readyz; 0 = any free one."),
  rack: z.string().default("").describe("Rack or zone."),
});

/** A connector service's configuration. */
export type ConnectorConfig = z.output<typeof connectorConfigSchema>;

/** The options that a configuration stands for. */
export function connectorOptions(config: ConnectorConfig): ConnectorOptions {
  const { dataDirectory, nodeId, bootstrapServers, rack } = config;
  return {
    dataDirectory,
    ...(nodeId === undefined ? {} : { nodeId }),
    bootstrapServers: bootstrapServers.map(formatHostPort),
    rack,
  };
}
