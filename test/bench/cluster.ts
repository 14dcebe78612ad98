/** Metadata and storage as a user runs them: `millrace serve`, a process each; and a client of them. */
import { join } from "node:path";
import { Client } from "@millrace/client";
import { freePorts, MillraceProcess } from "../support/processes.ts";

/** See the file's comment. */
export class BenchCluster {
  readonly bootstrap: string;
  readonly metadata: MillraceProcess;
  readonly storage: MillraceProcess;

  private constructor(folder: string, ports: readonly number[]) {
    const [metadataPort = 0, storagePort = 0, metadataHttp = 0, storageHttp = 0] = ports;
    this.bootstrap = `127.0.0.1:${metadataPort}`;
    this.metadata = serve("metadata", folder, metadataPort, metadataHttp, []);
    this.storage = serve("storage", folder, storagePort, storageHttp, [
      "--bootstrap-servers",
      this.bootstrap,
    ]);
  }

  static async start(folder: string): Promise<BenchCluster> {
    const cluster = new BenchCluster(folder, await freePorts(4));
    await cluster.metadata.start();
    await cluster.storage.start();
    return cluster;
  }

  client(): Promise<Client> {
    return Client.open({ bootstrapServers: [this.bootstrap] });
  }

  async stop(): Promise<void> {
    await this.storage.stop();
    await this.metadata.stop();
  }
}

/** A service as a process, with the data directory of its name below `folder`. */
export function serve(
  name: "metadata" | "storage" | "agent" | "connector",
  folder: string,
  port: number,
  httpPort: number,
  flags: readonly string[],
): MillraceProcess {
  const args = ["serve", name, "--data-directory", join(folder, name), "--http-port", String(httpPort)];
  if (name !== "connector") args.push("--port", String(port));
  return new MillraceProcess({
    name,
    readyUrl: `http://127.0.0.1:${httpPort}/readyz`,
    args: [...args, ...flags],
  });
}
