/** What strangers send to a port: each function is one attack, and resolves with what the port did about it. */

import { request } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import type { Prng } from "@millrace/base";

/** Longest time a port may take to get rid of a stranger: over the ten seconds a handshake may take. */
const answerMsMax = 15_000;
const twoGiB = 2 ** 31;

/** Connections that say nothing, or next to nothing, for as long as they are held. */
export class Held {
  readonly #sockets: Socket[] = [];
  readonly #timers: NodeJS.Timeout[] = [];

  /** Opens `count` connections that never send a byte. */
  halfOpen(port: number, count: number): void {
    for (let i = 0; i < count; i++) this.#open(port);
  }

  /** Sends `text` one byte at a time, and then again. */
  slow(port: number, text: string, pauseMs: number): void {
    const socket = this.#open(port);
    let at = 0;
    const timer = setInterval(() => {
      if (socket.writable) socket.write(text.charAt(at++ % text.length), "latin1");
    }, pauseMs);
    this.#timers.push(timer);
  }

  get openCount(): number {
    return this.#sockets.filter((socket) => socket.readyState === "open").length;
  }

  release(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const socket of this.#sockets) socket.destroy();
  }

  #open(port: number): Socket {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.resume();
    this.#sockets.push(socket);
    return socket;
  }
}

/** Sends bytes and waits for the port to hang up: `closed`, or `open` when it does not. */
export function sendBytes(port: number, bytes: Uint8Array): Promise<"closed" | "open"> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const timer = setTimeout(() => {
      socket.destroy();
      resolve("open");
    }, answerMsMax);
    socket.on("error", () => undefined);
    socket.once("close", () => {
      clearTimeout(timer);
      resolve("closed");
    });
    socket.resume();
    socket.write(bytes);
  });
}

/** Random bytes without a line feed. */
export function garbage(prng: Prng, count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, () => (prng.nextInt(0, 255) + 11) % 256 || 11)).map(
    (byte) => (byte === 10 ? 11 : byte),
  ) as Buffer;
}

/** The beginning of a TLS 1.2 handshake. */
export const tlsHello = Buffer.from(
  `16030100c8010000c40303${"5d".repeat(32)}000004c02fc030010000970000`.padEnd(410, "0"),
  "hex",
);

/** Calls a gRPC method with these bytes as the request; resolves with the grpc-status. `isWhole`: nothing follows. */
export function callRaw(port: number, path: string, frame: Uint8Array, isWhole: boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    const end = (run: () => void): void => {
      clearTimeout(timer);
      session.destroy();
      run();
    };
    const timer = setTimeout(() => end(() => reject(new Error(`${path}: no answer`))), answerMsMax);
    session.on("error", (error: Error) => end(() => reject(error)));
    const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
    const stream = session.request(headers);
    const take = (received: { readonly "grpc-status"?: string | string[] | undefined }): void => {
      const status = received["grpc-status"];
      if (status !== undefined) end(() => resolve(Number(status)));
    };
    stream.on("error", () => undefined);
    stream.on("response", take);
    stream.on("trailers", take);
    stream.resume();
    if (isWhole) stream.end(frame);
    else stream.write(frame);
  });
}

/** The head of a gRPC frame that claims 2 GiB less one byte, and a few bytes of it. */
export const hugeFrame = Buffer.concat([Buffer.from([0, 0x7f, 0xff, 0xff, 0xff]), Buffer.alloc(64, 1)]);

/** A gRPC frame with this message. */
export function frameOf(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

/** POSTs a body said to have 2 GiB; resolves with the HTTP status, or 0 when the port hung up. */
export function postHuge(port: number): Promise<number> {
  return new Promise((resolve) => {
    const outgoing = request({
      port,
      host: "127.0.0.1",
      method: "POST",
      path: "/",
      headers: { "content-type": "application/json", "content-length": twoGiB },
      timeout: answerMsMax,
    });
    outgoing.on("error", () => resolve(0));
    outgoing.on("timeout", () => outgoing.destroy());
    outgoing.on("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
      outgoing.destroy();
    });
    outgoing.write('[{"headers": {}, "body": "');
  });
}
