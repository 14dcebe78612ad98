/**
 * What a source has put so far: positions of its streams, its notes, and per stream what its file channels have.
 *
 * State table:
 *   source/<name>/position/<key>   [order, value, recordCount]  where the source goes on after a restart
 *   source/<name>/counts           [past, withheld]  records of streams that are over or do not count; not put (S1)
 *   source/<name>/have/<key>       order           what the file channels have, where memory channels take part (A3)
 *   source/<name>/note/<key>       bytes           the source's own (ledger of H2)
 *
 * All file channels: positions and notes are in the put's own entry (A1). With a required memory channel they wait for
 * its delivery; meanwhile this process goes by the copies here.
 */
import type { DataDirectory, StateChange } from "@millrace/log";
import type { FlowRecord, Offering, SourcePosition } from "../contract.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Records of a source, over all its starts (S1). */
export interface SourceCounts {
  /** What the saved positions account for. */
  readonly read: number;
  /** Of those, what was dropped by interceptors or set aside before the channels. */
  readonly withheld: number;
}

/** Books of one source. */
export class SourceBooks {
  readonly #positionPrefix: string;
  readonly #havePrefix: string;
  readonly #notePrefix: string;
  readonly #countsKey: string;
  readonly #positions = new Map<string, string>();
  /** Records given per stream. */
  readonly #recordCounts = new Map<string, number>();
  /** Records of streams that are over, and of offerings without counted positions. */
  #past = 0;
  #withheld = 0;
  readonly #notes = new Map<string, Uint8Array>();
  /** Order per stream that the file channels have; empty unless memory channels take part. */
  readonly #have = new Map<string, number>();

  constructor(directory: DataDirectory, source: string) {
    this.#positionPrefix = `source/${source}/position/`;
    this.#havePrefix = `source/${source}/have/`;
    this.#notePrefix = `source/${source}/note/`;
    this.#countsKey = `source/${source}/counts`;
    const counts = directory.getState(this.#countsKey);
    if (counts !== undefined) {
      const [past, withheld] = JSON.parse(decoder.decode(counts)) as [number, number];
      this.#past = past;
      this.#withheld = withheld;
    }
    each(directory, this.#positionPrefix, (key, bytes) => {
      const [, value, recordCount] = JSON.parse(decoder.decode(bytes)) as [number, string, number?];
      this.#positions.set(key, value);
      if (recordCount !== undefined) this.#recordCounts.set(key, recordCount);
    });
    each(directory, this.#havePrefix, (key, bytes) => this.#have.set(key, Number(decoder.decode(bytes))));
    each(directory, this.#notePrefix, (key, bytes) => this.#notes.set(key, bytes));
  }

  /** Position of every stream, as last put. */
  get positions(): ReadonlyMap<string, string> {
    return new Map(this.#positions);
  }

  /** Records read, by the positions as last put. */
  get counts(): SourceCounts {
    let read = this.#past;
    for (const recordCount of this.#recordCounts.values()) read += recordCount;
    return { read, withheld: this.#withheld };
  }

  note(key: string): Uint8Array | undefined {
    return this.#notes.get(key);
  }

  notes(prefix: string): ReadonlyMap<string, Uint8Array> {
    return new Map([...this.#notes].filter(([key]) => key.startsWith(prefix)));
  }

  /** True when the file channels have the record already: it was put before the crash that memory channels forgot. */
  isInFiles(record: FlowRecord): boolean {
    if (this.#have.size === 0 || record.sourcePosition === undefined) return false;
    const order = this.#have.get(record.sourcePosition.key);
    return order !== undefined && record.sourcePosition.order <= order;
  }

  /** State changes for the offering's positions and notes. */
  changes(offering: Offering): StateChange[] {
    const changes: StateChange[] = [];
    for (const { key, order, value, recordCount } of offering.positions ?? []) {
      const bytes = value === null ? null : encoder.encode(JSON.stringify([order, value, recordCount]));
      changes.push({ key: this.#positionPrefix + key, value: bytes });
      if (value === null && this.#have.has(key)) changes.push({ key: this.#havePrefix + key, value: null });
    }
    for (const { key, value } of offering.notes ?? []) changes.push({ key: this.#notePrefix + key, value });
    const { past, withheld } = this.#countsAfter(offering);
    if (past !== this.#past || withheld !== this.#withheld) {
      changes.push({ key: this.#countsKey, value: encoder.encode(JSON.stringify([past, withheld])) });
    }
    return changes;
  }

  /** State changes that say what the file channels have after the offering, for a fan-out with memory channels. */
  haveChanges(offering: Offering): StateChange[] {
    return (offering.positions ?? [])
      .filter((position) => position.value !== null)
      .map(({ key, order }) => ({ key: this.#havePrefix + key, value: encoder.encode(String(order)) }));
  }

  /** Takes the offering into the books: it is put. */
  put(offering: Offering, isMixed: boolean): void {
    const { past, withheld } = this.#countsAfter(offering);
    this.#past = past;
    this.#withheld = withheld;
    for (const position of offering.positions ?? []) this.#putPosition(position, isMixed);
    for (const { key, value } of offering.notes ?? []) {
      if (value === null) this.#notes.delete(key);
      else this.#notes.set(key, value);
    }
  }

  #countsAfter({ records, positions = [], withheldCount = 0 }: Offering): { past: number; withheld: number } {
    const isCounted = positions.some(({ recordCount }) => recordCount !== undefined);
    let past = this.#past + (isCounted ? 0 : records.length + withheldCount);
    for (const { key, value } of positions) if (value === null) past += this.#recordCounts.get(key) ?? 0;
    return { past, withheld: this.#withheld + withheldCount };
  }

  #putPosition({ key, order, value, recordCount }: SourcePosition, isMixed: boolean): void {
    if (recordCount !== undefined) this.#recordCounts.set(key, recordCount);
    if (value === null) {
      this.#recordCounts.delete(key);
      this.#positions.delete(key);
      this.#have.delete(key);
      return;
    }
    this.#positions.set(key, value);
    if (isMixed) this.#have.set(key, Math.max(order, this.#have.get(key) ?? order));
  }
}

function each(directory: DataDirectory, prefix: string, run: (key: string, bytes: Uint8Array) => void): void {
  for (const stateKey of directory.stateKeys(prefix)) {
    const bytes = directory.getState(stateKey);
    if (bytes !== undefined) run(stateKey.slice(prefix.length), bytes);
  }
}
