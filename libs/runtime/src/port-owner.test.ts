import { createServer } from "node:net";
import { AppError } from "@millrace/base";
import { expect, it } from "vitest";
import { portInUse, portOwner } from "./port-owner.ts";

it("the process that listens on a port is named, with the flag to change", async (context) => {
  context.skip(process.platform !== "linux", "owners of ports are looked up in /proc");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  expect(portOwner(port)).toMatch(new RegExp(`^process ${process.pid} \\(node`));
  const error = portInUse("127.0.0.1", port, "--http-port");
  expect(error).toBeInstanceOf(AppError);
  expect(error.reason).toBe("ALREADY_LOCKED");
  expect(error.message).toMatch(
    new RegExp(`^port ${port} on 127.0.0.1 is in use by process ${process.pid} .*--http-port`),
  );
  await new Promise((resolve) => server.close(resolve));
  expect(portOwner(port)).toBeUndefined();
  expect(portInUse("127.0.0.1", port, "--port").message).toContain("in use by another process");
});
