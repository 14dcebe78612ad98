/**
 * The agent sink: the sending side of the hop (rules H1, H3, H4).
 *
 *   write --> fate of each run (notes) --> parcels --> the receiver the name leads to, many in flight
 *                                                  --> answers --> contiguous prefix: `delivered`
 *                  may be at another receiver  --> pinned: that one is sought and asked what it holds
 *
 * Every failure of the connection, every restart, and every answer of a receiver that was sought, takes the same way:
 * the sink is opened again and the channel gives everything unanswered once more. The notes say which receiver may
 * have it; only what that receiver does not hold goes anywhere else. Records go to one receiver at a time.
 */
import { AppError, invariant } from "@millrace/base";
import type { Assignment, ComponentContext, Sink, SinkBatch, SinkFeedback, Standing } from "@millrace/flow";
import type { AgentSinkConfig } from "./config.ts";
import type { SenderMemory } from "./parts.ts";
import { ReceiverNotes } from "./receiver-notes.ts";
import { possibleDuplicatesSentTotal } from "./telemetry.ts";
import { Transmission } from "./transmission.ts";

/** By the component's context: the runner makes a new sink at each opening and gives all of them the same. */
const memories = new WeakMap<ComponentContext, SenderMemory>();

/** See the file's comment. */
export class AgentSink implements Sink {
  readonly #config: AgentSinkConfig;
  readonly #context: ComponentContext;
  #transmission: Transmission | undefined;

  constructor(config: AgentSinkConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
  }

  async open(assignment: Assignment, feedback: SinkFeedback): Promise<Standing> {
    if (assignment.origin.kind !== "channel") {
      throw new AppError("INVALID_CONFIG", "the agent sink delivers from an agent's channel only");
    }
    this.#transmission = new Transmission({
      config: this.#config,
      context: this.#context,
      assignment,
      origin: assignment.origin,
      feedback,
      memory: this.#memory(assignment.origin.channelId, assignment, feedback),
    });
    await this.#transmission.open();
    return { resumeFrom: undefined };
  }

  write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    invariant(this.#transmission !== undefined, "the sink is open");
    return this.#transmission.write(batch, signal);
  }

  async flush(signal: AbortSignal): Promise<void> {
    await this.#transmission?.flush(signal);
  }

  async close(): Promise<void> {
    await this.#transmission?.close();
    this.#transmission = undefined;
  }

  #memory(channelId: string, assignment: Assignment, feedback: SinkFeedback): SenderMemory {
    const known = memories.get(this.#context);
    if (known !== undefined) {
      known.notes.reopened(feedback);
      return known;
    }
    const memory: SenderMemory = {
      notes: new ReceiverNotes(channelId, feedback, { isVolatile: assignment.isVolatile ?? false }),
      missingSinceMs: new Map(),
      possibleDuplicateCount: 0,
    };
    memories.set(this.#context, memory);
    this.#context.telemetry.metrics.observe(possibleDuplicatesSentTotal, () => [
      { labels: { sink: this.#context.name }, value: memory.possibleDuplicateCount },
    ]);
    return memory;
  }
}
