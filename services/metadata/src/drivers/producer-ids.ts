/** Anonymous producer ids from blocks: one append per block, not per producer. Unused ids of a block are given up (P1). */
import { invariant } from "@millrace/base";
import type { ActiveController } from "./active-controller.ts";

/** Ids allocated at a time. */
const blockCount = 1_000;

/** See the module's comment. */
export class ProducerIds {
  readonly #controller: ActiveController;
  #next = 0;
  #end = 0;
  #allocating: Promise<void> | undefined;

  constructor(controller: ActiveController) {
    this.#controller = controller;
  }

  /** An id that was never given out. */
  async take(): Promise<number> {
    while (this.#next === this.#end) {
      this.#allocating ??= this.#allocate().finally(() => {
        this.#allocating = undefined;
      });
      await this.#allocating;
    }
    return this.#next++;
  }

  async #allocate(): Promise<void> {
    const { records } = await this.#controller.submit({ kind: "allocateProducerIds", count: blockCount });
    const block = records.find((record) => record.kind === "producerIdsAllocated");
    invariant(block !== undefined, "an allocation is a record");
    this.#end = block.nextId;
    this.#next = block.nextId - blockCount;
  }
}
