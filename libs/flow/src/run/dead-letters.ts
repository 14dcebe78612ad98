/**
 * Dead letters of one component: records that can never be delivered, set aside durably before anything after them
 * goes on (A5). One JSON object a line in `dead-letters/<component>.jsonl` of the data directory.
 *
 *   add -> line written, fsynced -> length and the caller's state changes committed durably -> resolves
 *
 * The file's length is part of the state: at the next open what is behind it (a crash between the two steps) is cut,
 * and the record, which then counts as not refused, is refused again. So a letter is there once.
 */

import { dirname, join } from "node:path";
import { invariant } from "@millrace/base";
import type { DataDirectory, StateChange } from "@millrace/log";
import type { Clock, Disk, DiskFile } from "@millrace/runtime";
import type { FlowRecord } from "../contract.ts";

/** What is set aside, and why. */
export interface DeadLetter {
  readonly record: FlowRecord;
  readonly reason: string;
  /** Where it comes from: origin, sequence. */
  readonly coordinates: Readonly<Record<string, string | number>>;
  /** State changes of the same durable step, asked for once the letter is on disk. */
  readonly changes?: () => readonly StateChange[];
}

interface Waiting {
  readonly letter: DeadLetter;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Letters written with one fsync at most. */
const lettersPerWriteMax = 256;

const formatVersion = 1;

/** The dead letters of one component. */
export class DeadLetters {
  readonly path: string;
  readonly #component: string;
  readonly #directory: DataDirectory;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #queue: Waiting[] = [];
  #file: DiskFile | undefined;
  #length = 0;
  #isWriting = false;

  constructor(options: { component: string; directory: DataDirectory; disk: Disk; clock: Clock }) {
    this.#component = options.component;
    this.#directory = options.directory;
    this.#disk = options.disk;
    this.#clock = options.clock;
    this.path = join(options.directory.path, "dead-letters", `${options.component}.jsonl`);
  }

  /** Resolves when the letter and its state changes are durable. */
  add(letter: DeadLetter): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ letter, resolve, reject });
      if (!this.#isWriting) void this.#writeAll();
    });
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  get #lengthKey(): string {
    return `dead-letters/${this.#component}`;
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    for (
      let group = this.#queue.splice(0, lettersPerWriteMax);
      group.length > 0;
      group = this.#queue.splice(0, lettersPerWriteMax)
    ) {
      try {
        await this.#write(group);
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#isWriting = false;
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const file = await this.#open();
    const text = group.map(({ letter }) => `${JSON.stringify(this.#line(letter))}\n`).join("");
    const bytes = Buffer.from(text, "utf8");
    await file.write([bytes], this.#length);
    await file.dataSync();
    const length = this.#length + bytes.byteLength;
    const changes = group.flatMap(({ letter }) => letter.changes?.() ?? []);
    const value = Buffer.from(JSON.stringify([formatVersion, length]));
    await this.#directory.commit([], [...changes, { key: this.#lengthKey, value }]).durable;
    this.#length = length;
  }

  async #open(): Promise<DiskFile> {
    if (this.#file !== undefined) return this.#file;
    await this.#disk.makeDirectory(dirname(this.path));
    const file = await this.#disk.open(this.path, "create");
    await this.#disk.syncDirectory(dirname(this.path));
    const state = this.#directory.getState(this.#lengthKey);
    const length =
      state === undefined ? 0 : Number((JSON.parse(Buffer.from(state).toString()) as number[])[1]);
    invariant(Number.isSafeInteger(length), `${this.path}: its length is in the state table`);
    // letters a user has taken out make it shorter; what follows is appended there
    const present = await file.size();
    if (present > length) await file.truncate(length);
    this.#length = Math.min(length, present);
    this.#file = file;
    return file;
  }

  #line({ record, reason, coordinates }: DeadLetter): object {
    return {
      format: formatVersion,
      time: new Date(this.#clock.nowMs()).toISOString(),
      component: this.#component,
      reason,
      ...coordinates,
      timestampMs: record.timestampMs,
      ...(record.streamId === undefined ? {} : { streamId: record.streamId }),
      key: base64(record.key),
      value: base64(record.value),
      headers: record.headers.map(({ key, value }) => ({ key, value: base64(value) })),
    };
  }
}

function base64(bytes: Uint8Array | null): string | null {
  return bytes === null
    ? null
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
