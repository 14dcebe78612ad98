/** Real Millrace processes for tests: started by the launcher as a user would, killed as a power cut would. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const launcher = fileURLToPath(new URL("../../cli/bin/millrace.js", import.meta.url));

/** How long a process may take to be ready. */
const readyTimeoutMs = 20_000;

/** A millrace process that can be killed and started again with the same arguments. */
export class MillraceProcess {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #readyUrl: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #cwd: string | undefined;
  #child: ChildProcess | undefined;
  #exited: Promise<number | string> = Promise.resolve(0);
  /** Everything it printed, of all its starts. */
  output = "";
  startCount = 0;

  constructor(options: {
    readonly name: string;
    readonly args: readonly string[];
    /** `/readyz` of the process. */
    readonly readyUrl: string;
    readonly env?: { readonly [name: string]: string };
    /** Working directory; this process's own when absent. */
    readonly cwd?: string;
  }) {
    this.#cwd = options.cwd;
    this.name = options.name;
    this.#args = options.args;
    this.#readyUrl = options.readyUrl;
    this.#env = { ...process.env, ...options.env };
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts it and, unless told otherwise, waits until it is ready. */
  async start(options: { readonly waitReady?: boolean } = {}): Promise<void> {
    this.startCount++;
    const child = spawn(process.execPath, [launcher, ...this.#args], {
      env: this.#env,
      cwd: this.#cwd,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    const collect = (chunk: Buffer): void => {
      this.output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    this.#exited = new Promise((resolve) =>
      child.once("exit", (code, signal) => resolve(signal ?? code ?? 0)),
    );
    if (options.waitReady ?? true) await this.waitReady();
  }

  async waitReady(): Promise<void> {
    await until(`${this.name} is ready`, readyTimeoutMs, async () => {
      if (this.#child?.exitCode !== null) throw new Error(`${this.name} ended:\n${this.output.slice(-4000)}`);
      const response = await fetch(this.#readyUrl).catch(() => undefined);
      return response?.ok ?? false;
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.output.slice(-4000)}`);
    });
  }

  /** SIGKILL, as sudden as it gets; resolves when the process is gone. */
  async kill9(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#exited;
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** SIGTERM; resolves with the exit code or the signal's name. */
  async stop(): Promise<number | string> {
    if (this.#child?.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGTERM");
    return this.#exited;
  }
}

/** Runs a millrace command to its end. */
export async function millrace(
  args: readonly string[],
  options: {
    readonly input?: string;
    readonly timeoutMs?: number;
    readonly cwd?: string;
    /** A command that runs the command given behind it, and its own arguments. */
    readonly through?: readonly string[];
  } = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [command = "", ...rest] = [...(options.through ?? []), process.execPath, launcher, ...args];
  const child = spawn(command, rest, {
    stdio: "pipe",
    cwd: options.cwd,
    timeout: options.timeoutMs ?? 30_000,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end(options.input ?? "");
  const code = await new Promise<number>((resolve) =>
    child.once("close", (exitCode) => resolve(exitCode ?? -1)),
  );
  return { code, stdout, stderr };
}

/** Free loopback ports, different from each other. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<typeof server>((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Waits until `condition` is true; throws naming it after `timeoutMs`. */
export async function until(
  what: string,
  timeoutMs: number,
  condition: () => Promise<boolean> | boolean,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
