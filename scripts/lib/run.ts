/** Runs a tool of `node_modules/.bin` as a child process: output captured, exit code and duration returned. */
import { spawn } from "node:child_process";
import { delimiter, join } from "node:path";

/** Absolute path of the repository root, without a trailing slash. */
export const root = join(import.meta.dirname, "..", "..");

/** What a finished child left behind. `output` is stdout and stderr in the order they came. */
export interface RunResult {
  readonly ok: boolean;
  readonly output: string;
  readonly durationMs: number;
}

/** Options of {@link run}: extra environment, and whether output goes straight to the terminal instead of the result. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly inherit?: boolean;
}

/** The environment of every child: the repository's own tools, and its Node, come first on the PATH. */
export function toolEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const path = `${join(root, "node_modules", ".bin")}${delimiter}${process.env["PATH"] ?? ""}`;
  return { ...process.env, ...extra, PATH: path };
}

/** Runs `command` at the repository root. A missing command counts as a failure, never as an exception. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: toolEnvironment(options.env),
      stdio: options.inherit === true ? "inherit" : ["ignore", "pipe", "pipe"],
    });
    const chunks: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => chunks.push(chunk));
    const finish = (ok: boolean, note: string): void => {
      const output = Buffer.concat(chunks).toString("utf8") + note;
      resolve({ ok, output, durationMs: performance.now() - started });
    };
    child.on("error", (error) => {
      finish(false, `${command} did not start: ${error.message}\n`);
    });
    child.on("close", (code, signal) => {
      finish(code === 0, signal === null ? "" : `${command} was ended by ${signal}\n`);
    });
  });
}
