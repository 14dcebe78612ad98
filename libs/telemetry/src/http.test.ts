import { connect } from "node:net";
import { AppError } from "@millrace/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type HttpEndpoint, startHttp } from "./http.ts";
import { createTelemetry, type Telemetry } from "./telemetry.ts";

let telemetry: Telemetry;
let endpoint: HttpEndpoint;

beforeEach(async () => {
  telemetry = createTelemetry({ service: "storage", node: "n1", destination: "silent" });
  endpoint = await startHttp(telemetry, { port: 0 });
});
afterEach(() => endpoint.close());

const get = (path: string, init?: RequestInit): Promise<Response> =>
  fetch(`http://127.0.0.1:${endpoint.port}${path}`, init);

describe("the HTTP port of a process", () => {
  it("answers /metrics in Prometheus' text format", async () => {
    telemetry.discarded("udp", "full", 2);
    const response = await get("/metrics?x=1");
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await response.text()).toContain(
      'millrace_discarded_total{component="udp",reason="full",service="storage",node="n1"} 2',
    );
  });

  it("answers /readyz with 503 and the reason until every part is ready", async () => {
    expect((await get("/readyz")).status).toBe(503);
    telemetry.readiness.set("log", { ready: true });
    telemetry.readiness.set("registration", { ready: false, reason: "no controller answers" });
    const waiting = await get("/readyz");
    expect(waiting.status).toBe(503);
    expect(await waiting.json()).toEqual({
      ready: false,
      parts: [
        { name: "log", ready: true },
        { name: "registration", ready: false, reason: "no controller answers" },
      ],
    });
    telemetry.readiness.set("registration", { ready: true });
    expect((await get("/readyz")).status).toBe(200);
    expect((await get("/healthz")).status).toBe(200);
  });

  it("serves several services of one process, ready when all are", async () => {
    const agent = createTelemetry({ service: "agent", node: "a", destination: "silent" });
    telemetry.readiness.set("log", { ready: true });
    const both = await startHttp([telemetry, agent], { port: 0 });
    const url = `http://127.0.0.1:${both.port}`;
    expect((await fetch(`${url}/readyz`)).status).toBe(503);
    agent.readiness.set("channels", { ready: true });
    expect(await (await fetch(`${url}/readyz`)).json()).toEqual({
      ready: true,
      parts: [
        { name: "storage: log", ready: true },
        { name: "agent: channels", ready: true },
      ],
    });
    await both.close();
  });

  it("serves nothing else and tells no versions or paths (bad input 104)", async () => {
    expect((await get("/")).status).toBe(404);
    expect((await get("/../etc/passwd")).status).toBe(404);
    expect((await get("/metrics", { method: "POST", body: "x".repeat(1000) })).status).toBe(405);
    expect((await get("/healthz")).headers.get("server")).toBeNull();
  });

  it("stays up when it is sent garbage", async () => {
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(endpoint.port, "127.0.0.1", () =>
        socket.write("\u0016\u0003\u0001 garbage\r\n\r\n"),
      );
      let text = "";
      socket.on("data", (chunk) => (text += chunk.toString()));
      socket.on("close", () => resolve(text));
      socket.on("error", reject);
    });
    expect(answer).toMatch(/^HTTP\/1.1 400/);
    expect((await get("/healthz")).status).toBe(200);
  });

  it("names the process that holds a port in use, and the flag", async () => {
    const failed = await startHttp(telemetry, { port: endpoint.port, flag: "--metrics-port" }).catch(
      (e: unknown) => e,
    );
    expect(failed).toBeInstanceOf(AppError);
    expect((failed as AppError).reason).toBe("ALREADY_LOCKED");
    expect((failed as AppError).message).toMatch(
      new RegExp(`port ${endpoint.port} on 127.0.0.1 is in use by process ${process.pid} .*--metrics-port`),
    );
  });

  it("says what is wrong with an address that cannot be bound", async () => {
    await expect(startHttp(telemetry, { host: "203.0.113.1", port: 0 })).rejects.toThrow(
      /cannot listen on 203.0.113.1:0/,
    );
  });
});
