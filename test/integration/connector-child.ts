/**
 * A connector instance in a process of its own that stops itself (SIGSTOP) before the STOP_AT'th operation on the
 * output directory, in the middle of whatever it is doing. Prints one JSON line per change of its tasks.
 */
import { type Disk, type DiskFile, realDisk } from "@millrace/runtime";
import { startConnector } from "@millrace/service-connector";
import { createTelemetry } from "@millrace/telemetry";

const { DATA = "", BOOTSTRAP = "", OUTPUT = "", STOP_AT = "0" } = process.env;
const stopAt = Number(STOP_AT);
let operations = 0;

function step(path: string): void {
  if (!path.startsWith(OUTPUT)) return;
  if (++operations === stopAt) process.kill(process.pid, "SIGSTOP");
}

/** `target` with `step` before each of its operations. */
function stepped<Target extends Disk | DiskFile>(
  target: Target,
  pathOf: (args: readonly unknown[]) => string,
): Target {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name === "close") return value.bind(target) as unknown;
      return async (...args: unknown[]): Promise<unknown> => {
        const path = pathOf(args);
        step(path);
        const result: unknown = await (value as (...rest: unknown[]) => Promise<unknown>).apply(target, args);
        return name === "open" ? stepped(result as DiskFile, () => path) : result;
      };
    },
  });
}

const service = await startConnector({
  dataDirectory: DATA,
  bootstrapServers: [BOOTSTRAP],
  telemetry: createTelemetry({ service: "connector", node: "child", destination: "silent" }),
  disk: stepped(realDisk, ([path]) => String(path)),
});
await service.ready;

let printed = "";
const timer = setInterval(() => {
  const tasks = service.status().map(({ taskEpoch, state, resume }) => ({ taskEpoch, state, resume }));
  const line = JSON.stringify(tasks);
  if (line !== printed) process.stdout.write(`${line}\n`);
  printed = line;
}, 10);
process.once("SIGTERM", () => {
  clearInterval(timer);
  void service.stop();
});
