/**
 * Sessions of registered nodes: who has been heard of within the session time, by the monotonic clock.
 *
 * A process that was itself paused has not heard of anybody: when a tick comes late, every session is extended by the
 * lateness (design §4). A new controller gives every node a full session.
 */
import type { Clock } from "@millrace/runtime";

/** A session that ended. */
export interface ExpiredSession {
  readonly nodeId: string;
  readonly nodeEpoch: number;
}

interface Session {
  readonly nodeEpoch: number;
  deadlineMs: number;
}

/** See the module's comment. Times in milliseconds. */
export class Sessions {
  readonly timeoutMs: number;
  /** Ticks come this often when the process is not paused. */
  readonly tickMs: number;
  readonly #clock: Clock;
  readonly #sessions = new Map<string, Session>();
  #lastTickMs: number;

  constructor(options: { clock: Clock; timeoutMs: number; tickMs: number }) {
    this.#clock = options.clock;
    this.timeoutMs = options.timeoutMs;
    this.tickMs = options.tickMs;
    this.#lastTickMs = options.clock.monotonicMs();
  }

  /** Begins a registration's session; replaces one of an older registration. */
  open(nodeId: string, nodeEpoch: number): void {
    this.#sessions.set(nodeId, { nodeEpoch, deadlineMs: this.#clock.monotonicMs() + this.timeoutMs });
  }

  /** A sign of life. */
  touch(nodeId: string, nodeEpoch: number): void {
    const session = this.#sessions.get(nodeId);
    if (session?.nodeEpoch === nodeEpoch) session.deadlineMs = this.#clock.monotonicMs() + this.timeoutMs;
  }

  /** Ends a session; nothing expires later. */
  close(nodeId: string): void {
    this.#sessions.delete(nodeId);
  }

  /** Sessions that have ended by now; they are closed. To be called every `tickMs`. */
  expire(): ExpiredSession[] {
    const nowMs = this.#clock.monotonicMs();
    const pausedMs = nowMs - this.#lastTickMs - this.tickMs;
    this.#lastTickMs = nowMs;
    const expired: ExpiredSession[] = [];
    for (const [nodeId, session] of this.#sessions) {
      // Up to one tick of lateness is a busy loop, more is a pause.
      if (pausedMs > this.tickMs) session.deadlineMs += pausedMs;
      if (session.deadlineMs > nowMs) continue;
      expired.push({ nodeId, nodeEpoch: session.nodeEpoch });
    }
    for (const { nodeId } of expired) this.#sessions.delete(nodeId);
    return expired;
  }
}
