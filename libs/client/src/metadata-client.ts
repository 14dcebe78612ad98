/**
 * Calls to the metadata service, wherever its active replica is.
 *
 * Every changing call carries a request id, so it may be repeated when its outcome is unknown: the service recognises
 * it. A replica that does not answer or is not the controller is left for the next one; after a round of all of them
 * the calls back off.
 */
import { AppError } from "@millrace/base";
import type { RpcConnection, UnaryMethod } from "@millrace/rpc";
import { Backoff, type Clock } from "@millrace/runtime";
import type { Connections } from "./connections.ts";
import { metadataAttemptMs, metadataTimeoutMs, retryCapMs, retryFirstMs } from "./limits.ts";

/** Bounds of one call. */
export interface CallOptions {
  /** Milliseconds until the call is given up, over all attempts. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const worthAnotherReplica = new Set(["UNAVAILABLE", "NOT_CONTROLLER", "NODE_STARTING", "TIMED_OUT"]);

/** Finds the replica that answers and stays with it. */
export class MetadataClient {
  readonly #connections: Connections;
  readonly #bootstrap: readonly string[];
  readonly #clock: Clock;
  #addresses: string[];
  #next = 0;

  constructor(connections: Connections, bootstrap: readonly string[], clock: Clock) {
    if (bootstrap.length === 0) throw new AppError("INVALID_CONFIG", "no bootstrap server is given");
    this.#connections = connections;
    this.#bootstrap = bootstrap;
    this.#addresses = [...bootstrap];
    this.#clock = clock;
  }

  /** Addresses of replicas learnt from the cluster; the bootstrap ones stay as a fall-back. */
  learn(addresses: readonly string[]): void {
    const current = this.#addresses[this.#next % this.#addresses.length];
    this.#addresses = [...new Set([...this.#bootstrap, ...addresses])];
    this.#next = Math.max(0, this.#addresses.indexOf(current ?? ""));
  }

  /** The connection to the replica used last. */
  get current(): RpcConnection {
    const address = this.#addresses[this.#next % this.#addresses.length];
    return this.#connections.to(address ?? (this.#bootstrap[0] as string));
  }

  /** Goes on to the next replica. */
  rotate(): void {
    this.#next = (this.#next + 1) % this.#addresses.length;
  }

  /** Calls `method`, repeating it at the next replica while that is worth it. */
  async call<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    options: CallOptions = {},
  ): Promise<Response> {
    const deadlineMs = this.#clock.monotonicMs() + (options.timeoutMs ?? metadataTimeoutMs);
    const backoff = new Backoff({ firstMs: retryFirstMs, capMs: retryCapMs });
    for (let attempt = 1; ; attempt++) {
      const leftMs = deadlineMs - this.#clock.monotonicMs();
      try {
        return await this.current.unary(method, request, {
          deadlineMs: Math.max(1, Math.min(leftMs, metadataAttemptMs)),
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        });
      } catch (thrown) {
        const error = AppError.from(thrown);
        const delayMs = attempt % this.#addresses.length === 0 ? backoff.nextMs() : 0;
        const isOver = this.#clock.monotonicMs() + delayMs >= deadlineMs || options.signal?.aborted === true;
        if (isOver || !worthAnotherReplica.has(error.reason)) throw thrown;
        this.rotate();
        if (delayMs > 0) await this.#clock.sleep(delayMs, options.signal);
      }
    }
  }

  /** The replicas in the order they are tried, for messages. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }
}
