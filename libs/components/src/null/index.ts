import { z } from "@millrace/config";
import { defineSink, type Sink, type SinkBatch, type SinkFeedback, type Standing } from "@millrace/flow";

/** Takes everything and keeps nothing. */
class NullSink implements Sink {
  #feedback: SinkFeedback | undefined;

  open(_assignment: unknown, feedback: SinkFeedback): Promise<Standing> {
    this.#feedback = feedback;
    return Promise.resolve({ resumeFrom: undefined });
  }

  write(batch: SinkBatch): Promise<void> {
    this.#feedback?.delivered(batch.to);
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Throws records away, on purpose. */
export const nullSink = defineSink({
  type: "null",
  summary: "Takes every record and throws it away.",
  guarantee: "at-least-once",
  hasStanding: false,
  canShare: true,
  config: z.strictObject({
    batchSize: z.coerce
      .number()
      .int()
      .min(1)
      .default(1000)
      .meta({ description: "Records in one transaction." }),
  }),
  create: () => new NullSink(),
});
