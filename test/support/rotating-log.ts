/**
 * A log writer as applications are: appends lines with every ugly byte to a file and rotates it by rename.
 * Each line begins with its file and number, so a checker knows what must come out and in which order.
 */
import { closeSync, openSync, renameSync, writeSync } from "node:fs";
import { Prng } from "@millrace/base";

const bodies: readonly ((prng: Prng) => Buffer)[] = [
  (prng) => Buffer.from(" plain text ".repeat(prng.nextInt(1, 12))),
  () => Buffer.from(" carriage return\r"),
  () => Buffer.from([32, 0, 0, 1, 2, 127, 255, 254, 0xc3, 0x28]),
  () => Buffer.alloc(0),
  () => Buffer.from(' "quotes" \\n back\\slashes, commas; {"json": [1, 2]} \t tabs'),
  (prng) => Buffer.from(` ünïcödé 漢字 🚰 ${prng.nextUint32()}`),
  (prng) => Buffer.alloc(prng.nextInt(100, 2000), 120),
];

/** Writes lines `<name>:<number>:<body>`. */
export class RotatingLog {
  readonly name: string;
  readonly path: string;
  readonly #prng: Prng;
  readonly #rotateEvery: number;
  /** Every line written, without newline, in order. */
  readonly lines: Buffer[] = [];
  #fd: number;
  #inFile = 0;
  rotations = 0;

  constructor(options: {
    readonly name: string;
    readonly path: string;
    readonly seed: number;
    readonly rotateEvery: number;
  }) {
    this.name = options.name;
    this.path = options.path;
    this.#prng = new Prng(options.seed);
    this.#rotateEvery = options.rotateEvery;
    this.#fd = openSync(this.path, "a");
  }

  /** Appends `count` lines in a few writes that do not care for line ends. */
  write(count: number): void {
    const chunks: Buffer[] = [];
    for (let i = 0; i < count; i++) {
      const line = this.#nextLine();
      this.lines.push(line);
      chunks.push(line, Buffer.from("\n"));
      if (++this.#inFile >= this.#rotateEvery) {
        this.#append(Buffer.concat(chunks.splice(0)));
        this.#rotate();
      }
    }
    this.#append(Buffer.concat(chunks));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #nextLine(): Buffer {
    const number = this.lines.length;
    if (number % 50_000 === 49_999)
      return Buffer.concat([Buffer.from(`${this.name}:${number}:`), Buffer.alloc(1024 * 1024, 76)]);
    return Buffer.concat([Buffer.from(`${this.name}:${number}:`), this.#prng.pick(bodies)(this.#prng)]);
  }

  #append(bytes: Buffer): void {
    const cut = this.#prng.nextInt(0, bytes.length);
    for (const part of [bytes.subarray(0, cut), bytes.subarray(cut)]) {
      for (let at = 0; at < part.length; ) at += writeSync(this.#fd, part, at);
    }
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.path, `${this.path}.${++this.rotations}`);
    this.#fd = openSync(this.path, "a");
    this.#inFile = 0;
  }
}
