/** Watches the sessions: opens one per registration, and fences the nodes whose session ended. */
import type { Clock, Timer } from "@millrace/runtime";
import type { ActiveController, CommittedChange } from "./active-controller.ts";
import type { Sessions } from "./sessions.ts";

/** Runs until stopped. */
export class LivenessLoop {
  readonly #controller: ActiveController;
  readonly #sessions: Sessions;
  readonly #clock: Clock;
  /** This process needs no heartbeat from itself. */
  readonly #ownNodeId: string;
  #timer: Timer | undefined;
  #isStopped = false;
  #fencing: Promise<unknown> = Promise.resolve();

  constructor(controller: ActiveController, sessions: Sessions, clock: Clock, ownNodeId: string) {
    this.#controller = controller;
    this.#sessions = sessions;
    this.#clock = clock;
    this.#ownNodeId = ownNodeId;
    // A new controller gives every node a full session (design §4).
    for (const node of controller.image.nodes.values()) {
      if (node.state !== "fenced") this.#open(node.nodeId, node.nodeEpoch);
    }
    controller.onChange((change) => this.#follow(change));
    this.#tickLater();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.#fencing;
  }

  #open(nodeId: string, nodeEpoch: number): void {
    if (nodeId !== this.#ownNodeId) this.#sessions.open(nodeId, nodeEpoch);
  }

  #follow({ records }: CommittedChange): void {
    for (const record of records) {
      if (record.kind === "nodeRegistered") this.#open(record.nodeId, record.nodeEpoch);
      if (record.kind === "nodeFenced" || record.kind === "nodeRemoved") this.#sessions.close(record.nodeId);
    }
  }

  #tickLater(): void {
    if (this.#isStopped) return;
    this.#timer = this.#clock.after(this.#sessions.tickMs, () => {
      this.#fencing = this.#fence();
      this.#tickLater();
    });
  }

  /** Fences what has expired. What could not be committed gets a new session, and is tried again when that ends. */
  async #fence(): Promise<void> {
    const expired = this.#sessions.expire();
    const outcomes = await Promise.allSettled(
      expired.map((session) => this.#controller.submit({ kind: "nodeTimedOut", ...session })),
    );
    outcomes.forEach((outcome, index) => {
      const session = expired[index];
      if (outcome.status === "rejected" && session !== undefined && !this.#isStopped) {
        this.#open(session.nodeId, session.nodeEpoch);
      }
    });
  }
}
