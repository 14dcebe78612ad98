import { z } from "@millrace/config";
import { type ComponentContext, defineSource, type PullSource, type ReadResult } from "@millrace/flow";

const seqConfig = z.strictObject({
  batchSize: z.coerce.number().int().min(1).default(1).meta({ description: "Records in one transaction." }),
  totalEvents: z.coerce
    .number()
    .int()
    .min(0)
    .default(Number.MAX_SAFE_INTEGER)
    .meta({ description: "Records in all." }),
});

const positionKey = "next";

/** Counts from 0; the next number is its position. */
class SeqSource implements PullSource {
  readonly mode = "pull";
  readonly #config: z.output<typeof seqConfig>;
  readonly #context: ComponentContext;
  #next = 0;

  constructor(config: z.output<typeof seqConfig>, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
  }

  open(positions: ReadonlyMap<string, string>): Promise<void> {
    this.#next = Number(positions.get(positionKey) ?? 0);
    return Promise.resolve();
  }

  read(recordsMax: number): Promise<ReadResult> {
    const count = Math.min(recordsMax, this.#config.batchSize, this.#config.totalEvents - this.#next);
    const timestampMs = this.#context.clock.nowMs();
    const records = Array.from({ length: count }, (_, i) => ({
      key: null,
      value: Buffer.from(String(this.#next + i)),
      headers: [],
      timestampMs,
      sourcePosition: { key: positionKey, order: this.#next + i + 1 },
    }));
    this.#next += count;
    const positions = count === 0 ? [] : [{ key: positionKey, order: this.#next, value: String(this.#next) }];
    return Promise.resolve({ records, positions, isIdle: this.#next >= this.#config.totalEvents });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A counter, for trying things out and for tests. */
export const seqSource = defineSource({
  type: "seq",
  summary: "Counts from 0, one number a record; goes on where it was.",
  guarantee: "exactly-once",
  config: seqConfig,
  examples: [{ title: "A thousand numbers", yaml: "type: seq\ntotalEvents: 1000\nbatchSize: 100" }],
  create: (config, context) => new SeqSource(config, context),
});
