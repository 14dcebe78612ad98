/**
 * The netcat source: one line is one record; `OK` is answered after the line is in the channel.
 *
 * Lines of one connection are put in order, all that have arrived in one transaction. While a channel is full
 * nothing is read from the connection: TCP pushes back on the sender, who sees no `OK` until there is room.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { ComponentContext, FlowRecord, Intake, PushSource } from "@millrace/flow";
import { z } from "@millrace/config";
import { listenTcp } from "@millrace/runtime";
import { declareEvent } from "@millrace/telemetry";

/** Connections served at once; more are closed at once. */
const connectionsMax = 1024;
/** Records in one transaction. */
const batchRecordsMax = 1000;
/** Pause before a refused offer is made again, ms. */
const fullPauseMs = 100;

const lineFeed = 10;

export const netcatConfig = z.strictObject({
  bind: z.string().default("127.0.0.1").meta({ description: "Address to listen on." }),
  port: z.coerce
    .number()
    .int()
    .min(0)
    .max(65_535)
    .meta({ description: "Port to listen on; 0 = any free one." }),
  "max-line-length": z.coerce
    .number()
    .int()
    .min(1)
    .max(1 << 20)
    .default(65_536)
    .meta({
      description:
        "Longest line, bytes without newline; a longer one is refused and its connection closed (Flume's default: 512).",
    }),
  "ack-every-event": z
    .stringbool()
    .or(z.boolean())
    .default(true)
    .meta({ description: "Answer OK for each line." }),
  encoding: z
    .string()
    .default("utf-8")
    .meta({ description: "Accepted for Flume's sake; bytes are kept as they are." }),
});

export type NetcatConfig = z.output<typeof netcatConfig>;

const lineRefused = declareEvent({
  name: "netcat_line_refused",
  level: "warn",
  message: "A line over max-line-length was refused and its connection closed.",
  fields: { source: "name of the source", peer: "address of the sender" },
});

export class NetcatSource implements PushSource {
  readonly mode = "push";
  readonly #config: NetcatConfig;
  readonly #context: ComponentContext;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #connectionCount = 0;
  #port = 0;

  constructor(config: NetcatConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
    // half-open is allowed: `printf ... | nc` ends its side and still waits for the answers
    this.#server = createServer({ allowHalfOpen: true });
    this.#server.maxConnections = connectionsMax;
  }

  async start(intake: Intake, signal: AbortSignal): Promise<void> {
    this.#server.on("connection", (socket) => {
      void this.#serve(socket, intake, signal);
    });
    const { bind, port } = this.#config;
    this.#port = await listenTcp(this.#server, bind, port, `the key port of source ${this.#context.name}`);
  }

  addresses(): readonly { name: string; host: string; port: number }[] {
    return [{ name: "netcat", host: this.#config.bind, port: this.#port }];
  }

  streamCount(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(socket: Socket, intake: Intake, signal: AbortSignal): Promise<void> {
    this.#sockets.add(socket);
    const peer = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? 0}`;
    const streamId = `${this.#context.name}/${peer}#${this.#connectionCount++}`;
    let pending: Buffer = Buffer.alloc(0);
    try {
      // the async iterator stops reading while the loop body waits: that is the back-pressure
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
        pending = await this.#takeLines(pending, socket, streamId, intake, signal);
        if (pending.length > this.#config["max-line-length"]) {
          this.#refuseLine(socket, peer);
          return;
        }
      }
      // the last line of a connection needs no newline
      if (pending.length > 0) await this.#put([pending], socket, streamId, intake, signal);
      socket.end();
    } catch {
      // The sender went away or the source stops: what had no OK is the sender's to send again.
      socket.destroy();
    } finally {
      this.#sockets.delete(socket);
    }
  }

  async #takeLines(
    bytes: Buffer,
    socket: Socket,
    streamId: string,
    intake: Intake,
    signal: AbortSignal,
  ): Promise<Buffer> {
    let start = 0;
    let lines: Uint8Array[] = [];
    for (let end = bytes.indexOf(lineFeed); end >= 0; end = bytes.indexOf(lineFeed, start)) {
      if (end - start > this.#config["max-line-length"]) break;
      lines.push(bytes.subarray(start, end));
      start = end + 1;
      if (lines.length === batchRecordsMax) {
        await this.#put(lines, socket, streamId, intake, signal);
        lines = [];
      }
    }
    if (lines.length > 0) await this.#put(lines, socket, streamId, intake, signal);
    return bytes.subarray(start);
  }

  async #put(
    lines: readonly Uint8Array[],
    socket: Socket,
    streamId: string,
    intake: Intake,
    signal: AbortSignal,
  ): Promise<void> {
    const timestampMs = this.#context.clock.nowMs();
    const records: FlowRecord[] = lines.map((value) => ({
      key: null,
      value,
      headers: [],
      timestampMs,
      streamId,
    }));
    while ((await intake.offer({ records }, { signal })) === "full") {
      signal.throwIfAborted();
      await this.#context.clock.sleep(fullPauseMs, signal);
    }
    if (this.#config["ack-every-event"] && socket.writable) socket.write("OK\n".repeat(lines.length));
  }

  #refuseLine(socket: Socket, peer: string): void {
    this.#context.telemetry.emit(lineRefused, { source: this.#context.name, peer });
    this.#context.telemetry.discarded(this.#context.name, "line_too_long", 1);
    socket.end(
      `FAILED: the line is longer than max-line-length (${this.#config["max-line-length"]} bytes)\n`,
    );
  }
}
