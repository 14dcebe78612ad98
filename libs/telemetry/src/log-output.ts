/**
 * Where log lines go: standard output or a file of bounded size.
 *
 * Lines are written at once and whole: what was logged before a crash is there after it. A line that cannot be written
 * (disk full) is counted and left out; logging never stops the data path. Files are shared in a process: several
 * services that name one file write to one descriptor.
 */
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { errorCode } from "@millrace/runtime";

/** Size at which a log file is renamed to `<file>.1` (replacing the one before) and started anew. */
export const logFileBytesMax = 64 * 1024 * 1024;

/** Takes finished lines. */
export interface LogOutput {
  write(line: string): void;
  close(): void;
  /** Lines that could not be written. */
  readonly lostLines: number;
}

// JSON escapes only what is below 0x20. C1 controls drive terminals as well, and U+2028/9 break lines in viewers.
const unescaped = /[\u007f-\u009f\u2028\u2029]/g;

function escapeControls(line: string): string {
  return line.replace(unescaped, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Writes all of it; a pipe whose reader is slow answers EAGAIN, which is waited for a bounded time. */
function writeAll(descriptor: number, line: string): void {
  const bytes = Buffer.from(line);
  let at = 0;
  for (let waits = 0; at < bytes.length; ) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      if (errorCode(error) !== "EAGAIN" || ++waits > stalledWaitsMax) throw error;
      Atomics.wait(sleeper, 0, 0, 1);
    }
  }
}

/** Milliseconds (and tries) a stalled standard output may hold the process up before the line is left out. */
const stalledWaitsMax = 100;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Lines on standard output. */
export class StandardOutput implements LogOutput {
  lostLines = 0;

  write(line: string): void {
    try {
      writeAll(1, escapeControls(line));
    } catch {
      this.lostLines++;
    }
  }

  close(): void {}
}

/** No lines at all. */
export const silentOutput: LogOutput = { write: () => undefined, close: () => undefined, lostLines: 0 };

class LogFile {
  readonly path: string;
  users = 0;
  readonly #bytesMax: number;
  #descriptor: number;
  #bytes: number;

  constructor(path: string, bytesMax: number) {
    this.path = path;
    this.#bytesMax = bytesMax;
    makeFolders(dirname(path));
    this.#descriptor = openSync(path, "a", 0o600);
    this.#bytes = fstatSync(this.#descriptor).size;
  }

  write(line: string): void {
    const text = escapeControls(line);
    if (this.#bytes > 0 && this.#bytes + text.length > this.#bytesMax) this.#roll();
    writeAll(this.#descriptor, text);
    this.#bytes += Buffer.byteLength(text);
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #roll(): void {
    renameSync(this.path, `${this.path}.1`);
    const next = openSync(this.path, "a", 0o600);
    closeSync(this.#descriptor);
    this.#descriptor = next;
    this.#bytes = 0;
  }
}

/** Not `recursive: true`: that never returns where a folder exists but takes no names (/proc). */
function makeFolders(path: string): void {
  if (existsSync(path)) return;
  makeFolders(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
  }
}

const openFiles = new Map<string, LogFile>();

/** Lines appended to `path`, made with its folders when absent. Throws the system error when it cannot be opened. */
export function openLogFile(path: string, bytesMax: number = logFileBytesMax): LogOutput {
  const key = resolve(path);
  const file = openFiles.get(key) ?? new LogFile(key, bytesMax);
  openFiles.set(key, file);
  file.users++;
  let isOpen = true;
  let lostLines = 0;
  return {
    get lostLines() {
      return lostLines;
    },
    write(line) {
      if (!isOpen) return;
      try {
        file.write(line);
      } catch {
        lostLines++;
      }
    },
    close() {
      if (!isOpen) return;
      isOpen = false;
      file.users--;
      if (file.users > 0) return;
      openFiles.delete(key);
      file.close();
    },
  };
}
