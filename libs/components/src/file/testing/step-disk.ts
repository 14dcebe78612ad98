/** A disk whose every operation is a numbered step at which its user can be paused or killed. */
import type { Disk, DiskFile, FileStat, OpenMode } from "@millrace/runtime";

/** What happens at the chosen step: `pause` waits for {@link StepDisk.release}; `kill` refuses it and all later ones. */
export type StepAction = "pause" | "kill";

/** Counts operations and stops their user before the chosen one. */
export class StepDisk implements Disk {
  readonly #disk: Disk;
  readonly #stopAt: number;
  readonly #action: StepAction;
  /** Names of the operations so far, in order. */
  readonly steps: string[] = [];
  #release: () => void = () => undefined;
  readonly #released: Promise<void>;
  /** Resolves when the chosen step is reached. */
  readonly reached: Promise<void>;
  #reach: () => void = () => undefined;

  constructor(disk: Disk, stopAt = Number.POSITIVE_INFINITY, action: StepAction = "pause") {
    this.#disk = disk;
    this.#stopAt = stopAt;
    this.#action = action;
    this.#released = new Promise((resolve) => (this.#release = resolve));
    this.reached = new Promise((resolve) => (this.#reach = resolve));
  }

  /** Lets the paused user go on. */
  release(): void {
    this.#release();
  }

  async step<T>(name: string, run: () => Promise<T>): Promise<T> {
    this.steps.push(name);
    const number = this.steps.length;
    if (number >= this.#stopAt) {
      this.#reach();
      if (this.#action === "kill") throw new Error(`killed at step ${number} (${name})`);
      if (number === this.#stopAt) await this.#released;
    }
    return run();
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    return new StepFile(this, await this.step(`open:${mode}`, () => this.#disk.open(path, mode)));
  }

  stat(path: string): Promise<FileStat | undefined> {
    return this.step("stat", () => this.#disk.stat(path));
  }

  list(path: string): Promise<string[]> {
    return this.step("list", () => this.#disk.list(path));
  }

  makeDirectory(path: string): Promise<void> {
    return this.step("makeDirectory", () => this.#disk.makeDirectory(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.step("rename", () => this.#disk.rename(from, to));
  }

  link(from: string, to: string): Promise<void> {
    return this.step("link", () => this.#disk.link(from, to));
  }

  removeFile(path: string): Promise<void> {
    return this.step("removeFile", () => this.#disk.removeFile(path));
  }

  removeTree(path: string): Promise<void> {
    return this.step("removeTree", () => this.#disk.removeTree(path));
  }

  syncDirectory(path: string): Promise<void> {
    return this.step("syncDirectory", () => this.#disk.syncDirectory(path));
  }

  freeBytes(path: string): Promise<number> {
    return this.step("freeBytes", () => this.#disk.freeBytes(path));
  }
}

class StepFile implements DiskFile {
  readonly path: string;
  readonly #disk: StepDisk;
  readonly #file: DiskFile;

  constructor(disk: StepDisk, file: DiskFile) {
    this.path = file.path;
    this.#disk = disk;
    this.#file = file;
  }

  read(target: Uint8Array, targetOffset: number, length: number, position: number): Promise<number> {
    return this.#disk.step("read", () => this.#file.read(target, targetOffset, length, position));
  }

  write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    return this.#disk.step("write", () => this.#file.write(chunks, position));
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#disk.step("truncate", () => this.#file.truncate(sizeBytes));
  }

  dataSync(): Promise<void> {
    return this.#disk.step("dataSync", () => this.#file.dataSync());
  }

  size(): Promise<number> {
    return this.#file.size();
  }

  /** Not a step: a killed process's files are closed for it. */
  close(): Promise<void> {
    return this.#file.close();
  }
}
