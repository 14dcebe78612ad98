import { z } from "@millrace/config";
import {
  type ComponentContext,
  defineSink,
  type Sink,
  type SinkBatch,
  type SinkFeedback,
  type SinkRecord,
  type Standing,
} from "@millrace/flow";

const loggerConfig = z.strictObject({
  maxBytesToLog: z.coerce
    .number()
    .int()
    .min(0)
    .default(16)
    .meta({ description: "Bytes of each record shown." }),
  batchSize: z.coerce.number().int().min(1).default(100).meta({ description: "Records in one transaction." }),
});

/** Writes records to the process log. */
class LoggerSink implements Sink {
  readonly #config: z.output<typeof loggerConfig>;
  readonly #context: ComponentContext;
  #feedback: SinkFeedback | undefined;

  constructor(config: z.output<typeof loggerConfig>, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
  }

  open(_assignment: unknown, feedback: SinkFeedback): Promise<Standing> {
    this.#feedback = feedback;
    return Promise.resolve({ resumeFrom: undefined });
  }

  write(batch: SinkBatch): Promise<void> {
    for (const record of batch.records) this.#context.telemetry.log.info(this.#describe(record), "Record.");
    this.#feedback?.delivered(batch.to);
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #describe(record: SinkRecord): Record<string, string | number | readonly string[]> {
    const shown = Buffer.from((record.value ?? new Uint8Array()).subarray(0, this.#config.maxBytesToLog));
    return {
      sink: this.#context.name,
      offset: record.offset,
      headers: record.headers.map(({ key, value }) => `${key}=${Buffer.from(value ?? []).toString()}`),
      body: shown.toString(),
      bodyHex: shown.toString("hex"),
      bodyBytes: record.value?.byteLength ?? 0,
    };
  }
}

/** Shows records in the process log: for looking, not for keeping. */
export const loggerSink = defineSink({
  type: "logger",
  summary: "Writes the beginning of each record to the process log.",
  guarantee: "at-least-once",
  hasStanding: false,
  canShare: true,
  config: loggerConfig,
  create: (config, context) => new LoggerSink(config, context),
});
