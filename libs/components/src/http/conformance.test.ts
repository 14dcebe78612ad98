/** The HTTP source: Flume's handler rule by rule, and every answer. */
import { connect } from "node:net";
import { AppError } from "@millrace/base";
import type { PushSource } from "@millrace/flow";
import {
  conformPushSource,
  makeContext,
  type PushSetup,
  TestIntake,
  until,
} from "@millrace/flow/conformance";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HttpSource, httpConfig } from "./http-source.ts";

let context: Awaited<ReturnType<typeof makeContext>>;
let source: HttpSource;
let intake: TestIntake;

beforeEach(async () => {
  context = await makeContext();
  intake = new TestIntake();
  source = new HttpSource(httpConfig.parse({ port: 0, recordsMax: 10 }), context);
  await source.start(intake, new AbortController().signal);
});

afterEach(async () => {
  await source.stop();
  await context.remove();
});

const url = (of: PushSource = source): string => `http://127.0.0.1:${of.addresses?.()[0]?.port}/any/path`;

function post(
  body: string | Uint8Array<ArrayBuffer>,
  type = "application/json",
  method = "POST",
): Promise<Response> {
  return fetch(url(), { method, body, headers: { "content-type": type } });
}

describe("http source", () => {
  const setUp = async (): Promise<PushSetup> => {
    const own = await makeContext();
    return {
      create: () => new HttpSource(httpConfig.parse({ port: 0 }), own),
      send: async (of, texts) => {
        const response = await fetch(url(of), {
          method: "POST",
          body: JSON.stringify(texts.map((body) => ({ body }))),
        });
        await response.text();
        return response.status === 200 ? "accepted" : "refused";
      },
      tearDown: own.remove,
    };
  };
  for (const { title, run } of conformPushSource({ setUp })) it(title, run);

  it("takes an array of records as Flume does: scalars become text, a missing body is empty, null headers stay", async () => {
    const body = `[{"headers":{"a":"1","n":7,"t":true,"z":null},"body":"text","more":1},{"body":5},{"headers":null},{}]`;
    expect((await post(body)).status).toBe(200);
    expect(intake.texts).toEqual(["text", "5", "", ""]);
    const headers = intake.records[0]?.headers.map(({ key, value }) => [
      key,
      value && Buffer.from(value).toString(),
    ]);
    expect(headers).toEqual([
      ["a", "1"],
      ["n", "7"],
      ["t", "true"],
      ["z", null],
    ]);
  });

  it("200 for an empty array, without a transaction", async () => {
    expect((await post("[]")).status).toBe(200);
    expect(intake.offers).toBe(0);
  });

  it("bytes that are no text travel as bodyBase64", async () => {
    expect((await post(`[{"bodyBase64":"AP/+wyg="}]`)).status).toBe(200);
    expect([...(intake.records[0]?.value ?? [])]).toEqual([0, 255, 254, 0xc3, 0x28]);
  });

  it.each([
    ["no JSON", "{"],
    ["an object", "{}"],
    ["no body", ""],
    ["a null record", "[null]"],
    ["a nested body", `[{"body":{}}]`],
    ["a nested header", `[{"headers":{"a":{}}}]`],
    ["headers that are a list", `[{"headers":[]}]`],
    ["base64 that is none", `[{"bodyBase64":"a-b="}]`],
    ["half a character", `[{"body":"\\ud800"}]`],
    ["bytes that are no UTF-8", Buffer.from([...Buffer.from(`[{"body":"`), 0xff, ...Buffer.from(`"}]`)])],
  ])("400, nothing taken: %s", async (_, body) => {
    expect((await post(body)).status).toBe(400);
    expect(intake.offers).toBe(0);
  });

  it("reads UTF-16 with and without a byte order mark, UTF-8 with one, and refuses other charsets with 415", async () => {
    const text = `[{"body":"ünï"}]`;
    const little = Buffer.from(`\ufeff${text}`, "utf16le");
    const big = Buffer.from(text, "utf16le").swap16();
    expect((await post(little, "application/json; charset=UTF-16")).status).toBe(200);
    expect((await post(big, "application/json; charset=utf-16")).status).toBe(200);
    expect((await post(Buffer.from(`\ufeff${text}`), `application/json; charset="utf-8"`)).status).toBe(200);
    expect(intake.records.map(({ value }) => Buffer.from(value ?? []).toString())).toEqual([
      "ünï",
      "ünï",
      "ünï",
    ]);
    expect((await post(text, "application/json; charset=latin1")).status).toBe(415);
  });

  it("405 for another method, with what is allowed", async () => {
    const response = await fetch(url());
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
    expect((await post("[]", "application/json", "PUT")).status).toBe(405);
  });

  it("413 for more records than recordsMax, and for what no channel can ever take", async () => {
    expect((await post(JSON.stringify(Array.from({ length: 11 }, () => ({}))))).status).toBe(413);
    intake.offer = () => Promise.reject(new AppError("RECORD_TOO_LARGE", "its channels take 20"));
    const response = await post(`[{"body":"large"}]`);
    expect([response.status, await response.text()]).toEqual([413, "its channels take 20\n"]);
  });

  it("503 with Retry-After while a channel is full, and while the agent takes nothing", async () => {
    intake.mode = "full";
    const full = await post(`[{"body":"a"}]`);
    expect([full.status, full.headers.get("retry-after")]).toEqual([503, "1"]);
    intake.mode = "fail";
    expect((await post(`[{"body":"a"}]`)).status).toBe(503);
    expect(intake.texts).toEqual([]);
  });

  it("500 for an unexpected failure, and goes on", async () => {
    intake.offer = () => Promise.reject(new Error("boom"));
    expect((await post(`[{"body":"a"}]`)).status).toBe(500);
    intake = new TestIntake();
    expect((await post("[]")).status).toBe(200);
  });

  it("slow, half-open and garbage connections disturb nobody, and a broken request is not taken", async () => {
    const port = source.addresses()[0]?.port ?? 0;
    const open = (text: string): ReturnType<typeof connect> => {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(text);
      return socket;
    };
    const slow = open("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n[{");
    const silent = open("");
    let answer = "";
    const garbage = open("\u0000\u0001 garbage\r\n\r\n").on("data", (chunk) => (answer += chunk.toString()));
    await until("garbage is refused", () => answer.startsWith("HTTP/1.1 400"));
    const half = open(`POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n[{"body":"never"}]`);
    half.end();
    expect((await post(`[{"body":"fine"}]`)).status).toBe(200);
    expect(intake.texts).toEqual(["fine"]);
    for (const socket of [slow, silent, garbage, half]) socket.destroy();
  });
});
