/** One gRPC connection per address, shared by everything a client does. */

import { AppError } from "@millrace/base";
import { type Listener, type Node, NodeRole } from "@millrace/proto/metadata";
import { connect, type RpcConnection, type TlsClientOptions } from "@millrace/rpc";

/** Makes and keeps connections. */
export class Connections {
  readonly #tls: TlsClientOptions | undefined;
  readonly #byAddress = new Map<string, RpcConnection>();
  #isClosed = false;

  constructor(tls: TlsClientOptions | undefined) {
    this.#tls = tls;
  }

  /** The connection to `address` (host:port). It connects on first use and again after failures. */
  to(address: string): RpcConnection {
    if (this.#isClosed) throw new AppError("CANCELLED", "the client is closed");
    let connection = this.#byAddress.get(address);
    if (connection === undefined) {
      connection = connect(address, this.#tls === undefined ? {} : { tls: this.#tls });
      this.#byAddress.set(address, connection);
    }
    return connection;
  }

  /** Closes all connections; calls in flight fail. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#byAddress.values()) connection.close();
    this.#byAddress.clear();
  }
}

/** host:port of a node for clients: its `client` listener, else its first. */
export function clientAddress(node: Node): string | undefined {
  const listener = node.listeners.find((each) => each.name === "client") ?? node.listeners[0];
  return listener === undefined ? undefined : addressOf(listener);
}

/** Addresses of the metadata service's replicas among `nodes`. */
export function metadataAddresses(nodes: readonly Node[]): string[] {
  return nodes
    .filter((node) => node.role === NodeRole.METADATA)
    .map(clientAddress)
    .filter((address) => address !== undefined);
}

function addressOf(listener: Listener): string {
  const host = listener.host.includes(":") ? `[${listener.host}]` : listener.host;
  return `${host}:${listener.port}`;
}
