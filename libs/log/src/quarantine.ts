/** Stretches of a log that were flushed and are corrupt now (J4): reported, never served, stepped over. */
import { AppError } from "@millrace/base";

/** Offsets [fromOffset, toOffset) that are lost, and where their bytes stand. */
export interface LostRange {
  readonly fromOffset: number;
  readonly toOffset: number;
  readonly segmentBase: number;
  /** Position of the first bad byte, and of the next good batch (or the end of what was written) in that segment. */
  readonly position: number;
  readonly resumePosition: number;
}

/** The lost ranges of one log. */
export class Quarantine {
  #ranges: LostRange[] = [];

  get ranges(): readonly LostRange[] {
    return this.#ranges;
  }

  add(range: LostRange): void {
    if (this.#ranges.some((known) => known.fromOffset === range.fromOffset)) return;
    this.#ranges.push(range);
    this.#ranges.sort((a, b) => a.fromOffset - b.fromOffset);
  }

  find(offset: number): LostRange | undefined {
    return this.#ranges.find((range) => range.fromOffset <= offset && offset < range.toOffset);
  }

  /** The range whose bad bytes begin at a position of a segment. */
  findAt(segmentBase: number, position: number): LostRange | undefined {
    return this.#ranges.find((range) => range.segmentBase === segmentBase && range.position === position);
  }

  /** Forgets what retention or truncation removed. */
  keepWithin(startOffset: number, endOffset: number): void {
    this.#ranges = this.#ranges.filter(
      (range) => range.toOffset > startOffset && range.fromOffset < endOffset,
    );
  }
}

/** The error a reader of a lost range gets. */
export function lostError(label: string, range: LostRange): AppError {
  return new AppError(
    "RECORD_LOST_ON_DISK",
    `offsets ${range.fromOffset} to ${range.toOffset - 1} of ${label} were stored and are damaged on disk (segment ${range.segmentBase}, byte ${range.position}): restore them from a replica or go on at offset ${range.toOffset}`,
    { metadata: { fromOffset: String(range.fromOffset), nextOffset: String(range.toOffset) } },
  );
}
