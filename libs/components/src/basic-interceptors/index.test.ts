/** Against flume.md §2.6. */

import { isIP } from "node:net";
import { hostname } from "node:os";
import type { FlowRecord, InterceptorDefinition } from "@millrace/flow";
import { makeContext, recordOf } from "@millrace/flow/conformance";
import { describe, expect, it } from "vitest";
import { hostInterceptor, staticInterceptor, timestampInterceptor } from "./index.ts";

async function apply(
  definition: InterceptorDefinition,
  keys: Record<string, unknown>,
  headers: Record<string, string> = {},
): Promise<[string, string][]> {
  const context = await makeContext();
  const interceptor = definition.create(definition.config.parse(keys), context);
  await context.remove();
  const given = Object.entries(headers).map(([key, value]) => ({ key, value: Buffer.from(value) }));
  const record: FlowRecord = { ...recordOf("body"), headers: given, streamId: "s" };
  const result = interceptor.intercept(record);
  if ("dropped" in result) throw new Error(result.dropped);
  expect([result.value, result.streamId]).toEqual([record.value, "s"]);
  return result.headers.map(({ key, value }) => [key, Buffer.from(value ?? []).toString()]);
}

describe("timestamp interceptor", () => {
  it("adds epoch milliseconds, and replaces what is there unless told otherwise", async () => {
    const before = Date.now();
    const [[key, value] = ["", ""]] = await apply(timestampInterceptor, {});
    expect(key).toBe("timestamp");
    expect(Number(value)).toBeGreaterThanOrEqual(before);
    expect(Number(value)).toBeLessThanOrEqual(Date.now());
    expect(await apply(timestampInterceptor, {}, { timestamp: "1" })).not.toEqual([["timestamp", "1"]]);
    expect(await apply(timestampInterceptor, { preserveExisting: "true" }, { timestamp: "1" })).toEqual([
      ["timestamp", "1"],
    ]);
    expect((await apply(timestampInterceptor, { headerName: "at" }))[0]?.[0]).toBe("at");
  });
});

describe("host interceptor", () => {
  it("adds the address, or the name, and replaces what is there unless told otherwise", async () => {
    const [[key, value] = ["", ""]] = await apply(hostInterceptor, {});
    expect([key, isIP(value) > 0]).toEqual(["host", true]);
    expect(await apply(hostInterceptor, { useIP: "false", hostHeader: "h" })).toEqual([["h", hostname()]]);
    expect(await apply(hostInterceptor, { useIP: false }, { host: "old" })).toEqual([["host", hostname()]]);
    expect(await apply(hostInterceptor, { preserveExisting: true }, { host: "old" })).toEqual([
      ["host", "old"],
    ]);
  });
});

describe("static interceptor", () => {
  it("adds one header, and leaves what is there unless told otherwise", async () => {
    expect(await apply(staticInterceptor, {})).toEqual([["key", "value"]]);
    expect(await apply(staticInterceptor, { key: "k", value: "v" }, { a: "b" })).toEqual([
      ["a", "b"],
      ["k", "v"],
    ]);
    expect(await apply(staticInterceptor, { key: "k", value: "v" }, { k: "old" })).toEqual([["k", "old"]]);
    const replaced = await apply(
      staticInterceptor,
      { key: "k", value: "v", preserveExisting: "false" },
      { k: "old" },
    );
    expect(replaced).toEqual([["k", "v"]]);
  });
});
