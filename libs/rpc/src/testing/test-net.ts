/** What the kit's tests share: a server with an echo of the produce stream and whatever else a test serves. */

import { StorageServiceService } from "@millrace/proto/storage";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { type ConnectOptions, connect } from "../client.ts";
import type { ServerIdentity } from "../handshake.ts";
import { createRpcServer, type RpcServerOptions } from "../server.ts";
import type { ListenerOptions, RpcConnection, RpcServer } from "../types.ts";

/** A server's identity in tests. */
export const testIdentity: ServerIdentity = {
  clusterId: () => "cluster-1",
  nodeId: "storage-1",
  incarnation: "start-1",
  nodeEpoch: () => 7,
};

/** The three shapes of calls. */
export const { produce, listOffsets } = StorageServiceService;

/** Servers and connections of a test, closed together. */
export class TestNet {
  readonly telemetry: Telemetry = createTelemetry({ service: "test", node: "t", destination: "silent" });
  readonly #servers: RpcServer[] = [];
  readonly #connections: RpcConnection[] = [];

  /** A server on a free port of 127.0.0.1; `add` adds its services. */
  async serve(
    add: (server: RpcServer) => void,
    options: Partial<RpcServerOptions> & { readonly listener?: Partial<ListenerOptions> } = {},
  ): Promise<{ server: RpcServer; port: number; address: string }> {
    const { listener, ...others } = options;
    const server = createRpcServer({
      listeners: [{ name: "client", host: "127.0.0.1", port: 0, ...listener }],
      identity: testIdentity,
      telemetry: this.telemetry,
      ...others,
    });
    add(server);
    this.#servers.push(server);
    const [bound] = await server.start();
    const port = bound?.port ?? 0;
    return { server, port, address: `127.0.0.1:${port}` };
  }

  connect(address: string, options: ConnectOptions = {}): RpcConnection {
    const connection = connect(address, options);
    this.#connections.push(connection);
    return connection;
  }

  async close(): Promise<void> {
    for (const connection of this.#connections) connection.close();
    await Promise.all(this.#servers.map((server) => server.stop(100)));
    await this.telemetry.close();
  }
}

/** Waits until `condition` holds; fails after 10 s. */
export async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
