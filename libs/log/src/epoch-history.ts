/**
 * Leader epochs of one log and where each began (L4, kafka.md §2): pure.
 * Invariant: epochs and start offsets both strictly ascending.
 */

/** An epoch and the offset of its first record. */
export interface EpochStart {
  readonly epoch: number;
  readonly startOffset: number;
}

/** The epochs a log has records (or a beginning) of. */
export class EpochHistory {
  #epochs: EpochStart[];

  constructor(epochs: readonly EpochStart[] = []) {
    this.#epochs = [];
    for (const { epoch, startOffset } of epochs) this.assign(epoch, startOffset);
  }

  get entries(): readonly EpochStart[] {
    return this.#epochs;
  }

  /** Latest epoch, -1 when none. */
  get latest(): number {
    return this.#epochs.at(-1)?.epoch ?? -1;
  }

  /**
   * Epoch `epoch` begins at `startOffset`. An epoch that began there or later without records gives way.
   * Returns whether anything changed; an epoch already begun or an older one changes nothing.
   */
  assign(epoch: number, startOffset: number): boolean {
    if (epoch <= this.latest) return false;
    while ((this.#epochs.at(-1)?.startOffset ?? -1) >= startOffset) this.#epochs.pop();
    this.#epochs.push({ epoch, startOffset });
    return true;
  }

  /** Forgets all of them. */
  clear(): void {
    this.#epochs = [];
  }

  /** Epoch of the record at `offset`, undefined before the first. */
  epochAt(offset: number): number | undefined {
    for (let i = this.#epochs.length - 1; i >= 0; i--) {
      const entry = this.#epochs[i] as EpochStart;
      if (entry.startOffset <= offset) return entry.epoch;
    }
    return undefined;
  }

  /** Largest epoch <= `epoch` and the offset after its last record. */
  endOfEpoch(epoch: number, logEndOffset: number): { epoch: number; endOffset: number } | undefined {
    let found: { epoch: number; endOffset: number } | undefined;
    for (let i = 0; i < this.#epochs.length; i++) {
      const entry = this.#epochs[i] as EpochStart;
      if (entry.epoch > epoch) break;
      found = { epoch: entry.epoch, endOffset: this.#epochs[i + 1]?.startOffset ?? logEndOffset };
    }
    return found;
  }

  /** Cuts epochs that begin at or after `endOffset`. Returns whether anything changed. */
  truncateFromEnd(endOffset: number): boolean {
    const before = this.#epochs.length;
    while ((this.#epochs.at(-1)?.startOffset ?? -1) >= endOffset) this.#epochs.pop();
    return this.#epochs.length !== before;
  }

  /** Forgets epochs that ended at or before `startOffset`; the one that covers it then begins there. */
  truncateFromStart(startOffset: number): boolean {
    const first = this.#epochs[0];
    if (first === undefined || first.startOffset >= startOffset) return false;
    const epoch = this.epochAt(startOffset) as number;
    const later = this.#epochs.filter((entry) => entry.startOffset > startOffset);
    this.#epochs = [{ epoch, startOffset }, ...later];
    return true;
  }
}
