/** Puts the parts of large changes together again: a change takes effect with its last part (design §4). */
import type { MetadataRecord } from "@millrace/controller";
import type { LoggedBatch, LogPosition } from "./types.ts";

/** A whole change and the position of its last part. */
export interface LoggedChange {
  readonly changeId: string;
  readonly position: LogPosition;
  readonly records: readonly MetadataRecord[];
}

/** Fed with every batch in order, gives back whole changes. */
export class ChangeAssembler {
  #changeId = "";
  #parts: LoggedBatch[] = [];

  /** The change that `batch` completes; undefined while parts are missing. A foreign batch voids an open change. */
  add(batch: LoggedBatch): LoggedChange | undefined {
    const continues = batch.changeId === this.#changeId && batch.part === this.#parts.length;
    if (!continues) {
      this.#changeId = batch.changeId;
      this.#parts = [];
      // The first parts of this change were voided, so it is void too.
      if (batch.part !== 0) return undefined;
    }
    this.#parts.push(batch);
    if (this.#parts.length < batch.partCount) return undefined;
    const records = this.#parts.flatMap((part) => part.records);
    this.#parts = [];
    this.#changeId = "";
    return { changeId: batch.changeId, position: batch.position, records };
  }
}
