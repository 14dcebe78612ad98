/** Whether a process can do its work, part by part, with the reason where it cannot: what `/readyz` answers. */

/** State of one part. */
export interface PartState {
  readonly ready: boolean;
  /** Why not, in words an operator can act on. */
  readonly reason?: string;
}

/** State of the whole at one moment. */
export interface ReadinessSnapshot {
  readonly ready: boolean;
  readonly parts: readonly ({ readonly name: string } & PartState)[];
}

/** The parts of one telemetry root. Ready when all parts are and there is at least one. */
export class Readiness {
  readonly #parts = new Map<string, PartState>();

  /** Sets a part's state; the last call counts. */
  set(name: string, state: PartState): void {
    this.#parts.set(name, state);
  }

  /** Forgets a part that was stopped on purpose. */
  remove(name: string): void {
    this.#parts.delete(name);
  }

  /** All parts, in the order they first appeared. */
  snapshot(): ReadinessSnapshot {
    const parts = [...this.#parts].map(([name, state]) => ({ name, ...state }));
    // Nothing said yet means still starting.
    return { ready: parts.length > 0 && parts.every((part) => part.ready), parts };
  }
}
