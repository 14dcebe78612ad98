/** Keeps a MetadataView up to date: watches, and starts again where it stood when the watch breaks. */
import { AppError } from "@millrace/base";
import type { Handshake } from "@millrace/proto/common";
import { MetadataServiceService } from "@millrace/proto/metadata";
import { Backoff, type Clock, type Timer } from "@millrace/runtime";
import { metadataAddresses } from "./connections.ts";
import { retryCapMs, retryFirstMs, watchSilenceMs } from "./limits.ts";
import type { MetadataClient } from "./metadata-client.ts";
import type { MetadataView } from "./metadata-view.ts";

/** What a follower works with. */
export interface MetadataFollowerOptions {
  readonly metadata: MetadataClient;
  readonly view: MetadataView;
  readonly handshake: () => Handshake;
  readonly clock: Clock;
  /** The watch is up (undefined) or broke; the view stays as it is. */
  readonly onState?: (failure: AppError | undefined) => void;
}

/** See the file's comment. Works on with the last view while the service is away. */
export class MetadataFollower {
  readonly #options: MetadataFollowerOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: MetadataFollowerOptions) {
    this.#options = options;
  }

  /** Begins to watch. */
  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, metadata, onState } = this.#options;
    const backoff = new Backoff({ firstMs: retryFirstMs, capMs: retryCapMs });
    const { signal } = this.#closing;
    const isOver = (): boolean => signal.aborted;
    while (!isOver()) {
      try {
        await this.#watch(() => backoff.reset());
      } catch (thrown) {
        if (isOver()) return;
        onState?.(AppError.from(thrown));
      }
      metadata.rotate();
      await clock.sleep(backoff.nextMs(), signal);
    }
  }

  /** One watch until it breaks. */
  async #watch(onMessage: () => void): Promise<void> {
    const { metadata, view, handshake, clock, onState } = this.#options;
    const attempt = new AbortController();
    const stop = (): void => attempt.abort();
    this.#closing.signal.addEventListener("abort", stop, { once: true });
    let silence: Timer = clock.after(watchSilenceMs, stop);
    try {
      const messages = metadata.current.serverStream(
        MetadataServiceService.watchMetadata,
        // a view without content cannot be continued, whatever token it is held to
        { handshake: handshake(), token: view.isLoaded ? view.token : undefined },
        { signal: attempt.signal },
      );
      for await (const message of messages) {
        silence.cancel();
        silence = clock.after(watchSilenceMs, stop);
        view.apply(message);
        metadata.learn(metadataAddresses([...view.nodes.values()]));
        onMessage();
        onState?.(undefined);
      }
      throw new AppError("UNAVAILABLE", "the metadata service ended the watch");
    } finally {
      silence.cancel();
      attempt.abort();
      this.#closing.signal.removeEventListener("abort", stop);
    }
  }
}
