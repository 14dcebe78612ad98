/** Configuration of the metadata service: file < environment < flag. */
import { duration, port, z } from "@millrace/config";
import { defaultPort, type MetadataOptions } from "./main.ts";

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
export const metadataConfigSchema = z.strictObject({
  dataDirectory: z.string().default("./data/metadata").describe("Data directory; one process at a time."),
  nodeId: z
    .string()
    .default("metadata-1")
    .describe("Name of the node; noted in the directory at first start."),
  host: z.string().default("127.0.0.1").describe("Address to bind."),
  port: port().default(defaultPort).describe("Port of the client listener; 0 = any free one."),
  advertisedHost: z
    .string()
    .optional()
    .describe("Host told to clients and nodes; the bound one when absent."),
  advertisedPort: port().optional().describe("Port told to clients and nodes; the bound one when absent."),
  httpHost: z.string().default("127.0.0.1").describe("Address of /metrics, /healthz and /readyz."),
  httpPort: port().default(9751).describe("Port of /metrics, /healthz and /readyz; 0 = any free one."),
  insecure: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .describe("Allow binding beyond loopback without TLS."),
  sessionTimeout: duration({ min: 500, max: 60_000 })
    .default(3_000)
    .describe("Time without heartbeat after which a node counts as dead."),
  defaultPartitionCount: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000)
    .default(1)
    .describe("Partitions of a topic that does not say."),
  snapshotEveryBatches: z.coerce
    .number()
    .int()
    .min(10)
    .max(1_000_000)
    .default(5_000)
    .describe("Batches of the metadata log between two snapshots."),
  tls: tls.describe("TLS of the listener."),
});

/** A metadata service's configuration. */
export type MetadataConfig = z.output<typeof metadataConfigSchema>;

/** The options that a configuration stands for. */
export function metadataOptions(config: MetadataConfig): MetadataOptions {
  const { advertisedHost, advertisedPort } = config;
  return {
    dataDirectory: config.dataDirectory,
    nodeId: config.nodeId,
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
    sessionTimeoutMs: config.sessionTimeout,
    defaultPartitionCount: config.defaultPartitionCount,
    snapshotEveryBatches: config.snapshotEveryBatches,
  };
}

type ListenerTls = NonNullable<NonNullable<MetadataOptions["listeners"]>[number]["tls"]>;

function tlsOptions(tlsConfig: NonNullable<MetadataConfig["tls"]>): ListenerTls {
  const { certificateFile, keyFile, clientAuthorityFile } = tlsConfig;
  return { certificateFile, keyFile, ...(clientAuthorityFile === undefined ? {} : { clientAuthorityFile }) };
}
