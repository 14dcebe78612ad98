/** What a real connection cannot show at will: a watcher whose transport takes nothing for a while. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { applyBatch, emptyImage, type MetadataRecord } from "@millrace/controller";
import { type EmbeddedLog, openEmbeddedLog, planChange } from "@millrace/coordination";
import { HandshakeReply } from "@millrace/proto/common";
import type { WatchMetadataResponse } from "@millrace/proto/metadata";
import type { OutgoingStream } from "@millrace/rpc";
import { realDisk, systemClock } from "@millrace/runtime";
import { SimClock } from "@millrace/testkit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { defaultWatchLimits, WatchHub, type WatchLimits } from "./watch-hub.ts";

/** A transport that takes one message and then nothing until it is drained. */
class Transport implements OutgoingStream<WatchMetadataResponse> {
  readonly taken: WatchMetadataResponse[] = [];
  isStuck = false;
  #drained = Promise.withResolvers<undefined>();

  write(message: WatchMetadataResponse): boolean {
    this.taken.push(message);
    return !this.isStuck;
  }

  whenWritable(): Promise<void> {
    return this.#drained.promise;
  }

  drain(): void {
    this.isStuck = false;
    this.#drained.resolve(undefined);
  }
}

describe("the watch hub", () => {
  let directory: string;
  let log: EmbeddedLog;
  let image = emptyImage;
  const abort = new AbortController();
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "millrace-hub-"));
    log = await openEmbeddedLog({ disk: realDisk, directory });
    image = emptyImage;
  });
  afterEach(async () => {
    await log.close();
    await rm(directory, { recursive: true });
  });

  async function publish(hub: WatchHub, records: readonly MetadataRecord[]): Promise<void> {
    for (const part of planChange(records)) {
      const previous = log.head;
      const outcome = await log.append(previous.sequence, part);
      expect(outcome.kind).toBe("appended");
      image = applyBatch(image, log.head.sequence, records);
      hub.publish({ previous, position: log.head, records, image });
    }
  }

  const node = (nodeEpoch: number): MetadataRecord => ({
    kind: "nodeRegistered",
    ...{ nodeId: "n", role: "agent", nodeEpoch, incarnation: "i", directoryId: "", startId: "" },
    ...{ listeners: [], rack: "x".repeat(200), version: "", state: "alive" },
  });

  const serve = (hub: WatchHub, stream: Transport, signal = abort.signal): Promise<void> =>
    hub.serve({ token: undefined, handshake: HandshakeReply.create(), stream, signal }, log);

  async function stuckWatcher(
    limits: Partial<WatchLimits>,
  ): Promise<{ hub: WatchHub; stream: Transport; served: Promise<void> }> {
    const hub = new WatchHub(systemClock, { ...defaultWatchLimits, ...limits });
    await publish(hub, [node(1)]);
    const stream = new Transport();
    stream.isStuck = true;
    const served = serve(hub, stream);
    served.catch(() => {});
    await Promise.resolve();
    expect(stream.taken).toHaveLength(1);
    return { hub, stream, served };
  }

  it("queues nothing for a stuck watcher, and sends it every change once it takes them", async () => {
    const { hub, stream, served } = await stuckWatcher({});
    for (let epoch = 2; epoch <= 20; epoch++) await publish(hub, [node(epoch)]);
    expect(stream.taken).toHaveLength(1);
    stream.drain();
    await new Promise((resolve) => setImmediate(resolve));
    const epochs = stream.taken.slice(1).map(({ event }) => event?.value.nodes[0]?.nodeEpoch);
    expect(epochs).toEqual(Array.from({ length: 19 }, (_, index) => index + 2));
    hub.close();
    await expect(served).rejects.toMatchObject({ reason: "NODE_STARTING" });
  });

  it.each([
    ["changes", { backlogChangesMax: 5 }],
    ["bytes", { backlogBytesMax: 1_500 }],
  ])("drops a watcher that is behind by more %s than are kept, with a clear retriable error", async (_, limits) => {
    const { hub, stream, served } = await stuckWatcher(limits);
    for (let epoch = 2; epoch <= 20; epoch++) await publish(hub, [node(epoch)]);
    stream.drain();
    await expect(served).rejects.toMatchObject({ reason: "CREDIT_EXCEEDED", isRetriable: true });
    await expect(served).rejects.toThrow(/watch again/);
    expect(stream.taken).toHaveLength(1);
    expect(hub.watchers).toBe(0);
  });

  it("sends a heartbeat when nothing happens, by the clock", async () => {
    const clock = new SimClock();
    const hub = new WatchHub(clock);
    await publish(hub, [node(1)]);
    const stream = new Transport();
    const over = new AbortController();
    const served = serve(hub, stream, over.signal);
    for (let beat = 1; beat <= 3; beat++) {
      await new Promise((resolve) => setImmediate(resolve));
      expect(stream.taken).toHaveLength(beat);
      clock.advance(defaultWatchLimits.heartbeatMs);
    }
    over.abort();
    await served;
    expect(defaultWatchLimits.heartbeatMs).toBeLessThanOrEqual(2_000);
    expect(clock.timerCount).toBe(0);
  });
});
