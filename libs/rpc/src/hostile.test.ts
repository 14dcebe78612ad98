import * as http2 from "node:http2";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { defaultServerLimits, type ServerLimits } from "./limits.ts";
import { connectionRefused } from "./telemetry.ts";
import { eventually, listOffsets, produce, TestNet } from "./testing/test-net.ts";

let net: TestNet;
const sockets: { destroy(): void }[] = [];
beforeEach(() => {
  net = new TestNet();
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await net.close();
});

const empty = Buffer.alloc(0);
const request = listOffsets.requestDeserialize(empty);

async function serve(limits: Partial<ServerLimits> = {}): Promise<{ address: string; port: number }> {
  return net.serve(
    (server) =>
      server.addService(
        { listOffsets, produce },
        {
          listOffsets: async () => listOffsets.responseDeserialize(empty),
          produce: async (stream) => {
            await stream.receive(() => undefined);
          },
        },
      ),
    { limits },
  );
}

/** A normal client beside the attack. */
async function expectAlive(address: string): Promise<void> {
  await net.connect(address).unary(listOffsets, request);
}

function open(port: number): Socket {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  sockets.push(socket);
  return socket;
}

function openHttp2(port: number, options: http2.ClientSessionOptions = {}): http2.ClientHttp2Session {
  const session = http2.connect(`http://127.0.0.1:${port}`, options);
  session.on("error", () => undefined);
  sockets.push(session);
  return session;
}

const closed = (socket: { once(event: "close", run: () => void): unknown }): Promise<void> =>
  new Promise((resolve) => socket.once("close", resolve));

const refused = (cause: string): Promise<number> => {
  const { counter } = connectionRefused;
  return counter === undefined ? Promise.resolve(-1) : net.telemetry.metrics.value(counter, { cause });
};

const grpcHeaders = { ":method": "POST", ":path": listOffsets.path, "content-type": "application/grpc" };

describe("a port that is sent what it does not expect stays up (bad input 25-45)", () => {
  it.each([
    ["garbage", Buffer.from("\u0000\u0001\u0002 this is not HTTP/2 at all, not even close to it")],
    ["HTTP/1.1 (42)", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["a TLS hello (42)", Buffer.from("16030100c8010000c403035d2f", "hex")],
    ["Kafka's ApiVersions", Buffer.from("0000001400120003000000010004746573740474657374", "hex")],
  ])("%s closes the connection and is counted", async (_, bytes) => {
    const { port, address } = await serve({ handshakeMsMax: 300 });
    const socket = open(port);
    const gone = closed(socket);
    socket.resume();
    socket.write(bytes);
    await gone;
    await eventually(
      async () => (await refused("handshake_failed")) + (await refused("handshake_timeout")) === 1,
      "the refusal is counted",
    );
    await expectAlive(address);
  });

  it("half-open connections end at the handshake's time limit (44)", async () => {
    const { port, address } = await serve({ handshakeMsMax: 100 });
    const silent = Array.from({ length: 20 }, () => open(port));
    await Promise.all(silent.map((socket) => closed(socket.resume())));
    await eventually(async () => (await refused("handshake_timeout")) === 20, "all are counted");
    await expectAlive(address);
  });

  it("connections above the limit are refused and counted; others work on", async () => {
    const { port, address } = await serve({ connectionsMax: 3 });
    const client = net.connect(address);
    await client.unary(listOffsets, request);
    open(port);
    open(port);
    await eventually(
      async () =>
        (await net.telemetry.metrics.text()).includes(
          'rpc_connections{listener="client",service="test",node="t"} 3',
        ),
      "three connections are open",
    );
    const surplus = open(port);
    await closed(surplus.resume());
    expect(await refused("too_many")).toBe(1);
    await client.unary(listOffsets, request);
  });

  it("a call with another content type is answered 415 (43), an unknown path UNIMPLEMENTED", async () => {
    const { port } = await serve();
    const session = openHttp2(port);
    const answer = (headers: http2.OutgoingHttpHeaders): Promise<http2.IncomingHttpHeaders> =>
      new Promise((resolve, reject) => {
        const stream = session.request(headers, { endStream: true });
        stream.on("response", resolve);
        stream.on("error", reject);
      });
    expect((await answer({ ...grpcHeaders, "content-type": "text/html" }))[":status"]).toBe(415);
    expect((await answer({ ...grpcHeaders, ":path": "/none/None" }))["grpc-status"]).toBe("12");
  });

  it("a call whose message never comes whole is ended, whatever its caller allows (39, 40)", async () => {
    const { port, address } = await serve({ firstMessageMsMax: 100 });
    const session = openHttp2(port);
    const slow = session.request({ ...grpcHeaders, "grpc-timeout": "99999999999999999999S" });
    slow.on("error", () => undefined);
    slow.write(Buffer.from([0, 0, 0, 0, 100, 1, 2, 3]));
    await closed(slow);
    expect(slow.rstCode).not.toBe(0);
    await expectAlive(address);
  });

  it("a length prefix that lies is refused before memory is taken (2)", async () => {
    const { port, address } = await serve();
    const session = openHttp2(port);
    const before = process.memoryUsage().rss;
    const lying = session.request(grpcHeaders);
    const answer = new Promise<http2.IncomingHttpHeaders>((resolve) => lying.on("response", resolve));
    lying.on("error", () => undefined);
    lying.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
    expect((await answer)["grpc-status"]).toBe("8");
    expect(process.memoryUsage().rss - before).toBeLessThan(32 * 1024 * 1024);
    await expectAlive(address);
  });

  it("an unknown compression is refused and the connection lives (34)", async () => {
    const { port } = await serve();
    const session = openHttp2(port);
    const call = session.request({ ...grpcHeaders, "grpc-encoding": "snappy" });
    const answer = new Promise<http2.IncomingHttpHeaders>((resolve) => call.on("response", resolve));
    call.end(Buffer.from([1, 0, 0, 0, 1, 9]));
    expect((await answer)["grpc-status"]).toBe("12");
    expect(session.destroyed).toBe(false);
  });

  it("calls above the limit of a connection wait; the limit is announced (37)", async () => {
    const { port } = await serve({ concurrentCallsMax: 5 });
    const session = openHttp2(port);
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    expect(session.remoteSettings.maxConcurrentStreams).toBe(5);
    expect(defaultServerLimits.concurrentCallsMax).toBe(256);
  });

  it("too many or too large headers end the call, not the server (41)", async () => {
    const { port, address } = await serve();
    for (const headers of [
      Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`x-${i}`, "v"])),
      { "x-large": "v".repeat(60 * 1024) },
    ]) {
      const session = openHttp2(port, { maxSendHeaderBlockLength: 1024 * 1024 });
      const call = session.request({ ...grpcHeaders, ...headers });
      call.on("error", () => undefined);
      call.end();
      await closed(call);
    }
    await expectAlive(address);
  });

  it("rapid resets end the connection that sends them; others are not disturbed (35)", async () => {
    const { port, address } = await serve();
    const other = net.connect(address);
    const session = openHttp2(port);
    const gone = closed(session);
    let sent = 0;
    const attack = (): void => {
      for (let i = 0; i < 200 && !session.destroyed && !session.closed; i++, sent++) {
        const call = session.request(grpcHeaders);
        call.on("error", () => undefined);
        call.close(http2.constants.NGHTTP2_CANCEL);
      }
      if (!session.destroyed && !session.closed && sent < 100_000) setImmediate(attack);
    };
    attack();
    await other.unary(listOffsets, request);
    await gone;
    expect(sent).toBeLessThan(100_000);
    await other.unary(listOffsets, request);
  });

  it("a caller that takes no data has its finished calls closed, and their buffers freed (38)", async () => {
    const large = { ...listOffsets.responseDeserialize(empty) };
    const { port, address } = await net.serve(
      (server) =>
        server.addService(
          { listOffsets, produce },
          {
            listOffsets: async () => large,
            produce: async (stream) => {
              for (let i = 0; i < 10; i++) stream.write(produce.responseDeserialize(empty));
            },
          },
        ),
      { limits: { flushMsMax: 100 } },
    );
    const session = openHttp2(port, { settings: { initialWindowSize: 0 } });
    for (const path of [listOffsets.path, produce.path]) {
      const call = session.request({ ...grpcHeaders, ":path": path });
      call.on("error", () => undefined);
      call.resume();
      const gone = closed(call);
      call.end(Buffer.alloc(5));
      await gone;
      expect(call.rstCode).not.toBe(0);
    }
    await expectAlive(address);
  });

  it("a TLS client is told that it cannot reach a plain port", async () => {
    const { port, address } = await serve();
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
    sockets.push(socket);
    await new Promise((resolve) => socket.once("error", resolve));
    await expectAlive(address);
  });
});

it("the receive window of a connection and its streams is raised (ecosystem.md §3.3)", async () => {
  const { port } = await serve();
  const session = openHttp2(port);
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  expect(session.remoteSettings.initialWindowSize).toBe(4 * 1024 * 1024);
  await eventually(
    () => (session.state.remoteWindowSize ?? 0) >= 4 * 1024 * 1024,
    "the session's window is raised",
  );
});
