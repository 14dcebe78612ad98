/** The connector service: delivers topics into outside systems. `millrace up` and `millrace serve connector` start it. */
import { Shutdown, systemClock } from "@millrace/runtime";
import { closingFlushMs } from "./limits.ts";
import type { ConnectorOptions, ConnectorService } from "./service.ts";
import { ConnectorNode } from "./wiring.ts";

/** Starts a connector instance. Returns when its directory is open; `ready` tells when it takes tasks. */
export async function startConnector(options: ConnectorOptions): Promise<ConnectorService> {
  const clock = options.clock ?? systemClock;
  const shutdown = new Shutdown(clock, closingFlushMs * 3);
  try {
    return await new ConnectorNode(options, clock, shutdown).start();
  } catch (thrown) {
    await shutdown.stop();
    throw thrown;
  }
}
