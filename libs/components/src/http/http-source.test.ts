/** The HTTP source against senders that claim or send too much. */
import { type ClientRequest, request } from "node:http";
import { makeContext, TestIntake } from "@millrace/flow/conformance";
import { afterEach, beforeEach, expect, it } from "vitest";
import { HttpSource } from "./http-source.ts";

const bodyBytesMax = 1000;
let context: Awaited<ReturnType<typeof makeContext>>;
let source: HttpSource;
let intake: TestIntake;
const requests: ClientRequest[] = [];

beforeEach(async () => {
  context = await makeContext();
  intake = new TestIntake();
  source = await start(0);
});

afterEach(async () => {
  for (const each of requests.splice(0)) each.destroy();
  await source.stop();
  await context.remove();
});

async function start(port: number): Promise<HttpSource> {
  const made = new HttpSource(
    { bind: "127.0.0.1", port, handler: "json", bodyBytesMax, recordsMax: 10 },
    context,
  );
  await made.start(intake, new AbortController().signal);
  return made;
}

const portOf = (): number => source.addresses()[0]?.port ?? 0;

/** Starts a request and leaves it open; `status` resolves with the answer. */
function open(headers: Record<string, string | number>): { request: ClientRequest; status: Promise<number> } {
  const outgoing = request({ host: "127.0.0.1", port: portOf(), method: "POST", headers });
  requests.push(outgoing);
  const status = new Promise<number>((resolve) => {
    outgoing.on("response", (response) => resolve(response.resume().statusCode ?? 0));
    outgoing.on("error", () => resolve(0));
  });
  return { request: outgoing, status };
}

it("a claim of 2 GiB is refused at once, without its body", async () => {
  const { request: outgoing, status } = open({ "content-length": 2 ** 31 });
  outgoing.write("[");
  expect(await status).toBe(413);
});

it("a body without a length is refused where it passes the limit, with an answer", async () => {
  const { request: outgoing, status } = open({ "transfer-encoding": "chunked" });
  outgoing.write("x".repeat(bodyBytesMax + 1));
  expect(await status).toBe(413);
});

it("bodies at once have a bound: beyond it 503, and room again when others end", async () => {
  const held = Array.from({ length: 4 }, () => open({ "transfer-encoding": "chunked" }));
  for (const { request: outgoing } of held) {
    await new Promise((resolve) => outgoing.write("[".padEnd(bodyBytesMax), resolve));
  }
  const body = '[{"body": "one"}]';
  const send = (): Promise<number> => {
    const { request: outgoing, status } = open({ "content-length": body.length });
    outgoing.end(body);
    return status;
  };
  // The four are read side by side with this one: it is refused as soon as all of them are there.
  await expect.poll(send).toBe(503);
  const taken = intake.texts.length;
  for (const { request: outgoing } of held) outgoing.destroy();
  await expect.poll(send).toBe(200);
  expect(intake.texts).toHaveLength(taken + 1);
});

it("a port in use is named with its owner and the key", async () => {
  await expect(start(portOf())).rejects.toMatchObject({
    reason: "ALREADY_LOCKED",
    message: expect.stringMatching(
      new RegExp(`port ${portOf()} .*in use by process ${process.pid} .*key port of source k1`),
    ) as string,
  });
});
