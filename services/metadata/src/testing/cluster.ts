/** A metadata service on a free port of loopback with a client, and nodes that are only their heartbeats. For tests. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { Handshake } from "@millrace/proto/common";
import {
  ControllerServiceService,
  HeartbeatRequest,
  type HeartbeatResponse,
  RegisterNodeRequest,
  type RegisterNodeResponse,
  type TaskStatus,
} from "@millrace/proto/controller";
import {
  CreateTopicRequest,
  MetadataServiceService,
  NodeRole,
  type Topic,
  WatchMetadataRequest,
  type WatchMetadataResponse,
  type WatchToken,
} from "@millrace/proto/metadata";
import { connect, type RpcConnection } from "@millrace/rpc";
import { randomId } from "@millrace/runtime";
import { type MetadataOptions, type MetadataService, startMetadata } from "../main.ts";

/** One service over one directory; `restart` starts it anew on what is in the files. */
export class TestCluster {
  readonly directory: string;
  readonly #options: Partial<MetadataOptions>;
  #service: MetadataService | undefined;
  #connection: RpcConnection | undefined;

  private constructor(directory: string, options: Partial<MetadataOptions>) {
    this.directory = directory;
    this.#options = options;
  }

  static async start(options: Partial<MetadataOptions> = {}): Promise<TestCluster> {
    const cluster = new TestCluster(await mkdtemp(join(tmpdir(), "millrace-metadata-")), options);
    await cluster.#open(join(cluster.directory, "data"));
    return cluster;
  }

  get service(): MetadataService {
    if (this.#service === undefined) throw new Error("the service is stopped");
    return this.#service;
  }

  get client(): RpcConnection {
    if (this.#connection === undefined) throw new Error("the service is stopped");
    return this.#connection;
  }

  /** Stops cleanly and starts again, or starts on another copy of the directory. */
  async restart(path = join(this.directory, "data"), options: Partial<MetadataOptions> = {}): Promise<void> {
    await this.close();
    await this.#open(path, options);
  }

  async close(): Promise<void> {
    this.#connection?.close();
    const service = this.#service;
    this.#service = undefined;
    await service?.stop();
  }

  async destroy(): Promise<void> {
    await this.close();
    await rm(this.directory, { recursive: true });
  }

  async #open(path: string, options: Partial<MetadataOptions> = {}): Promise<void> {
    this.#service = await startMetadata({
      dataDirectory: path,
      listeners: [{ name: "client", host: "127.0.0.1", port: 0 }],
      ...this.#options,
      ...options,
    });
    this.#connection = connect(this.#service.address);
  }

  async createTopic(
    name: string,
    partitionCount = 1,
    more: Partial<CreateTopicRequest> = {},
  ): Promise<Topic> {
    const request = CreateTopicRequest.create({ requestId: randomId(), name, partitionCount, ...more });
    const { topic } = await this.client.unary(MetadataServiceService.createTopic, request);
    if (topic === undefined) throw new Error("no topic in the answer");
    return topic;
  }

  /** A node with a data directory of its own. */
  node(nodeId: string, role: NodeRole = NodeRole.STORAGE): TestNode {
    return new TestNode(this, nodeId, role);
  }

  watch(token?: WatchToken): Watcher {
    return new Watcher(this, token);
  }
}

/** A node as the controller sees it. */
export class TestNode {
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly directoryId = randomId();
  starts: string[] = [];
  nodeEpoch = 0;
  readonly #cluster: TestCluster;

  constructor(cluster: TestCluster, nodeId: string, role: NodeRole) {
    this.#cluster = cluster;
    this.nodeId = nodeId;
    this.role = role;
  }

  get incarnation(): string {
    return this.starts.at(-1) ?? "";
  }

  /** A new start of the process, and its registration. */
  async start(): Promise<RegisterNodeResponse> {
    this.starts.push(randomId());
    return this.register();
  }

  async register(more: Partial<RegisterNodeRequest> = {}): Promise<RegisterNodeResponse> {
    const response = await this.#cluster.client.unary(
      ControllerServiceService.registerNode,
      RegisterNodeRequest.create({
        handshake: handshakeOf(this.nodeId, this.incarnation),
        role: this.role,
        directoryId: this.directoryId,
        starts: this.starts,
        listeners: [{ name: "client", host: "127.0.0.1", port: 1234, tls: false }],
        requestId: randomId(),
        ...more,
      }),
    );
    this.nodeEpoch = response.nodeEpoch;
    return response;
  }

  heartbeat(
    more: { isStopping?: boolean; tasks?: TaskStatus[]; nodeEpoch?: number } = {},
  ): Promise<HeartbeatResponse> {
    return this.#cluster.client.unary(
      ControllerServiceService.heartbeat,
      HeartbeatRequest.create({
        nodeId: this.nodeId,
        nodeEpoch: this.nodeEpoch,
        incarnation: this.incarnation,
        ...more,
      }),
    );
  }
}

/** A watch whose messages are kept. */
export class Watcher {
  readonly messages: WatchMetadataResponse[] = [];
  /** Set when the watch ended. */
  ended: AppError | undefined;
  readonly done: Promise<void>;
  readonly #abort = new AbortController();
  #wake: () => void = () => {};

  constructor(cluster: TestCluster, token: WatchToken | undefined) {
    const request = WatchMetadataRequest.create({ handshake: handshakeOf("watcher", "w"), token });
    const stream = cluster.client.serverStream(MetadataServiceService.watchMetadata, request, {
      signal: this.#abort.signal,
    });
    this.done = this.#follow(stream);
  }

  get token(): WatchToken {
    const token = this.messages.at(-1)?.token;
    if (token === undefined) throw new Error("nothing was received yet");
    return token;
  }

  /** Waits until `isThere` holds for what was received. */
  async until(isThere: (messages: readonly WatchMetadataResponse[]) => boolean): Promise<void> {
    while (!isThere(this.messages)) {
      if (this.ended !== undefined) throw this.ended;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.done;
  }

  async #follow(stream: AsyncIterable<WatchMetadataResponse>): Promise<void> {
    try {
      for await (const message of stream) {
        this.messages.push(message);
        this.#wake();
      }
    } catch (error) {
      this.ended = AppError.from(error);
    }
    this.ended ??= new AppError("CANCELLED", "the watch ended");
    this.#wake();
  }
}

/** A caller's handshake. */
export function handshakeOf(nodeId: string, incarnation: string, clusterId = ""): Handshake {
  return Handshake.create({ clusterId, nodeId, incarnation, protocolMin: 1, protocolMax: 1 });
}

/** The error that work fails with. */
export async function refusal(work: Promise<unknown>): Promise<AppError> {
  try {
    await work;
  } catch (error) {
    return AppError.from(error);
  }
  throw new Error("it was not refused");
}
