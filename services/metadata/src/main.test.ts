import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "@millrace/config";
import { DescribeClusterRequest, MetadataServiceService } from "@millrace/proto/metadata";
import { connect } from "@millrace/rpc";
import { createTelemetry } from "@millrace/telemetry";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { metadataConfigSchema, metadataOptions } from "./config.ts";
import { type MetadataOptions, type MetadataService, startMetadata } from "./main.ts";
import { refusal } from "./testing/cluster.ts";

let directory: string;
const running: MetadataService[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-metadata-"));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((service) => service.stop()));
  await rm(directory, { recursive: true });
});

async function start(options: Partial<MetadataOptions> = {}): Promise<MetadataService> {
  const service = await startMetadata({
    dataDirectory: join(directory, "data"),
    listeners: [{ name: "client", host: "127.0.0.1", port: 0 }],
    ...options,
  });
  running.push(service);
  return service;
}

async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((service) => service.stop()));
}

describe("startMetadata", () => {
  it("makes a cluster at first start and finds it again", async () => {
    const { clusterId } = await start();
    await stopAll();
    expect(await start()).toMatchObject({ clusterId, ready: true });
    const meta = JSON.parse(await readFile(join(directory, "data", "meta"), "utf8")) as Record<
      string,
      unknown
    >;
    expect(meta).toMatchObject({ formatVersion: 1, role: "metadata", clusterId, nodeId: "metadata-1" });
    expect(meta["starts"]).toHaveLength(2);
  });

  it("refuses a directory that another process holds, and leaves it alone", async () => {
    await start();
    const before = await readdir(join(directory, "data"));
    const error = await refusal(start());
    expect(error.reason).toBe("ALREADY_LOCKED");
    expect(error.message).toContain(join(directory, "data"));
    expect(await readdir(join(directory, "data"))).toEqual(before);
  });

  it("refuses a port in use and releases the directory", async () => {
    const { listeners } = await start();
    const port = listeners[0]?.port ?? 0;
    const dataDirectory = join(directory, "other");
    const taken = { dataDirectory, listeners: [{ name: "client", host: "127.0.0.1", port }] };
    expect((await refusal(start(taken))).reason).toBe("ALREADY_LOCKED");
    await start({ dataDirectory });
  });

  it("refuses to bind beyond loopback without TLS, unless told", async () => {
    const listeners = [{ name: "client", host: "0.0.0.0", port: 0 }];
    await refusal(start({ listeners }));
    await start({ listeners, allowInsecure: true });
  });

  it("refuses the directory of another node, another role, a damaged meta, a newer meta", async () => {
    await start();
    await stopAll();
    const path = join(directory, "data", "meta");
    expect((await refusal(start({ nodeId: "metadata-2" }))).reason).toBe("INVALID_CONFIG");
    const whole = await readFile(path, "utf8");
    const meta = JSON.parse(whole) as Record<string, unknown>;
    const cases: [string, string][] = [
      [JSON.stringify({ ...meta, role: "storage" }), "INVALID_CONFIG"],
      [JSON.stringify({ ...meta, formatVersion: 2 }), "UNSUPPORTED_VERSION"],
      [JSON.stringify({ ...meta, clusterId: "another" }), "CLUSTER_MISMATCH"],
      [whole.slice(0, 20), "RECORD_LOST_ON_DISK"],
    ];
    for (const [content, reason] of cases) {
      await writeFile(path, content);
      expect((await refusal(start())).reason, content).toBe(reason);
    }
    await writeFile(path, whole);
    await start();
  });

  it("stops at a damaged log with its path, changing nothing", async () => {
    await start();
    await stopAll();
    const folder = join(directory, "data", "metadata");
    const [name = ""] = (await readdir(folder)).filter((file) => file.endsWith(".log"));
    const bytes = await readFile(join(folder, name));
    bytes[100] = (bytes[100] as number) ^ 1;
    await writeFile(join(folder, name), bytes);
    const error = await refusal(start());
    expect(error.reason).toBe("RECORD_LOST_ON_DISK");
    expect(error.message).toContain(name);
    expect(await readFile(join(folder, name))).toEqual(bytes);
  });

  it("asks the authorize hook before every call", async () => {
    const asked: string[] = [];
    const { address } = await start({
      authorize: ({ method }) => {
        asked.push(method);
      },
    });
    const connection = connect(address);
    await connection.unary(MetadataServiceService.describeCluster, DescribeClusterRequest.create());
    connection.close();
    expect(asked.some((method) => method.includes("DescribeCluster"))).toBe(true);
  });

  it("says that it is ready, and when it is stopping", async () => {
    const telemetry = createTelemetry({ service: "metadata", node: "m", destination: "silent" });
    const service = await start({ telemetry });
    expect(telemetry.readiness.snapshot().ready).toBe(true);
    await service.stop();
    expect(telemetry.readiness.snapshot()).toMatchObject({ ready: false });
    await telemetry.close();
  });

  it("is configured by file, environment and flags", () => {
    const { config } = loadConfig({
      schema: metadataConfigSchema,
      name: "metadata",
      env: { MILLRACE_METADATA_SESSION_TIMEOUT: "5s" },
      envPrefix: "MILLRACE_METADATA_",
      flags: { port: "0", "data-directory": directory },
    });
    expect(metadataOptions(config)).toMatchObject({
      dataDirectory: directory,
      sessionTimeoutMs: 5_000,
      listeners: [{ name: "client", host: "127.0.0.1", port: 0 }],
    });
  });
});
