/** What the parts of the agent sink share. */
import type { Assignment, ComponentContext, Origin, SinkFeedback } from "@millrace/flow";
import type { AgentSinkConfig } from "./config.ts";
import type { ReceiverNotes } from "./receiver-notes.ts";

/** What a process remembers of one sink between its openings. */
export interface SenderMemory {
  readonly notes: ReceiverNotes;
  /** Since when a receiver that records wait for has not been met, monotonic ms. */
  readonly missingSinceMs: Map<string, number>;
  /** Records sent again, marked (H4). */
  possibleDuplicateCount: number;
}

/** What one opening works with. */
export interface SenderParts {
  readonly config: AgentSinkConfig;
  readonly context: ComponentContext;
  readonly assignment: Assignment;
  readonly origin: Extract<Origin, { kind: "channel" }>;
  readonly feedback: SinkFeedback;
  readonly memory: SenderMemory;
}
