import * as http2 from "node:http2";
import { connect as connectSocket } from "node:net";
import { AppError } from "@millrace/base";
import { MetadataServiceService } from "@millrace/proto/metadata";
import type { ListOffsetsRequest, ProduceRequest, ProduceResponse } from "@millrace/proto/storage";
import { StorageServiceService } from "@millrace/proto/storage";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { callsTotal, internalError } from "./telemetry.ts";
import { eventually, listOffsets, produce, TestNet } from "./testing/test-net.ts";
import type { CallContext, Duplex, RpcServer } from "./types.ts";

let net: TestNet;
beforeEach(() => {
  net = new TestNet();
});
afterEach(() => net.close());

const { watchMetadata } = MetadataServiceService;
const offsetsRequest: ListOffsetsRequest = listOffsets.requestDeserialize(Buffer.alloc(0));
const watchRequest = watchMetadata.requestDeserialize(Buffer.alloc(0));

function batch(correlationId: number, bytes: Uint8Array = new Uint8Array()): ProduceRequest {
  return {
    message: {
      $case: "batch",
      value: {
        correlationId,
        topicId: "t",
        partition: 0,
        leaderEpoch: 0,
        resetSequence: false,
        previousProducerId: 0,
        data: { $case: "batch", value: bytes },
      },
    },
  };
}

function result(correlationId: number): ProduceResponse {
  return {
    message: {
      $case: "result",
      value: { correlationId, error: undefined, baseOffset: 0, isDuplicate: false, leaderEpoch: 0 },
    },
  };
}

const correlationOf = (message: ProduceRequest | ProduceResponse): number =>
  message.message?.$case === "batch" || message.message?.$case === "result"
    ? message.message.value.correlationId
    : -1;

const reasonOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "OK",
    (error: unknown) => (error instanceof AppError ? error.reason : `not an AppError: ${String(error)}`),
  );

/** Answers every batch. */
const echo = async (stream: Duplex<ProduceResponse, ProduceRequest>): Promise<void> => {
  await stream.receive((message) => void stream.write(result(correlationOf(message))));
};

describe("unary calls", () => {
  it("carry request, answer and context", async () => {
    let seen: CallContext | undefined;
    let seenTopic = "";
    const { address } = await net.serve((server) =>
      server.addService(
        { listOffsets },
        {
          listOffsets: async (request, context) => {
            seen = context;
            seenTopic = request.topicId;
            return listOffsets.responseDeserialize(Buffer.alloc(0));
          },
        },
      ),
    );
    await net.connect(address).unary(listOffsets, { ...offsetsRequest, topicId: "t1" });
    expect(seenTopic).toBe("t1");
    expect(seen).toMatchObject({ listener: "client", principal: { name: "anonymous", kind: "anonymous" } });
    expect(seen?.peer).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(seen?.signal.aborted).toBe(false);
    expect(
      await net.telemetry.metrics.value(callsTotal, {
        method: "millrace.storage.v1.StorageService/ListOffsets",
        outcome: "OK",
      }),
    ).toBe(1);
  });

  it("tell expected errors by reason and unexpected ones only by an id that the log explains", async () => {
    const errors: unknown[] = [
      new AppError("NOT_LEADER", "not here", { metadata: { leader: "storage-2" } }),
      new TypeError("secret internals"),
    ];
    const { address } = await net.serve((server) =>
      server.addService(
        { listOffsets },
        {
          listOffsets: () => {
            throw errors.shift();
          },
        },
      ),
    );
    const connection = net.connect(address);
    const expected = await connection.unary(listOffsets, offsetsRequest).catch((e: unknown) => e as AppError);
    expect(expected).toMatchObject({
      reason: "NOT_LEADER",
      message: "not here",
      metadata: { leader: "storage-2" },
    });
    const unexpected = await connection
      .unary(listOffsets, offsetsRequest)
      .catch((e: unknown) => e as AppError);
    expect(unexpected).toMatchObject({ reason: "INTERNAL" });
    expect((unexpected as AppError).message).toMatch(
      /unexpected failure on node storage-1: .* under \S{22}$/,
    );
    expect(internalError.counter && (await net.telemetry.metrics.value(internalError.counter))).toBe(1);
  });

  it("end at the caller's deadline, and the handler's signal says so", async () => {
    let signal: AbortSignal | undefined;
    const { address } = await net.serve((server) =>
      server.addService(
        { listOffsets },
        {
          listOffsets: (_, context) => {
            signal = context.signal;
            return new Promise(() => undefined);
          },
        },
      ),
    );
    const call = net.connect(address).unary(listOffsets, offsetsRequest, { deadlineMs: 100 });
    await expect(call).rejects.toMatchObject({
      reason: "TIMED_OUT",
      message: `ListOffsets at ${address}: no answer within the deadline`,
    });
    await eventually(() => signal?.aborted === true, "the signal is aborted");
  });

  it("end at the server's own cap when the caller sets none (bad input 39, 40)", async () => {
    let signal: AbortSignal | undefined;
    const { address } = await net.serve(
      (server) =>
        server.addService(
          { listOffsets },
          {
            listOffsets: (_, context) => {
              signal = context.signal;
              return new Promise(() => undefined);
            },
          },
        ),
      { limits: { unaryMsMax: 50 } },
    );
    const call = net.connect(address).unary(listOffsets, offsetsRequest, { deadlineMs: 20_000 });
    await expect(call).rejects.toMatchObject({
      reason: "TIMED_OUT",
      message: expect.stringContaining("50 ms") as string,
    });
    expect(signal?.aborted).toBe(true);
  });

  it("are cancelled by the caller's signal and by closing the connection", async () => {
    let running = 0;
    const { address } = await net.serve((server) =>
      server.addService(
        { listOffsets },
        {
          listOffsets: (_, { signal }) => {
            running++;
            signal.addEventListener("abort", () => running--);
            return new Promise(() => undefined);
          },
        },
      ),
    );
    const connection = net.connect(address);
    const controller = new AbortController();
    const first = reasonOf(connection.unary(listOffsets, offsetsRequest, { signal: controller.signal }));
    const second = reasonOf(connection.unary(listOffsets, offsetsRequest));
    await eventually(() => running === 2, "both handlers run");
    controller.abort();
    expect(await first).toBe("CANCELLED");
    connection.close();
    expect(await second).toBe("CANCELLED");
    await eventually(() => running === 0, "both handlers hear of it");
    expect(await reasonOf(connection.unary(listOffsets, offsetsRequest))).toBe("CANCELLED");
    expect(
      await reasonOf(
        net.connect(address).unary(listOffsets, offsetsRequest, { signal: AbortSignal.abort() }),
      ),
    ).toBe("CANCELLED");
  });

  it("fail within moments when nobody listens, in words", async () => {
    const { server, address } = await net.serve(() => undefined);
    await server.stop(0);
    const startMs = performance.now();
    await expect(net.connect(address).unary(listOffsets, offsetsRequest)).rejects.toMatchObject({
      reason: "UNAVAILABLE",
      message: `ListOffsets at ${address}: cannot be reached (connection refused)`,
    });
    expect(performance.now() - startMs).toBeLessThan(5_000);
  });

  it("that nobody serves are UNIMPLEMENTED, and messages too large are refused on both sides", async () => {
    const { address } = await net.serve(
      (server) =>
        server.addService(
          { listOffsets },
          { listOffsets: async () => ({ ...listOffsets.responseDeserialize(Buffer.alloc(0)) }) },
        ),
      { limits: { messageBytesMax: 10_000 } },
    );
    const connection = net.connect(address);
    const { produceOnce } = StorageServiceService;
    expect(
      await reasonOf(connection.unary(produceOnce, produceOnce.requestDeserialize(Buffer.alloc(0)))),
    ).toBe("UNIMPLEMENTED");
    const large = { ...offsetsRequest, topicId: "x".repeat(20_000) };
    await expect(connection.unary(listOffsets, large)).rejects.toMatchObject({
      reason: "LIMIT_EXCEEDED",
      message: expect.stringMatching(
        /a message of 200\d\d bytes is larger than the 10000 bytes allowed/,
      ) as string,
    });
    const strict = net.connect(address, { limits: { messageBytesMax: 5_000 } });
    expect(await reasonOf(strict.unary(listOffsets, large))).toBe("LIMIT_EXCEEDED");
  });

  it("ask authorize() with the RPC's declared resource and operation before the handler runs", async () => {
    const asked: unknown[] = [];
    let handled = 0;
    const { address } = await net.serve(
      (server) =>
        server.addService(
          { listOffsets, produce },
          {
            listOffsets: async () => {
              handled++;
              return listOffsets.responseDeserialize(Buffer.alloc(0));
            },
            produce: async () => {
              handled++;
            },
          },
        ),
      {
        authorize: (request) => {
          asked.push({ ...request });
          throw new AppError("ACCESS_DENIED", "no");
        },
      },
    );
    const connection = net.connect(address);
    expect(await reasonOf(connection.unary(listOffsets, offsetsRequest))).toBe("ACCESS_DENIED");
    expect(await reasonOf(connection.duplex(produce).receive(() => undefined))).toBe("ACCESS_DENIED");
    expect(asked).toMatchObject([
      { resource: 2, operation: 3, method: "/millrace.storage.v1.StorageService/ListOffsets" },
      { resource: 2, operation: 2, principal: { name: "anonymous" } },
    ]);
    expect(handled).toBe(0);
  });
});

describe("response streams", () => {
  it("deliver in order and end, with an error when the handler throws", async () => {
    const { address } = await net.serve((server) =>
      server.addService(
        { watchMetadata },
        {
          watchMetadata: async (request, stream) => {
            for (let i = 0; i < 100; i++) {
              const message = watchMetadata.responseDeserialize(Buffer.alloc(0));
              if (!stream.write(message)) await stream.whenWritable();
            }
            if (request.token?.sequence === 13) throw new AppError("NODE_STARTING", "stopped in the middle");
          },
        },
      ),
    );
    const connection = net.connect(address);
    let count = 0;
    for await (const _ of connection.serverStream(watchMetadata, watchRequest)) count++;
    expect(count).toBe(100);
    const token = { logId: "l", sequence: 13, hash: "h" };
    const failing = (async () => {
      for await (const _ of connection.serverStream(watchMetadata, { ...watchRequest, token })) count++;
    })();
    await expect(failing).rejects.toMatchObject({
      reason: "NODE_STARTING",
      message: "stopped in the middle",
    });
    expect(count).toBe(200);
  });

  it("are cancelled at the server when the reader breaks off or its signal aborts", async () => {
    let running = 0;
    const { address } = await net.serve((server) =>
      server.addService(
        { watchMetadata },
        {
          watchMetadata: async (_, stream, { signal }) => {
            running++;
            stream.write(watchMetadata.responseDeserialize(Buffer.alloc(0)));
            await new Promise((resolve) => signal.addEventListener("abort", resolve));
            running--;
          },
        },
      ),
    );
    const connection = net.connect(address);
    for await (const _ of connection.serverStream(watchMetadata, watchRequest)) break;
    await eventually(() => running === 0, "the handler hears that the reader is gone");
    const controller = new AbortController();
    const reading = (async () => {
      for await (const _ of connection.serverStream(watchMetadata, watchRequest, {
        signal: controller.signal,
      })) {
        controller.abort();
      }
    })();
    expect(await reasonOf(reading)).toBe("CANCELLED");
    await eventually(() => running === 0, "the handler hears of the abort");
  });

  it("break off as UNAVAILABLE when the server goes away", async () => {
    const { server, address } = await net.serve((add) =>
      add.addService({ watchMetadata }, { watchMetadata: () => new Promise(() => undefined) }),
    );
    const iterator = net.connect(address).serverStream(watchMetadata, watchRequest)[Symbol.asyncIterator]();
    const reading = reasonOf(iterator.next());
    await eventually(
      async () =>
        (await net.telemetry.metrics.text()).includes(
          'rpc_calls_in_flight{listener="client",service="test",node="t"} 1',
        ),
      "the call runs",
    );
    await server.stop(0);
    expect(["UNAVAILABLE", "NODE_STARTING"]).toContain(await reading);
  });
});

describe("bidirectional streams", () => {
  it("carry many messages in order both ways and end cleanly", async () => {
    const { address } = await net.serve((server) => server.addService({ produce }, { produce: echo }));
    const stream = net.connect(address).duplex(produce);
    const answers: number[] = [];
    const ended = stream.receive((message) => void answers.push(correlationOf(message)));
    for (let i = 0; i < 2_000; i++) if (!stream.write(batch(i))) await stream.whenWritable();
    stream.end();
    await ended;
    expect(answers).toEqual(Array.from({ length: 2_000 }, (_, i) => i));
    await expect(stream.whenWritable()).rejects.toMatchObject({ reason: "UNAVAILABLE" });
    expect(stream.write(batch(1))).toBe(false);
  });

  it("push back: a receiver that pauses stops the sender, and resuming lets all through", async () => {
    let received = 0;
    let paused: Duplex<ProduceResponse, ProduceRequest> | undefined;
    const { address } = await net.serve((server) =>
      server.addService(
        { produce },
        {
          produce: async (stream) => {
            await stream.receive(() => {
              received++;
              if (received === 1) {
                paused = stream;
                stream.pause();
              }
            });
          },
        },
      ),
    );
    const stream = net.connect(address).duplex(produce);
    const ended = stream.receive(() => undefined);
    const bytes = new Uint8Array(1024 * 1024);
    const total = 100;
    let sent = 0;
    let isBlocked = false;
    const sending = (async () => {
      for (; sent < total; sent++) {
        if (stream.write(batch(sent, bytes))) continue;
        isBlocked = true;
        await stream.whenWritable();
        isBlocked = false;
      }
      stream.end();
    })();
    await eventually(() => isBlocked && received >= 1, "the sender waits");
    // What fits: window, both sides' buffers. It must stand still far below the total.
    let before = -1;
    await eventually(async () => {
      const isStill = isBlocked && before === sent;
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return isStill;
    }, "the sender stands still");
    expect(sent).toBeLessThan(total / 2);
    paused?.resume();
    await sending;
    await ended;
    expect(received).toBe(total);
  });

  it("the sender at the server waits for a client that pauses", async () => {
    let written = 0;
    const { address } = await net.serve((server) =>
      server.addService(
        { watchMetadata, produce },
        {
          watchMetadata: async () => undefined,
          produce: async (stream, { signal }) => {
            const large = { ...result(1) };
            if (large.message?.$case === "result") {
              large.message.value.error = {
                reason: "INTERNAL",
                message: "x".repeat(1024 * 1024),
                metadata: {},
              };
            }
            for (; written < 100 && !signal.aborted; written++) {
              if (!stream.write(large)) await stream.whenWritable();
            }
          },
        },
      ),
    );
    const stream = net.connect(address).duplex(produce);
    let received = 0;
    stream.pause();
    const ended = stream.receive(() => {
      received++;
    });
    let before = -1;
    await eventually(async () => {
      const isStill = written > 0 && before === written;
      before = written;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return isStill;
    }, "the handler stands still");
    expect(written).toBeLessThan(50);
    expect(received).toBe(0);
    stream.resume();
    await ended;
    expect(received).toBe(100);
  });

  it("tell the handler when the caller cancels, and the caller when the handler throws", async () => {
    const signals: AbortSignal[] = [];
    const outcomes: string[] = [];
    const { address } = await net.serve((server) =>
      server.addService(
        { produce },
        {
          produce: async (stream, { signal }) => {
            signals.push(signal);
            const waiting = stream.receive((message) => {
              if (correlationOf(message) === 13) throw new AppError("INVALID_RECORD", "batch 13 is no batch");
              stream.write(result(correlationOf(message)));
            });
            outcomes.push(await reasonOf(waiting));
            await waiting;
          },
        },
      ),
    );
    const connection = net.connect(address);
    const cancelled = connection.duplex(produce);
    const firstAnswer = Promise.withResolvers<undefined>();
    const first = reasonOf(cancelled.receive(() => firstAnswer.resolve(undefined)));
    cancelled.write(batch(1));
    await firstAnswer.promise;
    cancelled.cancel();
    expect(await first).toBe("CANCELLED");
    await eventually(() => signals[0]?.aborted === true || outcomes.length === 1, "the handler hears of it");

    const failing = connection.duplex(produce);
    const answers: number[] = [];
    const second = failing.receive((message) => void answers.push(correlationOf(message)));
    for (const id of [1, 2, 13, 4]) failing.write(batch(id));
    await expect(second).rejects.toMatchObject({ reason: "INVALID_RECORD", message: "batch 13 is no batch" });
    expect(answers).toEqual([1, 2]);
    expect(outcomes.at(-1)).toBe("INVALID_RECORD");
  });

  it("tell the handler that the connection broke: it never looks like an orderly end", async () => {
    const outcomes: string[] = [];
    let signal: AbortSignal | undefined;
    const { port } = await net.serve((server) =>
      server.addService(
        { produce },
        {
          produce: async (stream, context) => {
            signal = context.signal;
            outcomes.push(
              await reasonOf(stream.receive((message) => void stream.write(result(correlationOf(message))))),
            );
          },
        },
      ),
    );
    const socket = connectSocket(port, "127.0.0.1");
    const session = http2.connect("http://127.0.0.1", { createConnection: () => socket });
    session.on("error", () => undefined);
    const request = session.request({
      ":method": "POST",
      ":path": produce.path,
      "content-type": "application/grpc",
    });
    request.on("error", () => undefined);
    const message = produce.requestSerialize(batch(1));
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(message.length, 1);
    request.write(Buffer.concat([frame, message]));
    await new Promise((resolve) => request.once("data", resolve));
    socket.destroy();
    await eventually(() => outcomes.length === 1, "the handler ends");
    expect(outcomes).toEqual(["CANCELLED"]);
    expect(signal?.aborted).toBe(true);
  });

  it("refuse bytes that are no message, and go on serving others (bad input 25, 26, 27)", async () => {
    const { address } = await net.serve((server) =>
      server.addService(
        { produce, listOffsets },
        { produce: echo, listOffsets: async () => listOffsets.responseDeserialize(Buffer.alloc(0)) },
      ),
    );
    const connection = net.connect(address);
    const garbage = { ...produce, requestSerialize: () => Buffer.from("ffffffffffffffffffff01", "hex") };
    const stream = connection.duplex(garbage);
    const ended = reasonOf(stream.receive(() => undefined));
    stream.write(batch(1));
    expect(await ended).toBe("INVALID_REQUEST");
    const deep = { ...listOffsets, requestSerialize: () => Buffer.alloc(30_000, 0x0b) };
    expect(await reasonOf(connection.unary(deep, offsetsRequest))).toBe("INVALID_REQUEST");
    const lying = {
      ...listOffsets,
      requestSerialize: () => Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]),
    };
    expect(await reasonOf(connection.unary(lying, offsetsRequest))).toBe("INVALID_REQUEST");
    expect(await reasonOf(connection.unary(listOffsets, offsetsRequest))).toBe("OK");
  });

  it("are ended when no first message comes in time", async () => {
    const { address } = await net.serve((server) => server.addService({ produce }, { produce: echo }), {
      limits: { firstMessageMsMax: 50 },
    });
    const silent = net.connect(address).duplex(produce);
    expect(await reasonOf(silent.receive(() => undefined))).toBe("TIMED_OUT");
    const talking = net.connect(address).duplex(produce);
    const answered = Promise.withResolvers<undefined>();
    let isOver = false;
    talking
      .receive(() => answered.resolve(undefined))
      .then(
        () => (isOver = true),
        () => (isOver = true),
      );
    talking.write(batch(1));
    await answered.promise;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(isOver).toBe(false);
    talking.cancel();
  });
});

describe("a connection", () => {
  const offsets = (server: RpcServer): void =>
    server.addService(
      { listOffsets, produce },
      { listOffsets: async () => listOffsets.responseDeserialize(Buffer.alloc(0)), produce: echo },
    );

  it("comes back by itself when the server does", async () => {
    const { server, port, address } = await net.serve(offsets);
    const connection = net.connect(address);
    expect(await reasonOf(connection.unary(listOffsets, offsetsRequest))).toBe("OK");
    await server.stop(0);
    expect(await reasonOf(connection.unary(listOffsets, offsetsRequest))).toBe("UNAVAILABLE");
    await net.serve(offsets, { listener: { port } });
    await eventually(
      async () => (await reasonOf(connection.unary(listOffsets, offsetsRequest))) === "OK",
      "calls succeed again",
    );
  });

  it("that has reached its age takes no new calls, keeps its streams, and is replaced unnoticed", async () => {
    const peers = new Set<string>();
    const { address } = await net.serve(
      (server) =>
        server.addService(
          { listOffsets, produce },
          {
            listOffsets: async (_, { peer }) => {
              peers.add(peer);
              return listOffsets.responseDeserialize(Buffer.alloc(0));
            },
            produce: echo,
          },
        ),
      { limits: { connectionAgeMs: 200 } },
    );
    const connection = net.connect(address);
    const stream = connection.duplex(produce);
    let answers = 0;
    const ended = stream.receive(() => {
      answers++;
    });
    await eventually(async () => {
      stream.write(batch(1));
      expect(await reasonOf(connection.unary(listOffsets, offsetsRequest))).toBe("OK");
      return peers.size >= 2;
    }, "calls move to a new connection");
    const before = answers;
    stream.write(batch(2));
    await eventually(() => answers > before, "the old stream still answers");
    stream.end();
    await ended;
  });
});

describe("stopping a server", () => {
  it("lets calls in flight end, and refuses new ones", async () => {
    const release = Promise.withResolvers<undefined>();
    const { server, address } = await net.serve((add) =>
      add.addService(
        { listOffsets },
        {
          listOffsets: async () => {
            await release.promise;
            return listOffsets.responseDeserialize(Buffer.alloc(0));
          },
        },
      ),
    );
    const connection = net.connect(address);
    const inFlight = reasonOf(connection.unary(listOffsets, offsetsRequest));
    await eventually(
      async () =>
        (await net.telemetry.metrics.text()).includes(
          'rpc_calls_in_flight{listener="client",service="test",node="t"} 1',
        ),
      "the call runs",
    );
    const stopped = server.stop(20_000);
    expect(await reasonOf(net.connect(address).unary(listOffsets, offsetsRequest))).toBe("UNAVAILABLE");
    release.resolve(undefined);
    expect(await inFlight).toBe("OK");
    await stopped;
  });

  it("breaks what is left after the grace time, telling the callers", async () => {
    const { server, address } = await net.serve((add) => add.addService({ produce }, { produce: echo }));
    const stream = net.connect(address).duplex(produce);
    const answered = Promise.withResolvers<undefined>();
    const ended = stream.receive(() => answered.resolve(undefined));
    ended.catch(() => undefined);
    stream.write(batch(1));
    await answered.promise;
    await server.stop(50);
    await expect(ended).rejects.toMatchObject({
      reason: "NODE_STARTING",
      message: "node storage-1 is stopping",
    });
  });

  it("can be done twice, and before anything was started", async () => {
    const { server } = await net.serve(() => undefined);
    await Promise.all([server.stop(10), server.stop(10)]);
    await server.stop(0);
  });
});
