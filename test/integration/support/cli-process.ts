/** The command line as a process of its own: what it prints, how it ends. Everything started is killed in the end. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

/** Root of the repository. */
export const root = join(import.meta.dirname, "..", "..", "..");

const launcher = join(root, "cli", "bin", "millrace.js");

const running = new Set<ChildProcess>();

/** A process that was started. */
export class CliProcess {
  stdout = "";
  stderr = "";
  readonly child: ChildProcess;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #watchers = new Set<() => void>();

  constructor(command: string, args: readonly string[], options: CliOptions = {}) {
    this.child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: { ...process.env, NO_COLOR: "1", ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: options.isGroup ?? false,
    });
    running.add(this.child);
    this.child.stdin?.on("error", () => undefined);
    this.child.stdin?.end(options.input ?? "");
    this.child.stdout?.on("data", (chunk: Buffer) =>
      this.#add(() => (this.stdout += chunk.toString("latin1"))),
    );
    this.child.stderr?.on("data", (chunk: Buffer) =>
      this.#add(() => (this.stderr += chunk.toString("latin1"))),
    );
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code, signal) => {
        running.delete(this.child);
        this.#add(() => undefined);
        resolve(code ?? signal ?? "SIGKILL");
      });
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Resolves with the match when stdout matches; rejects when the process ends before, or after a time. */
  async printed(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const match = pattern.exec(Buffer.from(this.stdout, "latin1").toString("utf8"));
      if (match !== null) return match;
      const isOver = !running.has(this.child);
      if (isOver || deadline.aborted) {
        throw new Error(
          `${isOver ? "ended" : "timed out"} before ${String(pattern)} was printed:\n${this.stdout}\n${this.stderr}`,
        );
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#watchers.delete(wake);
          deadline.removeEventListener("abort", wake);
          resolve();
        };
        this.#watchers.add(wake);
        deadline.addEventListener("abort", wake);
      });
    }
  }

  #add(note: () => void): void {
    note();
    for (const wake of [...this.#watchers]) wake();
  }
}

/** How a process is started. */
export interface CliOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** True: leader of a process group of its own. */
  readonly isGroup?: boolean;
}

/** Starts `millrace ARGS`. */
export function startCli(args: readonly string[], options?: CliOptions): CliProcess {
  return new CliProcess(process.execPath, [launcher, ...args], options);
}

/** Runs `millrace ARGS` to its end. */
export async function runCli(
  args: readonly string[],
  options?: CliOptions,
): Promise<{ readonly code: number | NodeJS.Signals; readonly stdout: string; readonly stderr: string }> {
  const started = startCli(args, options);
  const code = await started.ended;
  const text = (bytes: string): string => Buffer.from(bytes, "latin1").toString("utf8");
  return { code, stdout: text(started.stdout), stderr: text(started.stderr) };
}

/** Kills whatever is still running; for `afterEach`. */
export async function killAll(): Promise<void> {
  const ends = [...running].map((child) => new Promise((resolve) => child.once("close", resolve)));
  for (const child of running) child.kill("SIGKILL");
  await Promise.all(ends);
}

/** True while a process of this id exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Resolves when `condition` holds; rejects after a time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
