/**
 * Runs a tool of `node_modules/.bin` as a child process: output captured, exit code and duration returned. Every child
 * leads a process group of its own, which is ended as a whole at its time limit, or when this process is told to stop:
 * a test worker in an endless loop outlives its runner otherwise.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { delimiter, join } from "node:path";

/** Absolute path of the repository root, without a trailing slash. */
export const root = join(import.meta.dirname, "..", "..");

/** What a finished child left behind. `output` is stdout and stderr in the order they came. */
export interface RunResult {
  readonly ok: boolean;
  readonly output: string;
  readonly durationMs: number;
}

/** Options of {@link run}: extra environment, output to the terminal instead of the result, time limit, folder. */
interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly inherit?: boolean;
  readonly timeoutMs?: number;
  readonly cwd?: string;
}

const timeoutMsDefault = 5 * 60_000;
/** How long after SIGTERM a group gets SIGKILL. */
const killDelayMs = 5_000;

const running = new Set<ChildProcess>();

function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // The group is gone, which is what we want.
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    for (const child of running) endGroup(child, "SIGTERM");
    setTimeout(() => {
      for (const child of running) endGroup(child, "SIGKILL");
    }, killDelayMs).unref();
    process.once("exit", () => {
      process.exitCode = 130;
    });
  });
}

/** The environment of every child: the repository's own tools, and its Node, come first on the PATH. */
function toolEnvironment(extra: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const path = `${join(root, "node_modules", ".bin")}${delimiter}${process.env["PATH"] ?? ""}`;
  return { ...process.env, ...extra, PATH: path };
}

/** Runs `command`, by default at the repository root. A missing command is a failed result, never an exception. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const started = performance.now();
  const timeoutMs = options.timeoutMs ?? timeoutMsDefault;
  // Captured output is read later, often in a log file: no colours (CI=true switches them on in some tools).
  const plain = options.inherit === true ? {} : { NO_COLOR: "1", FORCE_COLOR: "0" };
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: toolEnvironment({ ...plain, ...options.env }),
      stdio: options.inherit === true ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
      detached: true,
    });
    running.add(child);
    const chunks: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => chunks.push(chunk));
    let note = "";
    const timer = setTimeout(() => {
      note = `${command} ${args.join(" ")} was stopped: it took longer than ${timeoutMs / 1000} s\n`;
      endGroup(child, "SIGKILL");
    }, timeoutMs);
    const finish = (ok: boolean): void => {
      clearTimeout(timer);
      running.delete(child);
      endGroup(child, "SIGKILL");
      if (options.inherit === true && note !== "") process.stderr.write(note);
      resolve({
        ok,
        output: Buffer.concat(chunks).toString("utf8") + note,
        durationMs: performance.now() - started,
      });
    };
    child.on("error", (error) => {
      note = `${command} did not start: ${error.message}\n`;
      finish(false);
    });
    child.on("close", (code, signal) => {
      if (note === "" && signal !== null) note = `${command} was ended by ${signal}\n`;
      finish(code === 0);
    });
  });
}
