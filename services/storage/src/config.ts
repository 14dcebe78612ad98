/** Configuration of the storage service: file < environment < flag. */
import { addressList, formatHostPort, port, size, z } from "@millrace/config";
import type { ListenerOptions } from "@millrace/rpc";
import { requestBytesMaxDefault, storagePortDefault, streamCreditBytesDefault } from "./limits.ts";
import type { StorageOptions } from "./wiring.ts";

const tls = z
  .strictObject({
    certificateFile: z.string().describe("PEM file of the server's certificate."),
    keyFile: z.string().describe("PEM file of its key."),
    clientAuthorityFile: z
      .string()
      .optional()
      .describe("PEM file: clients must show a certificate of this authority."),
  })
  .optional();

/** See the file's comment. */
export const storageConfigSchema = z.strictObject({
  dataDirectory: z.string().default("./data/storage").describe("Data directory; one process at a time."),
  nodeId: z.string().optional().describe("Name of the node; made at the first start when absent."),
  bootstrapServers: addressList().prefault("127.0.0.1:9750").describe("Metadata replicas, host:port."),
  host: z.string().default("127.0.0.1").describe("Address to bind."),
  port: port().default(storagePortDefault).describe("Port of the client listener; 0 = any free one."),
  advertisedHost: z
    .string()
    .optional()
    .describe("Host told to clients and nodes; the bound one when absent."),
  advertisedPort: port().optional().describe("Port told to clients and nodes; the bound one when absent."),
  httpHost: z.string().default("127.0.0.1").describe("Address of /metrics, /healthz and /readyz."),
  httpPort: port().default(9761).describe("Port of /metrics, /healthz and /readyz; 0 = any free one."),
  insecure: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .describe("Allow binding beyond loopback without TLS."),
  rack: z.string().default("").describe("Rack or zone."),
  streamCreditBytes: size()
    .default(streamCreditBytesDefault)
    .describe("Bytes of batches a produce stream may have unanswered; at least 4 x requestBytesMax."),
  requestBytesMax: size().default(requestBytesMaxDefault).describe("Largest batch accepted by any topic."),
  tls: tls.describe("TLS of the listener."),
});

/** A storage service's configuration. */
export type StorageConfig = z.output<typeof storageConfigSchema>;

/** The options that a configuration stands for. */
export function storageOptions(config: StorageConfig): StorageOptions {
  const { nodeId, advertisedHost, advertisedPort } = config;
  return {
    dataDirectory: config.dataDirectory,
    ...(nodeId === undefined ? {} : { nodeId }),
    bootstrapServers: config.bootstrapServers.map(formatHostPort),
    listeners: [
      {
        name: "client",
        host: config.host,
        port: config.port,
        ...(advertisedHost === undefined ? {} : { advertisedHost }),
        ...(advertisedPort === undefined ? {} : { advertisedPort }),
        ...(config.tls === undefined ? {} : { tls: tlsOptions(config.tls) }),
      },
    ],
    allowInsecure: config.insecure,
    rack: config.rack,
    streamCreditBytes: config.streamCreditBytes,
    requestBytesMax: config.requestBytesMax,
  };
}

function tlsOptions(tlsConfig: NonNullable<StorageConfig["tls"]>): NonNullable<ListenerOptions["tls"]> {
  const { certificateFile, keyFile, clientAuthorityFile } = tlsConfig;
  return { certificateFile, keyFile, ...(clientAuthorityFile === undefined ? {} : { clientAuthorityFile }) };
}
