import { describe, expect, it } from "vitest";
import { components, interceptors, sinks, sources } from "./registry.ts";

const rows = [...sources, ...sinks, ...interceptors];

describe("the registry", () => {
  it.each(
    rows.map((row) => [row.names[0] as string, row] as const),
  )("%s: its row has the names of its definition", async (_, { names, load }) => {
    const definition = await load();
    expect(names).toEqual([definition.type, ...(definition.aliases ?? [])]);
  });

  it.each([sources, sinks, interceptors].map((list) => [list] as const))("no name is used twice", (list) => {
    const names = list.flatMap((row) => row.names.map((name) => name.toLowerCase()));
    expect(new Set(names).size).toBe(names.length);
  });

  it("finds a type by any of its names, in any case", async () => {
    const byType = await components.sink("file");
    expect(byType?.type).toBe("file");
    expect(await components.sink("FILE_ROLL")).toBe(byType);
    expect(await components.sink("org.apache.flume.sink.RollingFileSink")).toBe(byType);
    expect(await components.sink("files")).toBeUndefined();
    expect(await components.source("file")).toBeUndefined();
    expect(components.types("sink")).toContain("file");
  });
});
