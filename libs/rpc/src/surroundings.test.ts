/** TLS, listeners, health and reflection: what surrounds the calls. */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectSocket, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { AppError } from "@millrace/base";
import { StorageServiceService } from "@millrace/proto/storage";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { healthCheck, healthWatch } from "./health.ts";
import { createRpcServer } from "./server.ts";
import { connectionRefused } from "./telemetry.ts";
import { eventually, listOffsets, TestNet, testIdentity } from "./testing/test-net.ts";
import type { Principal, RpcServer } from "./types.ts";

let net: TestNet;
beforeEach(() => {
  net = new TestNet();
});
afterEach(() => net.close());

const empty = Buffer.alloc(0);
const request = listOffsets.requestDeserialize(empty);
let seen: Principal | undefined;
const addOffsets = (server: RpcServer): void =>
  server.addService(
    { listOffsets },
    {
      listOffsets: async (_, { principal }) => {
        seen = principal;
        return listOffsets.responseDeserialize(empty);
      },
    },
  );
const failure = (work: Promise<unknown>): Promise<AppError> =>
  work.then(
    () => {
      throw new Error("nothing failed");
    },
    (error: unknown) => error as AppError,
  );

describe("TLS", () => {
  let folder: string;
  const path = (name: string): string => join(folder, name);
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "millrace-tls-"));
    const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    for (const authority of ["ca", "other-ca"]) {
      openssl(
        "req",
        "-x509",
        ...newKey,
        "-days",
        "2",
        "-subj",
        `/CN=${authority}`,
        "-keyout",
        `${authority}.key`,
        "-out",
        `${authority}.pem`,
      );
    }
    writeFileSync(path("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1");
    for (const [name, authority] of [
      ["server", "ca"],
      ["agent-7", "ca"],
      ["stranger", "other-ca"],
    ]) {
      openssl("req", ...newKey, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
      openssl(
        "x509",
        "-req",
        "-in",
        `${name}.csr`,
        "-CA",
        `${authority}.pem`,
        "-CAkey",
        `${authority}.key`,
        "-CAcreateserial",
        "-days",
        "1",
        "-extfile",
        "san",
        "-out",
        `${name}.pem`,
      );
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const serverTls = () => ({ certificateFile: path("server.pem"), keyFile: path("server.key") });

  it("serves clients that trust the authority, and no others", async () => {
    const { address } = await net.serve(addOffsets, { listener: { tls: serverTls() } });
    await net.connect(address, { tls: { authorityFile: path("ca.pem") } }).unary(listOffsets, request);
    expect(seen).toEqual({ name: "anonymous", kind: "anonymous" });
    const distrusting = net.connect(address, { tls: { authorityFile: path("other-ca.pem") } });
    expect((await failure(distrusting.unary(listOffsets, request))).reason).toBe("UNAVAILABLE");
    expect((await failure(net.connect(address).unary(listOffsets, request))).reason).toBe("UNAVAILABLE");
  });

  it("takes the principal from the client's certificate and refuses certificates of strangers (49)", async () => {
    const tls = { ...serverTls(), clientAuthorityFile: path("ca.pem") };
    const { address } = await net.serve(addOffsets, { listener: { tls } });
    const as = (name: string) => ({
      tls: {
        authorityFile: path("ca.pem"),
        certificateFile: path(`${name}.pem`),
        keyFile: path(`${name}.key`),
      },
    });
    await net.connect(address, as("agent-7")).unary(listOffsets, request);
    expect(seen).toEqual({ name: "agent-7", kind: "tls" });
    expect((await failure(net.connect(address, as("stranger")).unary(listOffsets, request))).reason).toBe(
      "UNAVAILABLE",
    );
    const without = net.connect(address, { tls: { authorityFile: path("ca.pem") } });
    expect((await failure(without.unary(listOffsets, request))).reason).toBe("UNAVAILABLE");
  });

  it("closes connections that never finish their handshake (44)", async () => {
    const { port, address } = await net.serve(addOffsets, {
      listener: { tls: serverTls() },
      limits: { handshakeMsMax: 100 },
    });
    const silent = connectSocket(port, "127.0.0.1").resume();
    await new Promise((resolve) => silent.once("close", resolve));
    const { counter } = connectionRefused;
    expect(counter && (await net.telemetry.metrics.value(counter, { cause: "handshake_failed" }))).toBe(1);
    await net.connect(address, { tls: { authorityFile: path("ca.pem") } }).unary(listOffsets, request);
  });

  it("names files that cannot be used", async () => {
    const broken = net.serve(addOffsets, {
      listener: { tls: { ...serverTls(), keyFile: path("none.key") } },
    });
    expect(await failure(broken)).toMatchObject({
      reason: "INVALID_CONFIG",
      message: expect.stringMatching(/TLS files of listener client .*none.key/) as string,
    });
    const swapped = net.serve(addOffsets, {
      listener: { tls: { certificateFile: path("server.key"), keyFile: path("server.pem") } },
    });
    expect((await failure(swapped)).reason).toBe("INVALID_CONFIG");
    expect(() => net.connect("127.0.0.1:1", { tls: { authorityFile: path("none.pem") } })).toThrow(
      /TLS files of this client.*none.pem/,
    );
  });
});

describe("listeners", () => {
  it("may be several; a call knows which it came in by", async () => {
    const names: string[] = [];
    const server = createRpcServer({
      identity: testIdentity,
      listeners: [
        {
          name: "client",
          host: "127.0.0.1",
          port: 0,
          advertisedHost: "storage.example",
          advertisedPort: 19_751,
        },
        { name: "internal", host: "127.0.0.1", port: 0 },
      ],
    });
    server.addService(
      { listOffsets },
      {
        listOffsets: async (_, context) => {
          names.push(context.listener);
          return listOffsets.responseDeserialize(empty);
        },
      },
    );
    const bound = await server.start();
    expect(bound[0]).toMatchObject({
      name: "client",
      advertisedHost: "storage.example",
      advertisedPort: 19_751,
      tls: false,
    });
    expect(bound[1]).toMatchObject({
      name: "internal",
      advertisedHost: "127.0.0.1",
      advertisedPort: bound[1]?.port,
    });
    for (const { port } of bound) await net.connect(`127.0.0.1:${port}`).unary(listOffsets, request);
    expect(names).toEqual(["client", "internal"]);
    await server.stop(0);
  });

  it("beyond loopback without TLS need --insecure (design §11), and then advertise a name peers can use", async () => {
    const exposed = { listener: { host: "0.0.0.0" } };
    const error = await failure(net.serve(addOffsets, exposed));
    expect(error).toMatchObject({
      reason: "INVALID_CONFIG",
      message: expect.stringContaining("--insecure") as string,
    });
    const { server } = await net.serve(addOffsets, { ...exposed, allowInsecure: true });
    expect(server.listeners[0]?.advertisedHost).not.toBe("0.0.0.0");
  });

  it("name who holds a port in use and the flag; nothing stays bound", async () => {
    const { port } = await net.serve(addOffsets);
    const second = createRpcServer({
      identity: testIdentity,
      listeners: [
        { name: "internal", host: "127.0.0.1", port: 0 },
        { name: "client", host: "127.0.0.1", port, portFlag: "--client-port" },
      ],
    });
    const error = await failure(second.start());
    expect(error.reason).toBe("ALREADY_LOCKED");
    expect(error.message).toMatch(new RegExp(`port ${port} .*process ${process.pid} .*--client-port`));
    expect(second.listeners).toEqual([]);
  });

  it("that cannot be bound say why", async () => {
    const error = await failure(
      net.serve(addOffsets, { listener: { host: "203.0.113.1" }, allowInsecure: true }),
    );
    expect(error).toMatchObject({
      reason: "INVALID_CONFIG",
      message: expect.stringContaining("203.0.113.1:0") as string,
    });
  });

  it("free their port when stopped", async () => {
    const { server, port } = await net.serve(addOffsets);
    await server.stop(0);
    const again = createServer();
    await new Promise<void>((resolve) => again.listen(port, "127.0.0.1", resolve));
    await new Promise((resolve) => again.close(resolve));
  });

  it("are not addresses a client could misread", () => {
    for (const wrong of ["", "no port", "http://x:1", "x:99999", "unix:/tmp/x"]) {
      expect(() => net.connect(wrong)).toThrow(/is not an address: use host:port/);
    }
  });
});

describe("health", () => {
  it("answers for the server, its services, and those it does not have", async () => {
    const { server, address } = await net.serve(addOffsets);
    const connection = net.connect(address);
    const status = async (service: string): Promise<number> =>
      (await connection.unary(healthCheck, { service })).status;
    expect(await status("")).toBe(1);
    expect(await status("millrace.storage.v1.StorageService")).toBe(1);
    expect(await status("none")).toBe(3);
    server.setServing(false);
    expect(await status("")).toBe(2);
  });

  it("tells watchers every change", async () => {
    const { server, address } = await net.serve(addOffsets);
    const states: number[] = [];
    const watching = (async () => {
      for await (const { status } of net.connect(address).serverStream(healthWatch, { service: "" })) {
        states.push(status);
        if (states.length === 3) return;
      }
    })();
    await eventually(() => states.length === 1, "the first state");
    server.setServing(false);
    await eventually(() => states.length === 2, "the change");
    server.setServing(true);
    await watching;
    expect(states).toEqual([1, 2, 1]);
  });
});

describe("reflection", () => {
  const buf = join(import.meta.dirname, "../../../node_modules/.bin/buf");
  const curl = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)(buf, ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...args]))
      .stdout;

  it("lets buf curl list and call methods without proto files", async () => {
    const { address } = await net.serve(addOffsets);
    const methods = await curl("--list-methods", `http://${address}`);
    expect(methods).toContain("millrace.storage.v1.StorageService/Produce");
    const answer = await curl("-d", '{"topicId": "t"}', `http://${address}${listOffsets.path}`);
    expect(JSON.parse(answer)).toEqual({});
    const v1alpha = await curl("--reflect-protocol", "grpc-v1alpha", "--list-services", `http://${address}`);
    expect(v1alpha.trim()).toBe("millrace.storage.v1.StorageService");
  });

  it("carries error details that buf curl shows by name", async () => {
    const { address } = await net.serve((server) =>
      server.addService(
        { produceOnce: StorageServiceService.produceOnce },
        {
          produceOnce: () => {
            throw new AppError("NOT_LEADER", "ask storage-2", { metadata: { leader: "storage-2" } });
          },
        },
      ),
    );
    const failed = await failure(
      curl("-d", "{}", `http://${address}${StorageServiceService.produceOnce.path}`),
    );
    const { stderr } = failed as unknown as { stderr: string };
    expect(stderr).toContain('"code": "aborted"');
    expect(stderr).toContain("ask storage-2");
    expect(stderr).toContain("google.rpc.ErrorInfo");
  });

  it("can be switched off (bad input 45)", async () => {
    const { address } = await net.serve(addOffsets, { reflection: false });
    await expect(curl("--list-methods", `http://${address}`)).rejects.toThrow(/unimplemented|reflection/i);
  });
});
