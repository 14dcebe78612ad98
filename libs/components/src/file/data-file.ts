/**
 * A data file being written: lines are gathered in one buffer while the disk takes the other, so that a batch costs
 * no system call of its own. Nothing of it counts before `finish`, and after an error it is thrown away.
 */
import { crc32c } from "@millrace/record";
import type { Disk, DiskFile } from "@millrace/runtime";
import { namedDiskError } from "./disk-error.ts";
import type { LineFormat } from "./line-format.ts";

/** Size of the buffers; a longer line gets one of its own. */
export const bufferBytes = 256 * 1024;

/** Size of a file's first buffer: with a trickle into many partitions most files never need more. */
const firstBufferBytes = 16 * 1024;

/** Buffers kept for the next file, over all sinks. */
const freeBuffersMax = 8;

const freeBuffers: Uint8Array[] = [];

/** A buffer of at least `bytes`. */
function takeBuffer(bytes: number): Uint8Array {
  if (bytes > bufferBytes) return Buffer.allocUnsafeSlow(bytes);
  return freeBuffers.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
}

function giveBuffer(buffer: Uint8Array): void {
  if (buffer.length === bufferBytes && freeBuffers.length < freeBuffersMax) freeBuffers.push(buffer);
}

/** One file that takes lines until it is finished or abandoned. */
export class DataFile {
  readonly #file: DiskFile;
  #buffer: Uint8Array = Buffer.allocUnsafeSlow(firstBufferBytes);
  #filled = 0;
  #written = 0;
  #crc = 0;
  #writing: Promise<void> = Promise.resolve();
  #failure: unknown;

  private constructor(file: DiskFile) {
    this.#file = file;
  }

  /** Creates the file, which must not exist. */
  static async create(disk: Disk, path: string): Promise<DataFile> {
    try {
      return new DataFile(await disk.open(path, "createNew"));
    } catch (error) {
      throw namedDiskError(error, path);
    }
  }

  /** Bytes put so far. */
  get bytes(): number {
    return this.#written + this.#filled;
  }

  /** CRC-32C of everything; valid after {@link finish}. */
  get crc32c(): number {
    return this.#crc;
  }

  /** Room in the present buffer. A line longer than it needs {@link makeRoom} first. */
  get room(): number {
    return this.#buffer.length - this.#filled;
  }

  /** Puts the prepared line; there must be room for it. */
  put(format: LineFormat): void {
    this.#filled = format.put(this.#buffer, this.#filled);
  }

  /** Hands the full buffer to the disk and goes on in one with room for `bytes`. Throws what an earlier write threw. */
  async makeRoom(bytes: number): Promise<void> {
    await this.#writing;
    this.#throwFailure();
    const full = this.#buffer;
    const chunk = full.subarray(0, this.#filled);
    const position = this.#written;
    this.#buffer = takeBuffer(bytes);
    this.#filled = 0;
    this.#written += chunk.length;
    this.#writing = this.#file.write([chunk], position).then(
      () => giveBuffer(full),
      (error: unknown) => void (this.#failure = error),
    );
    // The disk works in another thread meanwhile.
    this.#crc = crc32c(chunk, this.#crc);
  }

  /** Everything on disk and durable, the file closed. */
  async finish(): Promise<void> {
    try {
      await this.makeRoom(0);
      await this.#writing;
      this.#throwFailure();
      await this.#file.dataSync();
    } catch (error) {
      throw namedDiskError(error, this.#file.path);
    } finally {
      await this.abandon();
    }
  }

  /** Closes the file as it is. */
  async abandon(): Promise<void> {
    await this.#writing;
    giveBuffer(this.#buffer);
    // Another file may have it now.
    this.#buffer = new Uint8Array(0);
    await this.#file.close();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw namedDiskError(this.#failure, this.#file.path);
  }
}
