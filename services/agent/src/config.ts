/** Configuration of the agent service: file < environment < flag. The pipeline has a file of its own. */
import { addressList, duration, formatHostPort, port, z } from "@millrace/config";
import type { ListenerOptions } from "@millrace/rpc";
import type { AgentOptions } from "./agent.ts";

/** Port of the administration listener. */
export const agentPortDefault = 9770;

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

const flag = z.stringbool().or(z.boolean()).default(false);

/** See the file's comment. */
export const agentConfigSchema = z.strictObject({
  file: z.string().describe("The pipeline: flume.conf (*.conf, *.properties) or YAML."),
  name: z.string().optional().describe("Agent of the file; needed when it has several."),
  flumeCompat: flag.describe("Unknown keys of a flume.conf are warnings, not errors."),
  define: z.array(z.string()).default([]).describe("NAME=VALUE, for `${sys:NAME}` in the pipeline's file."),
  dataDirectory: z.string().default("./data/agent").describe("Data directory; one process at a time."),
  nodeId: z
    .string()
    .optional()
    .describe("Name of the node in the cluster; made at the first start when absent."),
  bootstrapServers: addressList()
    .optional()
    .describe("Metadata replicas, host:port. Absent: the agent belongs to no cluster."),
  host: z.string().default("127.0.0.1").describe("Address to bind for administration."),
  port: port().default(agentPortDefault).describe("Port for administration (gRPC); 0 = any free one."),
  advertisedHost: z.string().optional().describe("Host told to the cluster; the bound one when absent."),
  advertisedPort: port().optional().describe("Port told to the cluster; the bound one when absent."),
  httpHost: z.string().default("127.0.0.1").describe("Address of /metrics, /healthz and /readyz."),
  httpPort: port().default(9771).describe("Port of /metrics, /healthz and /readyz; 0 = any free one."),
  insecure: flag.describe("Allow binding beyond loopback without TLS."),
  stopGrace: duration({ max: 600_000 })
    .default(10_000)
    .describe("Time sinks get to deliver what they hold when the agent stops."),
  protectedPaths: z.array(z.string()).default([]).describe("Paths no source may read."),
  tls: tls.describe("TLS of the listener."),
});

/** An agent's configuration. */
export type AgentConfig = z.output<typeof agentConfigSchema>;

/** The options that a configuration stands for. */
export function agentOptions(config: AgentConfig): AgentOptions {
  const { name, nodeId, advertisedHost, advertisedPort, bootstrapServers } = config;
  const pairs = config.define.map((one): [string, string] => {
    const at = one.indexOf("=");
    return at < 0 ? [one, ""] : [one.slice(0, at), one.slice(at + 1)];
  });
  return {
    file: config.file,
    isFlumeCompat: config.flumeCompat,
    sys: Object.fromEntries(pairs),
    dataDirectory: config.dataDirectory,
    bootstrapServers: bootstrapServers?.map(formatHostPort) ?? [],
    allowInsecure: config.insecure,
    stopGraceMs: config.stopGrace,
    protectedPaths: config.protectedPaths,
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
    ...(name === undefined ? {} : { agent: name }),
    ...(nodeId === undefined ? {} : { nodeId }),
  };
}

function tlsOptions(tlsConfig: NonNullable<AgentConfig["tls"]>): NonNullable<ListenerOptions["tls"]> {
  const { certificateFile, keyFile, clientAuthorityFile } = tlsConfig;
  return { certificateFile, keyFile, ...(clientAuthorityFile === undefined ? {} : { clientAuthorityFile }) };
}
