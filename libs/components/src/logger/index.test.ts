import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { conformSink, makeContext, RecordingFeedback } from "@millrace/flow/conformance";
import { createTelemetry } from "@millrace/telemetry";
import { describe, expect, it } from "vitest";
import { nullSink } from "../null/index.ts";
import { loggerSink } from "./index.ts";

describe.each([loggerSink, nullSink])("$type sink", (definition) => {
  const suite = conformSink({
    setUp: async () => {
      const context = await makeContext();
      return {
        create: () => definition.create(definition.config.parse({}), context),
        tearDown: context.remove,
      };
    },
    hasStanding: false,
    guarantee: "at-least-once",
  });
  for (const { title, run } of suite) it(title, run);
});

describe("logger sink", () => {
  it("shows the beginning of each record, its headers and its size", async () => {
    const context = await makeContext();
    const file = join(context.workDirectory, "..", "log");
    const telemetry = createTelemetry({ service: "test", node: "t", destination: { file } });
    const sink = loggerSink.create(loggerSink.config.parse({ maxBytesToLog: 4 }), { ...context, telemetry });
    const feedback = new RecordingFeedback();
    feedback.writtenThrough = 1;
    await sink.open({} as never, feedback, new AbortController().signal);
    const headers = [{ key: "h", value: Buffer.from("v") }];
    const record = { key: null, value: Buffer.from("abcdefgh"), headers, timestampMs: 0, offset: 0 };
    await sink.write({ from: 0, to: 1, records: [record], leaderEpoch: -1 }, new AbortController().signal);
    await telemetry.close();
    const line = JSON.parse((await readFile(file, "utf8")).trim()) as Record<string, unknown>;
    expect(line).toMatchObject({
      offset: 0,
      headers: ["h=v"],
      body: "abcd",
      bodyHex: "61626364",
      bodyBytes: 8,
    });
    await context.remove();
  });
});
