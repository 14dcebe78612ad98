import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import {
  addressList,
  duration,
  formatDuration,
  formatHostPort,
  formatSize,
  hostPort,
  parseDuration,
  parseSize,
  port,
  Secret,
  secret,
  size,
} from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("durations and sizes", () => {
  it.each([
    ["5s", 5000],
    ["500ms", 500],
    ["1.5h", 5_400_000],
    [" 2 m ", 120_000],
    ["7d", 604_800_000],
    [250, 250],
    ["250", 250],
    [0, 0],
  ])("reads the duration %s as %i ms", (text, ms) => {
    expect(duration().parse(text)).toBe(ms);
  });

  it.each([
    ["64MiB", 67_108_864],
    ["1GB", 1e9],
    ["0.5KiB", 512],
    ["10kB", 10_000],
    [4096, 4096],
    ["4096", 4096],
  ])("reads the size %s as %i bytes", (text, bytes) => {
    expect(size().parse(text)).toBe(bytes);
  });

  it.each([
    "5 parsecs",
    "-5s",
    "",
    "s",
    "1e3",
    "NaN",
    "5s5s",
    "64M",
    "constructor",
    "99999999999999999999d",
  ])("refuses %s as both", (text) => {
    expect(parseDuration(text) === undefined || parseSize(text) === undefined).toBe(true);
    expect(duration().safeParse(text).success && size().safeParse(text).success).toBe(false);
  });

  it("refuses what is not text or a finite number (bad input 32)", () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, true, null, {}, []]) {
      expect(duration().safeParse(value).error?.issues[0]?.message).toBe(
        "is not a duration such as 500ms, 5s or 2h",
      );
    }
  });

  it("keeps to its bounds and says them with a unit", () => {
    const bounded = size({ min: 1024, max: 2 ** 20 });
    expect(bounded.safeParse("1B").error?.issues[0]?.message).toBe("is too small: at least 1KiB");
    expect(bounded.safeParse("2MiB").error?.issues[0]?.message).toBe("is too large: at most 1MiB");
  });

  it("prints in the largest unit that divides", () => {
    expect([
      formatDuration(90_000),
      formatDuration(1500),
      formatDuration(0),
      formatDuration(7_200_000),
    ]).toEqual(["90s", "1500ms", "0ms", "2h"]);
    expect([formatSize(67_108_864), formatSize(1000), formatSize(0)]).toEqual(["64MiB", "1000B", "0B"]);
  });
});

describe("ports and addresses", () => {
  it("reads ports from numbers and text", () => {
    expect([port().parse(0), port().parse("9750"), port().parse(65_535)]).toEqual([0, 9750, 65_535]);
    for (const wrong of [-1, 65_536, 1.5, "80a", "", "0x50"])
      expect(port().safeParse(wrong).success).toBe(false);
  });

  it("reads host:port, with IPv6 in brackets and a default port", () => {
    expect(hostPort().parse("storage-1:9751")).toEqual({ host: "storage-1", port: 9751 });
    expect(hostPort().parse("[::1]:9751")).toEqual({ host: "::1", port: 9751 });
    expect(hostPort({ defaultPort: 9750 }).parse("storage-1")).toEqual({ host: "storage-1", port: 9750 });
    expect(formatHostPort({ host: "::1", port: 1 })).toBe("[::1]:1");
    for (const wrong of ["storage-1", "a:b", "a:99999", "http://a:1", "::1:5", "a b:1"]) {
      expect(hostPort().safeParse(wrong).success).toBe(false);
    }
  });

  it("reads lists of addresses from YAML lists and from text", () => {
    const both = [
      { host: "a", port: 1 },
      { host: "b", port: 9750 },
    ];
    const list = addressList({ defaultPort: 9750 });
    expect(list.parse("a:1, b")).toEqual(both);
    expect(list.parse(["a:1", "b"])).toEqual(both);
    expect(list.safeParse("a:1,,b").error?.issues[0]?.message).toContain('"" is not an address');
    expect(list.safeParse([]).success).toBe(false);
    expect(list.safeParse([1]).success).toBe(false);
  });
});

describe("secrets", () => {
  it("come from text, a file or an environment variable", () => {
    const file = join(folder, "password");
    writeFileSync(file, "from file\n");
    process.env["MILLRACE_TEST_SECRET"] = "from env";
    const reveal = (value: unknown): string => secret().parse(value).reveal();
    expect(reveal("inline")).toBe("inline");
    expect(reveal({ file })).toBe("from file");
    expect(reveal(`\${file:${file}}`)).toBe("from file");
    expect(reveal({ env: "MILLRACE_TEST_SECRET" })).toBe("from env");
    // biome-ignore lint/suspicious/noTemplateCurlyInString: that is the notation
    expect(reveal("${env:MILLRACE_TEST_SECRET}")).toBe("from env");
    delete process.env["MILLRACE_TEST_SECRET"];
  });

  it("say what is wrong with a reference, never what is in it", () => {
    const message = (value: unknown): string | undefined =>
      secret().safeParse(value).error?.issues[0]?.message;
    expect(message({ file: join(folder, "absent") })).toMatch(
      /names the file .*absent, which cannot be read \(ENOENT\)/,
    );
    expect(message({ env: "MILLRACE_ABSENT" })).toBe(
      "names the environment variable MILLRACE_ABSENT, which is not set",
    );
    expect(message({ file: "a", env: "b" })).toMatch(/is not a secret/);
    expect(message(5)).toMatch(/is not a secret/);
  });

  it("never print themselves (bad input 106)", () => {
    const value = new Secret("hunter2");
    expect(
      [
        String(value),
        JSON.stringify({ value }),
        inspect({ value }),
        inspect(value, { showHidden: true }),
      ].join(),
    ).not.toContain("hunter2");
    expect(JSON.stringify({ value })).toBe('{"value":"[redacted]"}');
  });
});
