import { components } from "@millrace/components";
import { describe, expect, it } from "vitest";
import { resolveSink } from "./sink-config.ts";

describe("a connector's sink configuration", () => {
  it("gives the sink type and its configuration with defaults", async () => {
    const json = JSON.stringify({ type: "file", directory: "/out", rollSize: "1MiB" });
    const { definition, config } = await resolveSink(components, "out", json);
    expect(definition.type).toBe("file");
    expect(config).toMatchObject({
      directory: "/out",
      rollSize: 1024 * 1024,
      rollInterval: 30,
      format: "text",
    });
  });

  it.each([
    ["{", "no JSON"],
    ["[]", "no JSON object"],
    ["null", "no JSON object"],
    ["{}", '"type" is missing'],
    ['{"type":"fiel"}', "did you mean file?"],
    ['{"type":"file"}', "directory is required"],
    ['{"type":"file","directory":"/out","rolInterval":1}', "rollInterval"],
    ['{"type":"file","directory":"/out","format":"xml"}', "format"],
  ])("%s: refused, naming the connector and what is wrong", async (json, text) => {
    const error = { reason: "INVALID_CONFIG", message: expect.stringContaining(text) as string };
    await expect(resolveSink(components, "out", json)).rejects.toMatchObject(error);
    await expect(resolveSink(components, "out", json)).rejects.toThrow("connector out");
  });
});
