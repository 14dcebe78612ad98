import { PassThrough, Writable } from "node:stream";
import { AppError } from "@millrace/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { splitKey } from "./commands/produce.ts";
import { linesOf } from "./lines.ts";
import { errorLine, fields, Output, table } from "./output.ts";
import { recordJson } from "./record-text.ts";

describe("tables", () => {
  test("headers are upper case, columns aligned, numbers to the right", () => {
    expect(
      table(
        ["name", "records"],
        [
          ["logs", 7],
          ["clicks.by.user", 12_345],
        ],
      ),
    ).toBe("NAME            RECORDS\nlogs                  7\nclicks.by.user    12345\n");
  });

  test("an empty table is its header", () => {
    expect(table(["name", "partitions"], [])).toBe("NAME  PARTITIONS\n");
  });

  test("control characters of names never reach the terminal", () => {
    expect(table(["name"], [["a\u001b[31mb"]])).toBe("NAME\na\\u001b[31mb\n");
    expect(fields([["name", "a\u0007"]])).toBe("NAME  a\\u0007\n");
  });
});

describe("errors are one line", () => {
  test("an expected failure is its message", () => {
    expect(errorLine(new AppError("TOPIC_NOT_FOUND", 'no topic "lgs"'))).toBe('no topic "lgs"');
  });

  test("a bug shows no stack", () => {
    expect(errorLine(new TypeError("x is not a function\n    at y"))).toMatch(
      /^unexpected failure: x is not a function \(set MILLRACE_DEBUG=1/,
    );
  });

  test("several problems of a configuration are several lines, each without control characters", () => {
    expect(errorLine(new AppError("INVALID_CONFIG", "a:1: x\nb:2: \u001b"))).toBe("a:1: x\nb:2: \\u001b");
  });
});

describe("output", () => {
  const view = { data: { name: "logs", partitions: [1, 2] }, text: "for people\n" };

  test.each([
    ["table", "for people\n"],
    ["json", '{\n  "name": "logs",\n  "partitions": [\n    1,\n    2\n  ]\n}\n'],
    ["yaml", "name: logs\npartitions:\n  - 1\n  - 2\n"],
  ] as const)("%s", async (format, expected) => {
    const stdout = new PassThrough();
    const output = new Output({ stdout, stderr: new PassThrough() });
    await output.print(view, format);
    expect(String(stdout.read())).toBe(expected);
  });

  test("a reader that goes away ends the command once, quietly", async () => {
    let closedCount = 0;
    const stdout = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error("write EPIPE"), { code: "EPIPE" })),
    });
    const output = new Output({ stdout, stderr: new PassThrough() }, () => closedCount++);
    await output.write("a");
    await new Promise((resolve) => setImmediate(resolve));
    await output.write("b");
    expect(closedCount).toBe(1);
    expect(output.isOpen).toBe(false);
  });
});

describe("lines", () => {
  test("are the bytes between newlines, whatever they are and however they arrive", async () => {
    const chunks = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(chunks, async (parts) => {
        const whole = Buffer.concat(parts.map((part) => part.map((byte) => (byte % 5 === 0 ? 10 : byte))));
        const lines: Uint8Array[] = [];
        async function* stream(): AsyncGenerator<Uint8Array> {
          for (const part of parts) yield part.map((byte) => (byte % 5 === 0 ? 10 : byte));
        }
        for await (const group of linesOf(stream())) lines.push(...group);
        const text = whole.toString("latin1");
        const expected = text.split("\n");
        if (expected.at(-1) === "") expected.pop();
        expect(lines.map((line) => Buffer.from(line).toString("latin1"))).toEqual(expected);
      }),
    );
  });

  test("a key ends at the first separator; without one there is no key", () => {
    const text = (bytes: Uint8Array | null): string | null =>
      bytes === null ? null : Buffer.from(bytes).toString();
    const split = (line: string, separator?: string): (string | null)[] => {
      const { key, value } = splitKey(Buffer.from(line), separator);
      return [text(key), text(value)];
    };
    expect(split("a::b::c", "::")).toEqual(["a", "b::c"]);
    expect(split("abc", "::")).toEqual([null, "abc"]);
    expect(split("::abc", "::")).toEqual(["", "abc"]);
    expect(split("a:b")).toEqual([null, "a:b"]);
  });
});

test("a record as JSON keeps bytes that are no text", () => {
  const record = {
    offset: 7,
    timestampMs: 0,
    key: null,
    value: Buffer.from([0xff, 0x00]),
    headers: [{ key: "host", value: Buffer.from("é") }],
  };
  const line = recordJson({ topic: "logs", partition: 1 }, record);
  expect(JSON.parse(line)).toEqual({
    topic: "logs",
    partition: 1,
    offset: 7,
    timestamp: "1970-01-01T00:00:00.000Z",
    key: null,
    value: { base64: "/wA=" },
    headers: [{ key: "host", value: "é" }],
  });
});
