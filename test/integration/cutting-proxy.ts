/** A TCP proxy in front of a server, for faults on the wire: cut connections, answers that never arrive, refused connects. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** See the file's comment. Connections made while a fault is on have it too. */
export class CuttingProxy {
  /** Where answers go: on, or nowhere. */
  swallowAnswers = false;
  /** True: new connections are closed at once. */
  refuses = false;
  /** Bytes of answers swallowed since the start. */
  swallowedBytes = 0;
  /** Bytes of requests passed on since the start. */
  requestBytes = 0;
  /** Connections made since the start. */
  connectionCount = 0;
  #targetPorts: readonly number[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(): Promise<CuttingProxy> {
    const server = createServer();
    const proxy = new CuttingProxy(server);
    server.on("connection", (socket) => proxy.#serve(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Where connections go from now on: to each of several in turn, as behind a load balancer's name. */
  target(...ports: number[]): void {
    this.#targetPorts = ports;
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(client: Socket): void {
    if (this.refuses) {
      client.destroy();
      return;
    }
    const port = this.#targetPorts[this.connectionCount++ % this.#targetPorts.length] ?? 0;
    const server = connect(port, "127.0.0.1");
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    client.on("data", (chunk) => {
      this.requestBytes += chunk.byteLength;
      if (!server.write(chunk)) client.pause();
    });
    server.on("drain", () => client.resume());
    client.on("drain", () => server.resume());
    server.on("data", (chunk) => {
      if (this.swallowAnswers) this.swallowedBytes += chunk.byteLength;
      else if (!client.write(chunk)) server.pause();
    });
  }
}
