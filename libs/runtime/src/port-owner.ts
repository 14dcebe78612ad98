/**
 * Who holds a TCP port, so that "address in use" can be answered with a name. Linux only (/proc), and only processes
 * this user may look into; elsewhere the owner is "another process".
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Server } from "node:net";
import { AppError } from "@millrace/base";
import { errorCode } from "./disk.ts";

/** The error for a port that is taken; `flag` is what the user can change (`--port`). */
export function portInUse(host: string, port: number, flag: string, cause?: unknown): AppError {
  const owner = portOwner(port) ?? "another process";
  return new AppError(
    "ALREADY_LOCKED",
    `port ${port} on ${host} is in use by ${owner}: stop it, or choose another port with ${flag} (0 = any free one)`,
    { metadata: { host, port: String(port), owner }, cause },
  );
}

/**
 * Lets a server listen and returns the bound port. Throws ALREADY_LOCKED naming the owner of a port that is taken, and
 * INVALID_CONFIG for an address that cannot be bound; `flag` is what the user can change.
 */
export function listenTcp(server: Server, host: string, port: number, flag: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const refused = (error: Error): void => {
      if (errorCode(error) === "EADDRINUSE") return reject(portInUse(host, port, flag, error));
      const text = `cannot listen on ${host}:${port}: ${error.message}; change ${flag}`;
      reject(new AppError("INVALID_CONFIG", text, { cause: error }));
    };
    server.once("error", refused);
    server.listen(port, host, () => {
      server.off("error", refused);
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}

/** `process 4711 (nginx)` for the process that listens on `port`, or undefined when it cannot be told. */
export function portOwner(port: number): string | undefined {
  const sockets = listeningSockets(port);
  if (sockets.size === 0) return undefined;
  for (const pid of names("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const descriptor of names(`/proc/${pid}/fd`)) {
      const link = unlessUnreadable(() => readlinkSync(`/proc/${pid}/fd/${descriptor}`));
      if (link !== undefined && sockets.has(link)) return `process ${pid} (${processName(pid)})`;
    }
  }
  return undefined;
}

/** Links of the form `socket:[inode]` of the sockets that listen on the port. */
function listeningSockets(port: number): Set<string> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const found = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const line of (unlessUnreadable(() => readFileSync(table, "utf8")) ?? "").split("\n")) {
      const fields = line.trim().split(/\s+/);
      // 0A is LISTEN; field 9 is the inode.
      if (fields[1]?.endsWith(suffix) && fields[3] === "0A") found.add(`socket:[${fields[9]}]`);
    }
  }
  return found;
}

function processName(pid: string): string {
  const words = (unlessUnreadable(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? "").split("\0");
  const program = words[0]?.split("/").at(-1) ?? "";
  const isNode = program.startsWith("node");
  // Of a script the interpreter's name says little; arguments are not shown, they may hold secrets.
  const script = isNode ? words.slice(1).find((word) => word !== "" && !word.startsWith("-")) : undefined;
  return [program, ...(script === undefined ? [] : [script.split("/").at(-1)])].join(" ") || "unknown";
}

function names(folder: string): string[] {
  return unlessUnreadable(() => readdirSync(folder)) ?? [];
}

function unlessUnreadable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
