/**
 * A node's membership in the cluster: registration with lineage (rules L1, L2), heartbeats, and the followed metadata.
 *
 * Data flow: register (until it succeeds or is refused for good) -> heartbeat every third of the session + watch ->
 * fenced or stale: register again. With the metadata service away the node keeps its epoch and its last view.
 *
 * @internal for storage, agent and connector services
 */
import { AppError } from "@millrace/base";
import type { Handshake } from "@millrace/proto/common";
import {
  ControllerServiceService,
  type HeartbeatResponse,
  type RegisterNodeRequest,
  type SeenEpoch,
  type TaskStatus,
} from "@millrace/proto/controller";
import type { Listener, NodeRole, WatchToken } from "@millrace/proto/metadata";
import { makeHandshake, type TlsClientOptions } from "@millrace/rpc";
import { Backoff, type Clock, randomId, systemClock, type Timer } from "@millrace/runtime";
import { Connections } from "./connections.ts";
import { retryCapMs, retryFirstMs } from "./limits.ts";
import { MetadataClient } from "./metadata-client.ts";
import { MetadataFollower } from "./metadata-follower.ts";
import { MetadataView } from "./metadata-view.ts";

/** What a directory has seen, told at registration so that the controller never issues at or below. */
export interface SeenFloors {
  readonly nodeEpoch: number;
  /** Of anonymous producers. */
  readonly producerId: number;
  readonly namedProducerId: number;
  readonly leaderEpochs: readonly SeenEpoch[];
}

/** Who registers, and where. */
export interface NodeSessionOptions {
  /** host:port of metadata replicas. */
  readonly bootstrapServers: readonly string[];
  readonly tls?: TlsClientOptions;
  readonly role: NodeRole;
  readonly nodeId: string;
  /** Id of this start of the process; the last of `starts` where there is a directory. */
  readonly incarnation: string;
  /** "" before the first registration. */
  readonly clusterId: string;
  /** "" for nodes without a directory. */
  readonly directoryId: string;
  readonly starts: readonly string[];
  /** Where the node is reached; asked at each registration, when its listeners are bound. */
  readonly listeners: () => readonly Listener[];
  readonly rack?: string;
  readonly version: string;
  /** True: the last stop wrote the clean-shutdown mark. */
  readonly wasClean?: boolean;
  readonly seen?: () => SeenFloors;
  /** Where the metadata watch stood when the node stopped. */
  readonly token?: WatchToken;
  /** State of the tasks this node runs. */
  readonly tasks?: () => TaskStatus[];
  readonly clock?: Clock;
  /**
   * Called after every registration and awaited before the node counts as registered: a new directory writes its
   * cluster id down here.
   */
  readonly onRegistered?: (registration: Registration) => void | Promise<void>;
  /** Failures that are repeated, and refusals for good (`isFatal`: the node stops trying). */
  readonly onFailure?: (error: AppError, isFatal: boolean) => void;
  /** The metadata watch is up (undefined) or broke. */
  readonly onWatch?: (failure: AppError | undefined) => void;
}

/** What the controller gave. */
export interface Registration {
  readonly clusterId: string;
  readonly nodeEpoch: number;
  readonly sessionTimeoutMs: number;
}

/** See the file's comment. */
export class NodeSession {
  readonly view: MetadataView;
  readonly #options: NodeSessionOptions;
  readonly #clock: Clock;
  readonly #connections: Connections;
  readonly #metadata: MetadataClient;
  readonly #follower: MetadataFollower;
  readonly #closing = new AbortController();
  readonly #firstRegistration: Promise<Registration>;
  #resolveFirst: (registration: Registration) => void = () => {};
  #rejectFirst: (error: AppError) => void = () => {};
  #registration: Registration | undefined;
  #heartbeatTimer: Timer | undefined;
  #registering: Promise<void> | undefined;

  constructor(options: NodeSessionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#connections = new Connections(options.tls);
    this.#metadata = new MetadataClient(this.#connections, options.bootstrapServers, this.#clock);
    this.view = new MetadataView(options.token);
    this.#follower = new MetadataFollower({
      metadata: this.#metadata,
      view: this.view,
      handshake: () => this.handshake(),
      clock: this.#clock,
      ...(options.onWatch === undefined ? {} : { onState: options.onWatch }),
    });
    this.#firstRegistration = new Promise((resolve, reject) => {
      this.#resolveFirst = resolve;
      this.#rejectFirst = reject;
    });
    this.#firstRegistration.catch(() => {}); // whoever waits hears it; a service that does not has onFailure
  }

  /** Begins to register; returns at once. */
  start(): void {
    this.#registering ??= this.#register();
  }

  /** Resolves with the first registration; rejects when it is refused for good or the session stops. */
  get registered(): Promise<Registration> {
    return this.#firstRegistration;
  }

  /** The present registration; undefined before the first. */
  get registration(): Registration | undefined {
    return this.#registration;
  }

  /** Cluster id, "" before the first registration of a new directory. */
  get clusterId(): string {
    return this.#registration?.clusterId ?? this.#options.clusterId;
  }

  /** Node epoch, 0 before the first registration. */
  get nodeEpoch(): number {
    return this.#registration?.nodeEpoch ?? 0;
  }

  /** The handshake of this node as a caller. */
  handshake(): Handshake {
    return makeHandshake({
      clusterId: this.clusterId,
      nodeId: this.#options.nodeId,
      incarnation: this.#options.incarnation,
      nodeEpoch: this.nodeEpoch,
    });
  }

  /** Sends a heartbeat now: for states that should not wait (a stopping node, a failed task). */
  async heartbeat(isStopping = false): Promise<HeartbeatResponse | undefined> {
    const registration = this.#registration;
    if (registration === undefined) return undefined;
    return this.#metadata.call(
      ControllerServiceService.heartbeat,
      {
        nodeId: this.#options.nodeId,
        nodeEpoch: registration.nodeEpoch,
        incarnation: this.#options.incarnation,
        metadataSequence: this.view.token?.sequence ?? 0,
        isStopping,
        tasks: this.#options.tasks?.() ?? [],
      },
      { timeoutMs: registration.sessionTimeoutMs / 3, signal: this.#closing.signal },
    );
  }

  /** Tells the controller that the node is stopping and waits until it may, at most `drainMs`; then ends the session. */
  async stop(drainMs = 0): Promise<void> {
    this.#heartbeatTimer?.cancel();
    const endMs = this.#clock.monotonicMs() + drainMs;
    try {
      while (drainMs > 0 && this.#registration !== undefined) {
        const answer = await this.heartbeat(true);
        if (answer === undefined || answer.mayStop || answer.isFenced) break;
        if (this.#clock.monotonicMs() >= endMs) break;
        await this.#clock.sleep(100);
      }
    } catch (thrown) {
      this.#options.onFailure?.(AppError.from(thrown), false); // the session will time out instead
    }
    this.#closing.abort();
    this.#rejectFirst(new AppError("CANCELLED", "the node is stopping"));
    await this.#registering;
    await this.#follower.stop();
    this.#connections.close();
  }

  async #register(): Promise<void> {
    const backoff = new Backoff({ firstMs: retryFirstMs * 5, capMs: retryCapMs });
    const request = this.#registrationRequest();
    const isOver = (): boolean => this.#closing.signal.aborted;
    while (!isOver()) {
      try {
        const answer = await this.#metadata.call(ControllerServiceService.registerNode, request, {
          signal: this.#closing.signal,
        });
        const registration = {
          clusterId: answer.clusterId,
          nodeEpoch: answer.nodeEpoch,
          sessionTimeoutMs: answer.sessionTimeoutMs,
        };
        await this.#options.onRegistered?.(registration);
        this.#registration = registration;
        break;
      } catch (thrown) {
        const error = AppError.from(thrown);
        if (isOver()) return;
        const isFatal = error.retry === "never" && error.reason !== "INTERNAL";
        this.#options.onFailure?.(error, isFatal);
        if (isFatal) {
          this.#rejectFirst(error);
          return;
        }
        await this.#clock.sleep(backoff.nextMs(), this.#closing.signal);
      }
    }
    const registration = this.#registration;
    if (registration === undefined) return;
    this.#registering = undefined;
    this.#resolveFirst(registration);
    this.#follower.start();
    this.#scheduleHeartbeat(registration);
  }

  #registrationRequest(): RegisterNodeRequest {
    const options = this.#options;
    const seen = options.seen?.();
    return {
      handshake: this.handshake(),
      role: options.role,
      directoryId: options.directoryId,
      starts: [...options.starts],
      listeners: [...options.listeners()],
      rack: options.rack ?? "",
      version: options.version,
      requestId: randomId(),
      wasClean: options.wasClean ?? false,
      seenNodeEpoch: Math.max(seen?.nodeEpoch ?? 0, this.nodeEpoch),
      seenProducerId: seen?.producerId ?? 0,
      seenNamedProducerId: seen?.namedProducerId ?? 0,
      seenEpochs: [...(seen?.leaderEpochs ?? [])],
    };
  }

  #scheduleHeartbeat(registration: Registration): void {
    if (this.#closing.signal.aborted) return;
    this.#heartbeatTimer?.cancel();
    this.#heartbeatTimer = this.#clock.after(
      registration.sessionTimeoutMs / 3,
      () => void this.#beat(registration),
    );
  }

  async #beat(registration: Registration): Promise<void> {
    let mustRegister = false;
    try {
      mustRegister = (await this.heartbeat())?.isFenced ?? false;
    } catch (thrown) {
      const error = AppError.from(thrown);
      if (this.#closing.signal.aborted) return;
      mustRegister = error.reason === "STALE_NODE_EPOCH";
      this.#options.onFailure?.(error, false);
    }
    if (this.#registration !== registration) return;
    if (mustRegister) this.start();
    else this.#scheduleHeartbeat(registration);
  }
}
