import { topicConfigKeys } from "@millrace/controller";
import { defaultLogConfig } from "@millrace/log";
import { describe, expect, it } from "vitest";
import { toLogConfig } from "./topic-config.ts";

describe("toLogConfig", () => {
  it("takes what is set and keeps the defaults", () => {
    expect(
      toLogConfig({ "retention.ms": "1000", "max.message.bytes": "2048", "flush.policy": "os" }),
    ).toEqual({
      ...defaultLogConfig,
      retentionMs: 1000,
      batchBytesMax: 2048,
      flushPolicy: "os",
    });
  });

  it("has the defaults that the metadata service tells its users", () => {
    const defaults = Object.fromEntries(
      Object.entries(topicConfigKeys).map(([key, { default: value }]) => [key, value]),
    );
    expect(toLogConfig(defaults)).toEqual(defaultLogConfig);
  });
});
