/**
 * Rule S2 carried out: retention never passes what the connector has published, and the sources wait before topic data
 * and channel grow over their limit.
 */

import { AppError } from "@millrace/base";
import type { Clock } from "@millrace/runtime";
import { type HoldLimits, mustHold, mustTrim } from "./hold.ts";
import type { Reader, Reading } from "./reader.ts";
import type { Services } from "./services.ts";

/** Time between two looks, milliseconds. In it the sources read less than the margin of the hold. */
const intervalMs = 200;

/** Watches the sizes until it is stopped. */
export class Keeper {
  readonly #services: Services;
  readonly #limits: HoldLimits;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #isHeld = false;
  #trimming: Promise<void> | undefined;

  /** Holds at once: what is there from the last start must not go before its task says where it stands. */
  constructor(services: Services, reader: Reader, limits: HoldLimits, clock: Clock) {
    this.#services = services;
    this.#limits = limits;
    this.#loop = this.#run(reader, clock);
  }

  /** True while the sources wait. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Ends; retention stays held where it was. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#trimming;
  }

  async #trim(): Promise<void> {
    const { storage } = this.#services;
    try {
      await storage.applyRetention();
    } catch (thrown) {
      const error = AppError.from(thrown);
      storage.telemetry.log.warn({ error }, "Retention failed; it is tried again.");
    }
    this.#trimming = undefined;
  }

  async #run(reader: Reader, clock: Clock): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#look(reader.read());
      await clock.sleep(intervalMs, signal);
    }
  }

  #look({ published, sizes }: Reading): void {
    const { storage, agent } = this.#services;
    for (const { topicId, partition, offset } of published) storage.holdRetention(topicId, partition, offset);
    // Retention looks by itself about once a minute: at full speed that is more than the limit.
    if (mustTrim(sizes, this.#limits)) this.#trimming ??= this.#trim();
    const isHeld = mustHold(sizes, this.#limits, this.#isHeld);
    if (isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    if (isHeld) agent.pause();
    else agent.resume();
  }
}
