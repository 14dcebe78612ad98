/** `millrace cluster info`. */
import type { Client } from "@millrace/client";
import type { Command } from "commander";
import { type ClusterOptions, type FormatOptions, withClient, withCluster, withFormat } from "../cluster.ts";
import { addExamples } from "../help.ts";
import { fields, Output, table, type View } from "../output.ts";

/** Adds `cluster` and what is below it. */
export function addClusterCommands(program: Command): void {
  const cluster = program.command("cluster").description("Show the cluster.");
  const info = cluster
    .command("info")
    .description("Show the cluster's id, its controller and its nodes.")
    .action(async (options: ClusterOptions & FormatOptions) => {
      const output = new Output();
      await withClient(options, async (client) => output.print(await infoView(client), options.output));
    });
  addExamples(withFormat(withCluster(info)), [["who is there", "millrace cluster info"]]);
}

/** Names of the enums of metadata.proto: they are numbers on the wire. */
const roles = ["-", "metadata", "storage", "agent", "connector"];
const states = ["-", "alive", "fenced", "stopping"];

async function infoView(client: Client): Promise<View> {
  const cluster = await client.admin.describeCluster();
  const nodes = cluster.nodes.map((node) => ({
    nodeId: node.nodeId,
    role: roles[node.role] ?? String(node.role),
    state: states[node.state] ?? String(node.state),
    nodeEpoch: node.nodeEpoch,
    listeners: node.listeners.map(({ name, host, port }) => ({ name, host, port })),
    version: node.version,
  }));
  const rows = nodes.map((node) => [
    node.nodeId,
    node.role,
    node.state,
    node.nodeEpoch,
    node.listeners.map(({ name, host, port }) => `${name}=${host}:${port}`).join(" ") || "-",
    node.version || "-",
  ]);
  const { clusterId, controllerId, featureLevel, version } = cluster;
  return {
    data: { clusterId, controllerId, featureLevel, version, nodes },
    text: [
      fields([
        ["cluster", clusterId],
        ["controller", controllerId || "none"],
        ["version", version || "-"],
      ]),
      "\n",
      table(["node", "role", "state", "epoch", "listeners", "version"], rows),
    ].join(""),
  };
}
