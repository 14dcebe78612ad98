/**
 * The netcat source: one line is one record; `OK` is answered after the line is in the channel.
 *
 * Lines of one connection are put in order, all that have arrived in one transaction. While a channel is full
 * nothing is read from the connection: TCP pushes back on the sender, who sees no `OK` until there is room.
 */

import { createServer, type Server, type Socket } from "node:net";
import { AppError } from "@millrace/base";
import { z } from "@millrace/config";
import type { ComponentContext, FlowRecord, Intake, PushSource } from "@millrace/flow";
import { listenTcp } from "@millrace/runtime";
import { declareEvent } from "@millrace/telemetry";

/** Connections served at once; more are closed at once. */
const connectionsMax = 1024;
/** Records in one transaction. */
const batchRecordsMax = 1000;
/** Pause before a refused offer is made again, ms. */
const fullPauseMs = 100;
/** Silence after which a peer is asked whether it is there, ms. */
const keepAliveMs = 60_000;
/** Time a refused sender has to read its answer, ms. */
const farewellMs = 2000;

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
  message: "A line that cannot be taken was refused and its connection closed.",
  fields: { source: "name of the source", peer: "address of the sender", why: "what is wrong with it" },
});

/** One connection at work. */
interface Connection {
  readonly socket: Socket;
  readonly peer: string;
  /** Routes its records (A4). */
  readonly streamId: string;
  readonly intake: Intake;
  readonly signal: AbortSignal;
}

/** A line that no channel takes. */
class LineRefused extends Error {}

export class NetcatSource implements PushSource {
  readonly mode = "push";
  readonly #config: NetcatConfig;
  readonly #context: ComponentContext;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #connectionCount = 0;
  /** Lowered to what the channels take in one transaction. */
  #batchRecords = batchRecordsMax;
  #port = 0;

  constructor(config: NetcatConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
    // half-open is allowed: `printf ... | nc` ends its side and still waits for the answers
    this.#server = createServer({ allowHalfOpen: true });
    this.#server.maxConnections = connectionsMax;
  }

  async start(intake: Intake, signal: AbortSignal): Promise<void> {
    // A start that failed is tried again: one listener stays.
    this.#server.removeAllListeners("connection").on("connection", (socket: Socket) => {
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
    // A peer that is gone without a word must not hold its place for ever.
    socket.setKeepAlive(true, keepAliveMs);
    // The loop below hears errors only while it waits for data.
    socket.on("error", () => undefined);
    const peer = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? 0}`;
    const connection: Connection = {
      socket,
      peer,
      streamId: `${this.#context.name}/${peer}#${this.#connectionCount++}`,
      intake,
      signal,
    };
    try {
      await this.#read(connection);
      socket.end();
    } catch (error) {
      if (error instanceof LineRefused) this.#refuseLine(connection, error.message);
      // The sender went away or the source stops: what had no OK is the sender's to send again.
      else socket.destroy();
    } finally {
      this.#sockets.delete(socket);
    }
  }

  async #read(connection: Connection): Promise<void> {
    let pending: Buffer = Buffer.alloc(0);
    // The iterator stops reading while the loop body waits: that is the back-pressure. A refusal still has to be told.
    for await (const chunk of connection.socket.iterator({
      destroyOnReturn: false,
    }) as AsyncIterable<Buffer>) {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      pending = await this.#takeLines(pending, connection);
      if (pending.length > this.#config["max-line-length"]) throw this.#tooLong();
    }
    // the last line of a connection needs no newline
    if (pending.length > 0) await this.#put([pending], connection);
  }

  #tooLong(): LineRefused {
    return new LineRefused(
      `the line is longer than max-line-length (${this.#config["max-line-length"]} bytes)`,
    );
  }

  /** Puts the whole lines of `bytes`; returns the rest. */
  async #takeLines(bytes: Buffer, connection: Connection): Promise<Buffer> {
    let start = 0;
    const lines: Uint8Array[] = [];
    for (let end = bytes.indexOf(lineFeed); end >= 0; end = bytes.indexOf(lineFeed, start)) {
      if (end - start > this.#config["max-line-length"]) break;
      lines.push(bytes.subarray(start, end));
      start = end + 1;
      if (lines.length >= this.#batchRecords) await this.#put(lines.splice(0), connection);
    }
    if (lines.length > 0) await this.#put(lines, connection);
    return bytes.subarray(start);
  }

  async #put(lines: readonly Uint8Array[], connection: Connection): Promise<void> {
    const { socket, streamId, intake, signal } = connection;
    const timestampMs = this.#context.clock.nowMs();
    const records: FlowRecord[] = lines.map((value) => ({
      key: null,
      value,
      headers: [],
      timestampMs,
      streamId,
    }));
    try {
      while ((await intake.offer({ records }, { signal })) === "full") {
        signal.throwIfAborted();
        await this.#context.clock.sleep(fullPauseMs, signal);
      }
    } catch (thrown) {
      await this.#putLess(lines, connection, AppError.from(thrown));
      return;
    }
    if (!this.#config["ack-every-event"] || !socket.writable) return;
    // A sender that does not read its answers is not read either: they would pile up here.
    if (!socket.write("OK\n".repeat(lines.length))) await drained(socket);
  }

  /** The channels take fewer records at once, or never this one. */
  async #putLess(lines: readonly Uint8Array[], connection: Connection, error: AppError): Promise<void> {
    const { reason, message } = error;
    if (reason !== "LIMIT_EXCEEDED" && reason !== "RECORD_TOO_LARGE") throw error;
    if (lines.length === 1) throw new LineRefused(message);
    const half = Math.ceil(lines.length / 2);
    if (reason === "LIMIT_EXCEEDED") this.#batchRecords = Math.min(this.#batchRecords, half);
    await this.#put(lines.slice(0, half), connection);
    await this.#put(lines.slice(half), connection);
  }

  /** Told with an answer; its connection is closed, because what follows would be out of step with the answers. */
  #refuseLine({ socket, peer }: Connection, why: string): void {
    this.#context.telemetry.emit(lineRefused, { source: this.#context.name, peer, why });
    this.#context.telemetry.discarded(this.#context.name, "line_refused", 1);
    socket.end(`FAILED: ${why}\n`);
    // Unread bytes would turn the close into a reset that takes the answer with it.
    socket.resume();
    const timer = this.#context.clock.after(farewellMs, () => socket.destroy());
    socket.once("close", () => timer.cancel());
  }
}

/** Resolves when the socket takes more, or is closed. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off("drain", done);
      socket.off("close", done);
      resolve();
    };
    socket.on("drain", done);
    socket.on("close", done);
  });
}
