/** A cluster in this process: the real metadata and storage services on loopback, in a folder that goes with it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@millrace/client";
import type { Clock } from "@millrace/runtime";
import { type MetadataService, startMetadata } from "@millrace/service-metadata";
import { type StorageOptions, type StorageService, startStorage } from "@millrace/service-storage";
import { createTelemetry, type Telemetry } from "@millrace/telemetry";
import { CuttingProxy } from "./cutting-proxy.ts";

/** Options of a cluster. */
export interface ClusterOptions {
  readonly clock?: Clock;
  readonly storage?: Partial<StorageOptions>;
  /** Time without heartbeat after which a node counts as dead; the service's own when absent. */
  readonly sessionTimeoutMs?: number;
  /** Storage node's log lines go to standard error. */
  readonly verbose?: boolean;
}

/** See the file's comment. */
export class Cluster {
  readonly folder: string;
  /** In front of the storage node: what clients are told. */
  readonly proxy: CuttingProxy;
  metadata: MetadataService;
  storage: StorageService;
  telemetry: Telemetry;
  clock: Clock | undefined;
  readonly #options: ClusterOptions;
  readonly #clients: Client[] = [];

  private constructor(
    options: ClusterOptions,
    parts: {
      readonly folder: string;
      readonly proxy: CuttingProxy;
      readonly metadata: MetadataService;
      readonly storage: StorageService;
      readonly telemetry: Telemetry;
    },
  ) {
    this.#options = options;
    this.folder = parts.folder;
    this.proxy = parts.proxy;
    this.metadata = parts.metadata;
    this.storage = parts.storage;
    this.telemetry = parts.telemetry;
    this.clock = options.clock;
  }

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const folder = await mkdtemp(join(tmpdir(), "millrace-cluster-"));
    const proxy = await CuttingProxy.start();
    const metadata = await startMetadataIn(folder, 0, options);
    const { storage, telemetry } = await startStorageIn(
      folder,
      metadata.address,
      proxy,
      options,
      options.clock,
    );
    await storage.ready;
    return new Cluster(options, { folder, proxy, metadata, storage, telemetry });
  }

  /** A client of this cluster; closed with it. */
  async client(): Promise<Client> {
    const client = await Client.open({ bootstrapServers: [this.metadata.address] });
    this.#clients.push(client);
    return client;
  }

  /** Stops the storage node and starts it again on its directory, with `clock` from then on. */
  async restartStorage(clock = this.clock): Promise<void> {
    await this.storage.stop();
    this.clock = clock;
    const started = await startStorageIn(
      this.folder,
      this.metadata.address,
      this.proxy,
      this.#options,
      clock,
    );
    this.storage = started.storage;
    this.telemetry = started.telemetry;
    await this.storage.ready;
  }

  /** Stops the metadata service; `startMetadata` brings it back at the same address. */
  async stopMetadata(): Promise<void> {
    await this.metadata.stop();
  }

  async startMetadata(): Promise<void> {
    const port = Number(this.metadata.address.split(":").at(-1));
    this.metadata = await startMetadataIn(this.folder, port, { ...this.#options, clock: this.clock });
  }

  /** Stops everything and removes the folder. */
  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.storage.stop();
    await this.metadata.stop();
    await this.proxy.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

function startMetadataIn(
  folder: string,
  port: number,
  { clock, sessionTimeoutMs }: { clock?: Clock | undefined; sessionTimeoutMs?: number },
): Promise<MetadataService> {
  return startMetadata({
    dataDirectory: join(folder, "metadata"),
    listeners: [{ name: "client", host: "127.0.0.1", port }],
    ...(clock === undefined ? {} : { clock }),
    ...(sessionTimeoutMs === undefined ? {} : { sessionTimeoutMs }),
  });
}

async function startStorageIn(
  folder: string,
  bootstrap: string,
  proxy: CuttingProxy,
  options: ClusterOptions,
  clock: Clock | undefined,
): Promise<{ storage: StorageService; telemetry: Telemetry }> {
  const telemetry = createTelemetry({
    service: "storage",
    node: "storage-1",
    destination: options.verbose === true ? "stdout" : "silent",
    level: "debug",
  });
  const storage = await startStorage({
    dataDirectory: join(folder, "storage"),
    nodeId: "storage-1",
    bootstrapServers: [bootstrap],
    listeners: [
      { name: "client", host: "127.0.0.1", port: 0, advertisedHost: "127.0.0.1", advertisedPort: proxy.port },
    ],
    telemetry,
    ...(clock === undefined ? {} : { clock }),
    ...options.storage,
  });
  proxy.target(storage.listeners[0]?.port ?? 0);
  return { storage, telemetry };
}

/** Waits until `condition` holds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 20_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
