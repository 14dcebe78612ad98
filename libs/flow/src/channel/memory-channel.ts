/**
 * The memory channel: fast and volatile. A new channel id at every start (A2), sequences from 0.
 * Records stay in memory until takers commit them, so a rollback gives them back in order. Positions of sources are
 * saved only when all takers have committed (A1): `onCommitted` tells the put transaction how far that is.
 */
import { invariant } from "@millrace/base";
import { randomId } from "@millrace/runtime";
import type { FlowRecord, SinkRecord } from "../contract.ts";
import { recordSizeBytes } from "./record-codec.ts";
import { Room } from "./room.ts";
import { TakeLedger } from "./take-ledger.ts";
import type { Channel, ChannelFigures, ChannelLimits, Checkpoint, Take } from "./types.ts";
import { WakeList } from "./wake-list.ts";

/** Delivered records at the front of the array before it is cut. */
const deadRecordsMax = 4_096;

/** A channel in memory. */
export class MemoryChannel implements Channel {
  readonly name: string;
  readonly type = "memory";
  readonly id = randomId();
  readonly durability = "volatile";
  readonly limits: ChannelLimits;
  readonly room: Room;
  readonly #ledger = new TakeLedger();
  readonly #takers = new WakeList();
  readonly #committed = new Set<(through: number) => void>();
  #checkpoint: Checkpoint | undefined;
  /** Record i has sequence `#base + i`. */
  #records: SinkRecord[] = [];
  #sizes: number[] = [];
  #base = 0;
  /** Everything below is given back to the room. */
  #releasedThrough = 0;
  #isClosed = false;

  constructor(name: string, limits: ChannelLimits) {
    this.name = name;
    this.limits = limits;
    this.room = new Room(limits.records, limits.bytes);
  }

  get position(): number {
    return this.#ledger.position;
  }

  get startSequence(): number {
    return this.#ledger.position;
  }

  get endSequence(): number {
    return this.#base + this.#records.length;
  }

  get resolvedThrough(): number {
    return this.#ledger.position;
  }

  get figures(): ChannelFigures {
    const { position, committedCount, outstandingCount } = this.#ledger;
    return {
      putCount: this.endSequence,
      depthCount: this.endSequence - position - committedCount,
      depthBytes: this.room.usedBytes,
      takenCount: outstandingCount,
    };
  }

  checkpoint(sink: string): Uint8Array | undefined {
    return this.#checkpoint?.sink === sink ? this.#checkpoint.bytes : undefined;
  }

  /** Takes records over; their room is counted already. Returns the sequence after them. */
  append(records: readonly FlowRecord[]): number {
    for (const record of records) {
      this.#sizes.push(recordSizeBytes(record));
      this.#records.push(withOffset(record, this.endSequence));
    }
    this.#takers.wake();
    return this.endSequence;
  }

  take(recordsMax: number, bytesMax: number): Promise<Take | undefined> {
    const free = this.#isClosed ? undefined : this.#ledger.nextFree(this.endSequence);
    if (free === undefined) return Promise.resolve(undefined);
    const first = free.from - this.#base;
    const last = Math.min(free.to - this.#base, first + recordsMax);
    let sizeBytes = 0;
    let index = first;
    while (index < last && (index === first || sizeBytes < bytesMax)) {
      sizeBytes += this.#sizes[index++] as number;
    }
    const take = {
      from: free.from,
      to: this.#base + index,
      records: this.#records.slice(first, index),
      sizeBytes,
    };
    this.#ledger.take(take.from, take.to);
    return Promise.resolve(take);
  }

  async whenTakable(signal: AbortSignal): Promise<void> {
    if (this.#isClosed || this.#ledger.nextFree(this.endSequence) !== undefined) return;
    await this.#takers.wait(signal);
  }

  commit(from: number, to: number, checkpoint?: Checkpoint): void {
    if (checkpoint !== undefined) this.#checkpoint = checkpoint;
    if (this.#ledger.commit(from, to)) this.#committedTo();
  }

  rollback(from: number, to: number): void {
    this.#ledger.rollback(from, to);
    this.#takers.wake();
  }

  moveTo(sequence: number): void {
    invariant(
      sequence >= this.position && sequence <= this.endSequence,
      `channel ${this.name} holds ${sequence} in memory`,
    );
    this.#ledger.moveTo(sequence);
    this.#committedTo();
  }

  /** A memory channel has nothing more durable than a commit. */
  onResolved(run: (through: number) => void): () => void {
    this.#committed.add(run);
    return () => this.#committed.delete(run);
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#takers.wake();
    return Promise.resolve();
  }

  #committedTo(): void {
    this.#release();
    for (const run of [...this.#committed]) run(this.position);
  }

  #release(): void {
    const { position } = this.#ledger;
    let bytes = 0;
    for (let sequence = this.#releasedThrough; sequence < position; sequence++) {
      bytes += this.#sizes[sequence - this.#base] as number;
    }
    const count = position - this.#releasedThrough;
    this.#releasedThrough = position;
    const dead = position - this.#base;
    if (dead > deadRecordsMax || dead === this.#records.length) {
      this.#records = this.#records.slice(dead);
      this.#sizes = this.#sizes.slice(dead);
      this.#base = position;
    }
    this.room.setUsed(this.room.usedRecords - count, this.room.usedBytes - bytes);
  }
}

function withOffset(record: FlowRecord, offset: number): SinkRecord {
  const { key, value, headers, timestampMs, streamId } = record;
  const stored = { offset, key, value, headers, timestampMs };
  return streamId === undefined ? stored : { ...stored, streamId };
}
