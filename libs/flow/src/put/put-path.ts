/**
 * One source's way into its channels: the put transaction.
 *
 *   offer -> room in every required channel -> prepare() -> one journal entry {batches, positions, notes} -> durable
 *                                                        -> memory channels                             -> committed
 *
 * From the check for room to the commit everything is synchronous, so what `prepare` checked still holds at the put.
 * Any number of file channels is one entry: in all of them or in none (A3). Where memory channels take part, file
 * channels skip what they have (by `sourcePosition`), and positions wait for the memory's delivery (A1). Without
 * source positions such a fan-out is at-least-once for its file channels.
 * Optional channels take what they have room for; the rest is dropped there, and counted.
 */
import { AppError, invariant } from "@millrace/base";
import type { DataDirectory } from "@millrace/log";
import type { Clock } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";
import { FileChannel } from "../channel/file-channel.ts";
import { MemoryChannel } from "../channel/memory-channel.ts";
import { encodeRecords, recordSizeBytes, recordsSizeBytes } from "../channel/record-codec.ts";
import type { Channel } from "../channel/types.ts";
import type { FlowRecord, Offering, OfferOutcome } from "../contract.ts";
import { DeferredSaves } from "./deferred-saves.ts";
import { SourceBooks } from "./source-books.ts";

/** What a put path is made of. */
export interface PutPathOptions {
  readonly source: string;
  readonly directory: DataDirectory;
  /** A put waits for room in all of these. */
  readonly required: readonly Channel[];
  /** These take what they have room for. */
  readonly optional: readonly Channel[];
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/** How long an offer waits, and for how much room. */
export interface PutOptions {
  /** Infinity: until there is room. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Room waited for before a `prepare` function runs; one record when absent. */
  readonly room?: { readonly records: number; readonly bytes: number };
}

interface Need {
  readonly records: number;
  readonly bytes: number;
}

const anyRecord: Need = { records: 1, bytes: 1 };

/** Puts records of one source. */
export class PutPath {
  readonly books: SourceBooks;
  readonly durability: "fsync" | "volatile";
  /** Longest keep-alive of the required channels, milliseconds. */
  readonly keepAliveMs: number;
  /** Largest transaction, in records, that every required channel takes. */
  readonly transactionRecordsMax: number;
  /** Largest record that every required channel takes. */
  readonly recordBytesMax: number;
  readonly #options: PutPathOptions;
  readonly #hasRequiredMemory: boolean;
  readonly #deferred: DeferredSaves;
  #putCount = 0;

  constructor(options: PutPathOptions) {
    const { required, source, directory, telemetry } = options;
    invariant(required.length > 0, `source ${source} has a channel`);
    this.#options = options;
    this.books = new SourceBooks(directory, source);
    const memory = required.filter((channel) => channel instanceof MemoryChannel);
    this.#hasRequiredMemory = memory.length > 0;
    this.durability = this.#hasRequiredMemory ? "volatile" : "fsync";
    this.keepAliveMs = Math.max(...required.map((channel) => channel.limits.keepAliveMs));
    this.transactionRecordsMax = Math.min(...required.map((channel) => channel.limits.transactionRecords));
    this.recordBytesMax = Math.min(...required.map((channel) => channel.limits.recordBytes));
    this.#deferred = new DeferredSaves(directory, memory, telemetry);
  }

  /** Records put into the required channels since the start. */
  get putCount(): number {
    return this.#putCount;
  }

  /** True: an offer of one record would not wait. */
  get hasRoom(): boolean {
    return this.#blocking(anyRecord, undefined) === undefined;
  }

  /** Resolves when there is room, or when `signal` aborts. */
  async whenRoom(signal: AbortSignal): Promise<void> {
    if (this.hasRoom || signal.aborted) return;
    const options = { waitMs: Number.POSITIVE_INFINITY, signal };
    await this.#admitted(anyRecord, options, () => "full").catch(() => undefined);
  }

  /** See `Intake.offer`. Throws RECORD_TOO_LARGE and LIMIT_EXCEEDED for what can never be put, CANCELLED when aborted. */
  async offer(prepare: Offering | (() => Offering | undefined), options: PutOptions): Promise<OfferOutcome> {
    for (
      let writable = this.#options.directory.whenWritable();
      writable !== undefined;
      writable = this.#options.directory.whenWritable()
    ) {
      await writable;
    }
    const isFunction = typeof prepare === "function";
    const need = isFunction ? (options.room ?? anyRecord) : this.#needOf(prepare.records);
    const put = (): OfferOutcome | Promise<OfferOutcome> => {
      const offering = isFunction ? prepare() : prepare;
      if (offering === undefined) return "committed";
      if (isFunction) this.#needOf(offering.records);
      return this.#put(offering);
    };
    if (need.records === 0 || this.#blocking(need, undefined) === undefined) return put();
    return this.#admitted(need, options, put);
  }

  close(): void {
    this.#deferred.close();
  }

  /** What a put of these records needs; throws when no channel could ever take them. */
  #needOf(records: readonly FlowRecord[]): Need {
    if (records.length > this.transactionRecordsMax) {
      throw new AppError(
        "LIMIT_EXCEEDED",
        `source ${this.#options.source}: ${records.length} records in one transaction, its channels take ${this.transactionRecordsMax}: send fewer at once or raise transactionCapacity`,
      );
    }
    let bytes = 0;
    for (const record of records) {
      const size = recordSizeBytes(record);
      bytes += size;
      if (size > this.recordBytesMax) {
        throw new AppError(
          "RECORD_TOO_LARGE",
          `source ${this.#options.source}: a record of ${size} bytes, its channels take ${this.recordBytesMax}`,
        );
      }
    }
    return { records: records.length, bytes };
  }

  /** The first required channel without room; `called` is the one whose line it stood at the head of. */
  #blocking(need: Need, called: Channel | undefined): Channel | undefined {
    return this.#options.required.find((channel) =>
      channel === called
        ? !channel.room.fits(need.records, need.bytes)
        : !channel.room.admits(need.records, need.bytes),
    );
  }

  /** Runs `put`, synchronously, as soon as all required channels have room; "full" when that takes too long. */
  #admitted(
    need: Need,
    { waitMs, signal }: PutOptions,
    put: () => OfferOutcome | Promise<OfferOutcome>,
  ): Promise<OfferOutcome> {
    if (signal.aborted) return Promise.reject(cancelled());
    if (waitMs <= 0) return Promise.resolve("full");
    return new Promise((resolve, reject) => {
      let leaveLine = (): void => {};
      const timer = Number.isFinite(waitMs)
        ? this.#options.clock.after(waitMs, () => end(() => resolve("full")))
        : undefined;
      const onAbort = (): void => end(() => reject(cancelled()));
      const end = (settle: () => void): void => {
        timer?.cancel();
        signal.removeEventListener("abort", onAbort);
        leaveLine();
        settle();
      };
      const attempt = (called: Channel | undefined): void => {
        const blocking = this.#blocking(need, called);
        if (blocking !== undefined) {
          leaveLine = blocking.room.wait({ ...need, run: () => attempt(blocking) });
          return;
        }
        try {
          const outcome = put();
          end(() => resolve(outcome));
        } catch (error) {
          end(() => reject(AppError.from(error)));
        }
      };
      signal.addEventListener("abort", onAbort, { once: true });
      attempt(undefined);
    });
  }

  #put(offering: Offering): OfferOutcome | Promise<OfferOutcome> {
    const { directory } = this.#options;
    const count = offering.records.length;
    const channels = this.#channelsFor(offering.records);
    const files = channels.filter((channel) => channel instanceof FileChannel);
    const memories = channels.filter((channel) => channel instanceof MemoryChannel);
    const isMixed = this.#hasRequiredMemory && files.length > 0;
    const changes = this.books.changes(offering);
    let durable: Promise<void> | undefined;
    try {
      durable = this.#commitToFiles(files, offering, isMixed ? this.books.haveChanges(offering) : changes);
    } catch (error) {
      // the disk is full: nothing was put, the sender waits as for a full channel
      if (error instanceof AppError && error.reason === "DISK_FULL") return "full";
      throw error;
    }
    this.books.put(offering, isMixed);
    this.#putCount += count;
    const bytes = memories.length > 0 ? recordsSizeBytes(offering.records) : 0;
    for (const channel of memories) channel.room.add(count, bytes);
    const toMemories = (): OfferOutcome => {
      const targets = memories.map((channel) => ({ channel, through: channel.append(offering.records) }));
      if (this.#hasRequiredMemory) {
        this.#deferred.add(
          targets.filter(({ channel }) => this.#options.required.includes(channel)),
          changes,
        );
      }
      return "committed";
    };
    invariant(directory.failure === undefined, "a put into an offline directory throws");
    return durable === undefined ? toMemories() : durable.then(toMemories);
  }

  /** The required channels, and the optional ones that have room. Drops at the others are counted. */
  #channelsFor(records: readonly FlowRecord[]): readonly Channel[] {
    const { required, optional, telemetry } = this.#options;
    if (optional.length === 0 || records.length === 0) return required;
    const bytes = recordsSizeBytes(records);
    const taking = optional.filter((channel) => {
      const { limits, room } = channel;
      const isTaken = records.length <= limits.transactionRecords && room.admits(records.length, bytes);
      if (!isTaken) telemetry.discarded(channel.name, "optional_channel_full", records.length);
      return isTaken;
    });
    return [...required, ...taking];
  }

  /** One entry for all file channels. Undefined: nobody has to wait for it. */
  #commitToFiles(
    files: readonly FileChannel[],
    offering: Offering,
    changes: ReturnType<SourceBooks["changes"]>,
  ): Promise<void> | undefined {
    const { directory } = this.#options;
    const records = files.length === 0 ? [] : this.#newToFiles(offering.records);
    if (files.length === 0 && this.#hasRequiredMemory) return undefined;
    if (records.length === 0) {
      if (changes.length === 0) return undefined;
      // positions alone may be lost: the same records are read and dropped again; notes may not
      const isLazy = (offering.notes ?? []).length === 0;
      const { durable } = directory.commit([], changes, { lazy: isLazy });
      if (!isLazy) return durable;
      durable.catch(() => undefined);
      return undefined;
    }
    const batches = encodeRecords(records, Math.min(...files.map((file) => file.batchBytesTarget)));
    const logs = files.map((file) => file.log);
    const counts = files.flatMap((file) => file.putState());
    const { durable } = directory.commit(
      batches.map((batch) => ({ logs, batch, leaderEpoch: 0 })),
      counts.length === 0 ? changes : [...changes, ...counts],
    );
    let bytes = 0;
    for (const batch of batches) bytes += batch.byteLength;
    for (const file of files) file.booked(records.length, bytes);
    return durable;
  }

  /** Without what the file channels have already (A3). */
  #newToFiles(records: readonly FlowRecord[]): readonly FlowRecord[] {
    if (!this.#hasRequiredMemory) return records;
    return records.filter((record) => !this.books.isInFiles(record));
  }
}

function cancelled(): AppError {
  return new AppError("CANCELLED", "stopped while waiting for room in a channel");
}
