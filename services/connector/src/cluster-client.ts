/** The client that all tasks share, opened when the first one needs it and as often as that fails. */
import { Client } from "@millrace/client";
import type { TlsClientOptions } from "@millrace/rpc";
import type { Clock } from "@millrace/runtime";

/** See the file's comment. */
export class ClusterClient {
  readonly #options: {
    readonly bootstrapServers: readonly string[];
    readonly clientId: string;
    readonly clock: Clock;
    readonly tls?: TlsClientOptions;
  };
  #opening: Promise<Client> | undefined;
  #isClosed = false;

  constructor(options: {
    bootstrapServers: readonly string[];
    clientId: string;
    clock: Clock;
    tls?: TlsClientOptions;
  }) {
    this.#options = options;
  }

  /** The client. Throws UNAVAILABLE when no cluster answers. */
  get(): Promise<Client> {
    if (this.#opening === undefined) {
      const opening = Client.open(this.#options);
      this.#opening = opening;
      opening.catch(() => {
        if (this.#opening === opening && !this.#isClosed) this.#opening = undefined;
      });
    }
    return this.#opening;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const client = await this.#opening?.catch(() => undefined);
    client?.close();
  }
}
