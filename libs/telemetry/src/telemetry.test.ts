import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError, InvariantError } from "@millrace/base";
import type { Clock } from "@millrace/runtime";
import { systemClock } from "@millrace/runtime";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  declareCounter,
  declareEvent,
  declareGauge,
  declareHistogram,
  describeDeclarations,
} from "./index.ts";
import { openLogFile } from "./log-output.ts";
import { mergeMetricTexts, seriesMax } from "./metrics.ts";
import { createTelemetry, type Telemetry } from "./telemetry.ts";

const rolled = declareEvent({
  name: "test_segment_rolled",
  level: "info",
  message: "Segment rolled.",
  fields: { topic: "name of the topic", bytes: "size of the segment" },
  counter: "test_segments_rolled_total",
  labels: ["topic"],
});
const dropped = declareEvent({
  name: "test_dropped",
  level: "warn",
  message: "Datagrams dropped.",
  fields: { reason: "why", records: "how many" },
  counter: "test_dropped_total",
  labels: ["reason"],
  counterBy: "records",
  rateLimitMs: 1000,
});
const requests = declareCounter({ name: "test_requests_total", help: "Requests." });
const depth = declareGauge({ name: "test_depth_records", help: "Depth.", labels: ["channel"] });
const waits = declareHistogram({ name: "test_wait_seconds", help: "Waits.", buckets: [0.1, 1] });
const peers = declareCounter({ name: "test_peers_total", help: "Peers.", labels: ["peer"] });

let folder: string;
let file: string;
let nowMs: number;
let telemetry: Telemetry;
const clock: Clock = {
  ...systemClock,
  nowMs: () => nowMs,
  monotonicMs: () => nowMs,
  after: systemClock.after.bind(systemClock),
  sleep: systemClock.sleep.bind(systemClock),
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "millrace-telemetry-"));
  file = join(folder, "log", "millrace.log");
  nowMs = 1_700_000_000_000;
  telemetry = createTelemetry({
    service: "storage",
    node: "n1",
    version: "0.1.0",
    destination: { file },
    clock,
  });
});
afterEach(async () => {
  await telemetry.close();
  rmSync(folder, { recursive: true });
});

function lines(): Record<string, unknown>[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("an event declared once", () => {
  it("gives the log line, the counter and the reference entry", async () => {
    telemetry.emit(rolled, { topic: "logs", bytes: 42 });
    expect(lines()).toEqual([
      {
        level: "info",
        time: "2023-11-14T22:13:20.000Z",
        service: "storage",
        node: "n1",
        version: "0.1.0",
        event: "test_segment_rolled",
        topic: "logs",
        bytes: 42,
        message: "Segment rolled.",
      },
    ]);
    expect(await telemetry.metrics.text()).toContain(
      'millrace_test_segments_rolled_total{topic="logs",service="storage",node="n1"} 1',
    );
    expect(describeDeclarations()).toContain(
      "| `test_segment_rolled` | info | Segment rolled. | `topic`: name of the topic; `bytes`: size of the segment | `millrace_test_segments_rolled_total` |",
    );
  });

  it("counts every time but writes one line per rate limit, which says how many were left out", async () => {
    for (let i = 0; i < 5; i++) telemetry.emit(dropped, { reason: "full", records: 10 });
    telemetry.emit(dropped, { reason: "other", records: 1 });
    nowMs += 1000;
    telemetry.emit(dropped, { reason: "full", records: 10 });
    expect(lines().map((line) => [line["reason"], line["suppressedCount"]])).toEqual([
      ["full", undefined],
      ["other", undefined],
      ["full", 4],
    ]);
    const counter = dropped.counter;
    expect(counter && (await telemetry.metrics.value(counter, { reason: "full" }))).toBe(60);
  });

  it("counts below the log level too", async () => {
    const quiet = createTelemetry({ service: "s", node: "n", level: "error", destination: { file }, clock });
    quiet.emit(rolled, { topic: "logs", bytes: 1 });
    expect(lines()).toEqual([]);
    expect(rolled.counter && (await quiet.metrics.value(rolled.counter))).toBe(1);
    await quiet.close();
  });

  it("cannot be declared twice with different meanings", () => {
    const again = (message: string): unknown =>
      declareEvent({ name: "test_twice", level: "info", message, fields: {} });
    again("One.");
    expect(() => again("One.")).not.toThrow();
    expect(() => again("Another.")).toThrow(InvariantError);
    expect(() => declareCounter({ name: "noTotal", help: "" })).toThrow(InvariantError);
  });
});

describe("log lines", () => {
  it("carry a child's bindings and share the root's metrics", async () => {
    const child = telemetry.child({ component: "taildir" });
    child.log.info({ path: "/var/log/x" }, "File opened.");
    expect(lines()[0]).toMatchObject({ component: "taildir", path: "/var/log/x", message: "File opened." });
    child.discarded("taildir", "too_long", 3);
    expect(await telemetry.metrics.text()).toContain(
      'millrace_discarded_total{component="taildir",reason="too_long",service="storage",node="n1"} 3',
    );
  });

  it("escape control characters, C1 controls and line separators (bad input 105)", () => {
    const evil = "a\r\nfake\u001b[2J\u009b31m\u2028x\u007f";
    telemetry.log.warn({ topic: evil }, "Odd name.");
    const text = readFileSync(file, "utf8");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must be absent
    expect(text.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028]/);
    expect(lines()[0]?.["topic"]).toBe(evil);
  });

  it("show errors by reason, with a stack only where it helps", () => {
    telemetry.log.error(
      { error: new AppError("DISK_FULL", "full", { cause: new Error("ENOSPC") }) },
      "Failed.",
    );
    telemetry.log.error({ error: new TypeError("bug") }, "Failed.");
    telemetry.log.error({ big: 2n ** 60n }, "Big.");
    const [expected, bug, big] = lines();
    expect(expected?.["error"]).toEqual({
      reason: "DISK_FULL",
      message: "full",
      metadata: {},
      cause: "ENOSPC",
    });
    expect(bug?.["error"]).toMatchObject({
      name: "TypeError",
      message: "bug",
      stack: expect.stringContaining("at ") as string,
    });
    expect(big?.["big"]).toBe("1152921504606846976");
  });

  it("go to a file of bounded size that several roots share", () => {
    const small = join(folder, "small.log");
    const one = openLogFile(small, 100);
    const two = openLogFile(small, 100);
    for (let i = 0; i < 10; i++) (i % 2 === 0 ? one : two).write(`${"x".repeat(29)}\n`);
    one.close();
    two.write("still open\n");
    two.close();
    two.write("closed\n");
    expect(statSync(small).size).toBeLessThanOrEqual(100);
    expect(readFileSync(small, "utf8")).toMatch(/still open\n$/);
    expect(statSync(`${small}.1`).size).toBe(90);
    expect(statSync(small).mode & 0o777).toBe(0o600);
  });

  it("that cannot be written are counted, and nothing else fails", async () => {
    const full = createTelemetry({ service: "s", node: "n", destination: { file: "/dev/full" } });
    full.log.info({}, "Lost.");
    expect(await full.metrics.text()).toMatch(/millrace_log_lines_lost_total\{.*\} 1/);
    await full.close();
  });

  it("need an output that can be opened", () => {
    expect(() =>
      createTelemetry({ service: "s", node: "n", destination: { file: "/proc/none/x.log" } }),
    ).toThrow(/the log file \/proc\/none\/x.log cannot be opened/);
  });
});

describe("metrics", () => {
  it("are written or read at scrape, and readers add up", async () => {
    telemetry.metrics.counter(requests).inc();
    telemetry.metrics.counter(requests).inc({}, 4);
    telemetry.metrics.histogram(waits).observe(0.5);
    const remove = telemetry.metrics.observe(depth, () => [{ labels: { channel: "c" }, value: -3 }]);
    telemetry.metrics.observe(depth, () => [
      { labels: { channel: "c" }, value: 5 },
      { labels: { channel: "d" }, value: 7 },
    ]);
    expect(await telemetry.metrics.value(requests)).toBe(5);
    expect(await telemetry.metrics.value(waits)).toBe(1);
    expect(await telemetry.metrics.value(depth, { channel: "c" })).toBe(2);
    remove();
    expect(await telemetry.metrics.value(depth, { channel: "c" })).toBe(5);
    expect(await telemetry.metrics.value(depth)).toBe(12);
    const text = await telemetry.metrics.text();
    expect(text).toContain('millrace_test_wait_seconds_bucket{le="1",service="storage",node="n1"} 1');
    expect(text).toContain("process_resident_memory_bytes");
    expect(() => telemetry.metrics.observe(requests, () => [])).toThrow(InvariantError);
    expect(() => telemetry.metrics.gauge(depth)).toThrow(InvariantError);
  });

  it("have a bounded number of series (bad input 103)", async () => {
    const counter = telemetry.metrics.counter(peers);
    for (let i = 0; i < seriesMax + 500; i++) counter.inc({ peer: `client-${i}` });
    expect(await telemetry.metrics.value(peers, { peer: "other" })).toBe(500);
    expect(await telemetry.metrics.value(peers)).toBe(seriesMax + 500);
  });

  it("escape label values (bad input 103)", async () => {
    telemetry.metrics.counter(peers).inc({ peer: 'x"} 1\nfake_metric 7' });
    expect(await telemetry.metrics.text()).not.toMatch(/^fake_metric/m);
  });

  it("of several roots in one process are one text with each help line once", async () => {
    const other = createTelemetry({ service: "agent", node: "n1", destination: "silent" });
    telemetry.metrics.counter(requests).inc();
    other.metrics.counter(requests).inc({}, 2);
    const text = mergeMetricTexts([await telemetry.metrics.text(), await other.metrics.text()]);
    expect(text.match(/# HELP millrace_test_requests_total/g)).toHaveLength(1);
    expect(text.match(/# TYPE millrace_test_requests_total counter/g)).toHaveLength(1);
    expect(text).toContain(
      'millrace_test_requests_total{service="storage",node="n1"} 1\nmillrace_test_requests_total{service="agent",node="n1"} 2',
    );
  });
});
