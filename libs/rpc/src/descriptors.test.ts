import { Operation, Resource } from "@millrace/proto/common";
import { StorageServiceService } from "@millrace/proto/storage";
import { describe, expect, it } from "vitest";
import { loadDescriptors, parseDescriptorSet } from "./descriptors.ts";
import { createRpcServer } from "./server.ts";
import { testIdentity } from "./testing/test-net.ts";

describe("the descriptor set", () => {
  const { access, methods, symbols, files, extensions } = loadDescriptors();

  it("declares access for every RPC of every proto (design §11)", () => {
    const undeclared = methods.filter((path) => {
      const rule = access.get(path);
      return (
        rule === undefined ||
        rule.resource === Resource.UNSPECIFIED ||
        rule.operation === Operation.UNSPECIFIED
      );
    });
    expect(methods.length).toBeGreaterThan(10);
    expect(undeclared).toEqual([]);
  });

  it("is read right: options, symbols, imports, extensions", () => {
    expect(access.get("/millrace.storage.v1.StorageService/Produce")).toMatchObject({
      resource: Resource.TOPIC,
      operation: Operation.WRITE,
    });
    const storage = symbols.get("millrace.storage.v1.StorageService");
    expect(storage?.name).toBe("millrace/storage/v1/storage.proto");
    expect(storage?.dependencies).toContain("millrace/common/v1/common.proto");
    expect(symbols.get("millrace.storage.v1.StorageService.Produce")).toBe(storage);
    expect(symbols.get("millrace.metadata.v1.CreateTopicRequest.ConfigEntry")?.name).toBe(
      "millrace/metadata/v1/metadata.proto",
    );
    expect(extensions.get("google.protobuf.MethodOptions")?.get(50801)?.name).toBe(
      "millrace/common/v1/common.proto",
    );
    for (const file of files.values())
      for (const name of file.dependencies) expect(files.has(name)).toBe(true);
  });

  it("that is empty is a bug, not a server without rules", () => {
    expect(() => parseDescriptorSet(new Uint8Array())).toThrow(/holds files/);
  });
});

it("a service with an RPC that declares no access cannot be added", () => {
  const server = createRpcServer({ listeners: [], identity: testIdentity });
  const undeclared = {
    ...StorageServiceService.listOffsets,
    path: "/millrace.storage.v1.StorageService/Secret" as const,
  };
  expect(() =>
    server.addService({ undeclared }, { undeclared: () => Promise.reject(new Error("never called")) }),
  ).toThrow(/Secret declares its access/);
});
