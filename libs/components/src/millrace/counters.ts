/**
 * How many records each partition has been sent, as of a channel sequence (rule A4), pure.
 *
 * `route` notes what was routed where, in order of sequences; `advance` moves the take position up and folds what
 * is below into the counters that are stored with it. A partition's producer sequence is the number of records
 * routed to it before, in all generations of the topic id.
 */
import { invariant } from "@millrace/base";

interface Run {
  readonly from: number;
  to: number;
  /** `topicId-partition`; null: refused for good, no sequence used. */
  readonly partition: string | null;
}

/** The counters at the take position, as stored with it. */
export interface CounterCheckpoint {
  readonly v: 1;
  readonly counts: { readonly [partition: string]: number };
}

/** Name of a partition in the counters. */
export function counterKey(topicId: string, partition: number): string {
  return `${topicId}-${partition}`;
}

/** The counters of one channel's sink. */
export class SequenceCounters {
  /** Counts at the take position. */
  readonly #settled: Map<string, number>;
  /** Counts at the head: what the next record's sequence is. */
  readonly #head: Map<string, number>;
  #runs: Run[] = [];
  #takePosition: number;

  constructor(takePosition: number, checkpoint: CounterCheckpoint | undefined) {
    this.#takePosition = takePosition;
    this.#settled = new Map(Object.entries(checkpoint?.counts ?? {}));
    this.#head = new Map(this.#settled);
  }

  get takePosition(): number {
    return this.#takePosition;
  }

  /** Notes that the record at `sequence` goes to `partition`; returns its producer sequence there (int64). */
  route(sequence: number, partition: string): number {
    const position = this.#head.get(partition) ?? 0;
    this.#head.set(partition, position + 1);
    this.#note(sequence, partition);
    return position;
  }

  /** Notes that the record at `sequence` was refused for good: it uses no producer sequence. */
  skip(sequence: number): void {
    this.#note(sequence, null);
  }

  /** Producer sequence the next record routed to `partition` would get. */
  nextOf(partition: string): number {
    return this.#head.get(partition) ?? 0;
  }

  /** Moves the take position; everything below is delivered. Returns the counters to store with it. */
  advance(through: number): CounterCheckpoint {
    invariant(through >= this.#takePosition, "the take position never goes back");
    let done = 0;
    for (const run of this.#runs) {
      if (run.from >= through) break;
      const end = Math.min(run.to, through);
      const from = Math.max(run.from, this.#takePosition);
      if (run.partition !== null)
        this.#settled.set(run.partition, (this.#settled.get(run.partition) ?? 0) + end - from);
      if (run.to > through) break;
      done++;
    }
    if (done > 0) this.#runs = this.#runs.slice(done);
    this.#takePosition = through;
    return { v: 1, counts: Object.fromEntries(this.#settled) };
  }

  #note(sequence: number, partition: string | null): void {
    const last = this.#runs.at(-1);
    invariant(sequence >= (last?.to ?? this.#takePosition), "sequences are routed in order");
    if (last?.to === sequence && last.partition === partition) last.to++;
    else this.#runs.push({ from: sequence, to: sequence + 1, partition });
  }
}
