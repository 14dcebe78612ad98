import { connect, type Socket } from "node:net";
import { AppError } from "@millrace/base";
import type { OfferOutcome } from "@millrace/flow";
import {
  conformPushSource,
  makeContext,
  type PushSetup,
  TestIntake,
  until,
} from "@millrace/flow/conformance";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NetcatSource, netcatConfig } from "./netcat-source.ts";

let context: Awaited<ReturnType<typeof makeContext>>;
const stops: (() => Promise<void> | void)[] = [];

beforeEach(async () => {
  context = await makeContext();
});

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
  await context.remove();
});

/** A sender with what it was answered. */
class Sender {
  readonly socket: Socket;
  answers = "";
  isClosed = false;

  constructor(port: number, options: { readonly reads?: boolean } = {}) {
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    stops.push(() => void this.socket.destroy());
    this.socket.on("error", () => undefined);
    this.socket.on("close", () => {
      this.isClosed = true;
    });
    this.socket.on("end", () => {
      this.isClosed = true;
    });
    if (options.reads === false) this.socket.pause();
    else this.socket.on("data", (chunk: Buffer) => (this.answers += chunk.toString()));
  }

  get okCount(): number {
    return this.answers.split("OK\n").length - 1;
  }
}

async function start(
  intake: TestIntake,
  keys: Record<string, unknown> = {},
): Promise<{ source: NetcatSource; port: number }> {
  const source = new NetcatSource(netcatConfig.parse({ port: 0, ...keys }), context);
  await source.start(intake, new AbortController().signal);
  stops.push(() => source.stop());
  return { source, port: source.addresses()[0]?.port ?? 0 };
}

describe("netcat source", () => {
  const setUp = async (): Promise<PushSetup> => {
    const own = await makeContext();
    return {
      create: () => new NetcatSource(netcatConfig.parse({ port: 0 }), own),
      send: async (source, texts) => {
        const sender = new Sender(source.addresses?.()[0]?.port ?? 0);
        sender.socket.write(texts.map((text) => `${text}\n`).join(""));
        await until("an answer", () => sender.okCount === texts.length || sender.isClosed);
        sender.socket.destroy();
        return sender.okCount === texts.length ? "accepted" : "refused";
      },
      tearDown: own.remove,
    };
  };
  for (const { title, run } of conformPushSource({ setUp })) it(title, run);

  it("keeps bytes as they are: carriage returns, empty lines, NUL, invalid UTF-8, a line in many pieces", async () => {
    const intake = new TestIntake();
    const { port } = await start(intake);
    const sender = new Sender(port);
    const lines = [
      Buffer.from("cr\r"),
      Buffer.alloc(0),
      Buffer.from([0, 255, 254, 0xc3, 0x28]),
      Buffer.alloc(5000, 97),
    ];
    for (const line of lines) {
      for (let at = 0; at < line.length; at += 700) sender.socket.write(line.subarray(at, at + 700));
      sender.socket.write("\n");
    }
    await until("all are answered", () => sender.okCount === lines.length);
    expect(intake.records.map(({ value }) => Buffer.from(value ?? []))).toEqual(lines);
    expect(new Set(intake.records.map(({ streamId }) => streamId)).size).toBe(1);
  });

  it("half-close: the last line needs no newline, and its answer still arrives", async () => {
    const intake = new TestIntake();
    const { port } = await start(intake);
    const sender = new Sender(port);
    sender.socket.end("one\ntwo");
    await until("it is closed", () => sender.isClosed);
    expect(sender.okCount).toBe(2);
    expect(intake.texts).toEqual(["one", "two"]);
  });

  it("a line that is too long is refused with an answer, counted, and its connection closed; those before it are in", async () => {
    const intake = new TestIntake();
    const { port } = await start(intake, { "max-line-length": 10 });
    const sender = new Sender(port);
    sender.socket.write(`exactly-10\n${"x".repeat(200_000)}\nafter\n`);
    await until("it is closed", () => sender.isClosed);
    expect(sender.answers).toMatch(/^OK\nFAILED: the line is longer than max-line-length \(10 bytes\)\n$/);
    expect(intake.texts).toEqual(["exactly-10"]);
    expect(await context.telemetry.metrics.text()).toMatch(/discarded_total\{.*line_refused.*\} 1/);
    const other = new Sender(port);
    other.socket.write("fine\n");
    await until("another is served", () => other.okCount === 1);
  });

  it("back-pressure: while a channel is full nothing more is read, then everything is there once, in order", async () => {
    const intake = new TestIntake();
    const { port } = await start(intake);
    intake.mode = "full";
    const sender = new Sender(port);
    const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}`.padEnd(1000, "."));
    sender.socket.write(`${lines.join("\n")}\n`);
    await until("an offer is refused", () => intake.offers > 2);
    expect(sender.socket.bytesWritten - sender.socket.writableLength).toBeLessThan(20_000_000);
    expect(sender.socket.writableLength).toBeGreaterThan(0);
    expect(sender.okCount).toBe(0);
    intake.mode = "commit";
    await until("all are answered", () => sender.okCount === lines.length);
    expect(intake.texts).toEqual(lines);
  });

  it("a sender that does not read its answers is not read either", async () => {
    const intake = new TestIntake();
    const { port } = await start(intake);
    const sender = new Sender(port, { reads: false });
    let isStuck = false;
    const lines = "\n".repeat(1024 * 1024);
    for (let round = 0; round < 64 && !isStuck; round++) {
      isStuck =
        !sender.socket.write(lines) &&
        (await Promise.race([
          new Promise<boolean>((resolve) => sender.socket.once("drain", () => resolve(false))),
          new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 1000)),
        ]));
      intake.records.length = 0;
    }
    expect(isStuck).toBe(true);
  });

  it("channels that take fewer records at once get fewer at once; a record they never take is refused", async () => {
    const intake = new PickyIntake();
    const { port } = await start(intake);
    const sender = new Sender(port);
    sender.socket.write("ab\n".repeat(1000));
    await until("all are answered", () => sender.okCount === 1000);
    expect(intake.texts).toHaveLength(1000);
    sender.socket.write("fine\ntoo large for the channel\nafter\n");
    await until("it is closed", () => sender.isClosed);
    expect(sender.answers).toMatch(/OK\nFAILED: .*its channels take/);
    expect(intake.texts.slice(1000)).toEqual(["fine"]);
  });

  it("starts again after a port in use was freed, and serves each connection once", async () => {
    const first = await start(new TestIntake());
    const intake = new TestIntake();
    const second = new NetcatSource(netcatConfig.parse({ port: first.port }), context);
    stops.push(() => second.stop());
    await expect(second.start(intake, new AbortController().signal)).rejects.toThrow("in use");
    await first.source.stop();
    await second.start(intake, new AbortController().signal);
    const sender = new Sender(first.port);
    sender.socket.end("one\ntwo\n");
    await until("it is closed", () => sender.isClosed);
    expect(sender.answers).toBe("OK\nOK\n");
    expect(intake.texts).toEqual(["one", "two"]);
  });
});

/** Takes ten records at once, and none of more than twenty bytes. */
class PickyIntake extends TestIntake {
  override async offer(prepare: Parameters<TestIntake["offer"]>[0]): Promise<OfferOutcome> {
    const { records } = (typeof prepare === "function" ? prepare() : prepare) ?? { records: [] };
    if (records.length > 10) throw new AppError("LIMIT_EXCEEDED", "its channels take 10 at once");
    if (records.some(({ value }) => (value?.length ?? 0) > 20))
      throw new AppError("RECORD_TOO_LARGE", "a record of many bytes, its channels take 20");
    return super.offer(prepare);
  }
}
