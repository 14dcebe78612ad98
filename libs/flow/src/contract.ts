/**
 * The one component contract (design §7, §8): sources, interceptors and sinks of agents and connectors.
 *
 *   source --records + positions--> interceptors -> selector -> channel(s) --batches--> sink --progress--> channel
 *                                                               topic partition --batches--> sink (connector)
 *
 * A component moves records and says where it stands. The runners of this library do the rest: transactions,
 * retries with back-off, dead letters, metrics, shutdown. Components hold no queue of their own beyond what a
 * single call hands them, except where their page says so with its limit.
 *
 * Numbering: a record's *offset* is its channel sequence in an agent and its partition offset in a connector;
 * both start at 0, grow by one per record (a topic may leave gaps) and never change (A2).
 */

import type { z } from "@millrace/config";
import type { Record } from "@millrace/record";
import type { Clock, Disk } from "@millrace/runtime";
import type { Telemetry } from "@millrace/telemetry";

/** A record inside a pipeline. */
export interface FlowRecord extends Record {
  /** What keeps its order into a topic (A4): the file, the connection. It routes and is never the record's key. */
  readonly streamId?: string;
  /** Position of its source stream *after* this record: lets a channel that has it skip it (A3). */
  readonly sourcePosition?: { readonly key: string; readonly order: number };
}

/** A record with its offset: what sinks get. */
export interface SinkRecord extends FlowRecord {
  readonly offset: number;
}

/** A source's saved position of one of its streams. `order` grows along the stream; `value` is the source's own text. */
export interface SourcePosition {
  readonly key: string;
  readonly order: number;
  /** null: the stream is over and its position is forgotten. */
  readonly value: string | null;
  /**
   * Records this stream has given up to here since it was first seen (S1): what is read again from an older position
   * counts once. Absent: the source does not count; then the records put are counted.
   */
  readonly recordCount?: number;
}

/** What a pull source read. Positions are those after the records; both go into one transaction (A1). */
export interface ReadResult {
  readonly records: readonly FlowRecord[];
  readonly positions: readonly SourcePosition[];
  /** True: there is nothing more to read now. The runner waits before the next read. */
  readonly isIdle: boolean;
}

/** Something a source does not read, for status pages. */
export interface SkippedInput {
  readonly name: string;
  readonly reason: string;
}

/** A source that is asked for records. */
export interface PullSource {
  readonly mode: "pull";
  /** Starts from the saved positions (all keys of this source). Called again after a failure. */
  open(positions: ReadonlyMap<string, string>, signal: AbortSignal): Promise<void>;
  /** Up to `recordsMax` records. What it returns is put or the source is reopened at the saved positions. */
  read(recordsMax: number, signal: AbortSignal): Promise<ReadResult>;
  /** Resolves when there may be something to read again: ends the runner's idle pause early. */
  whenReadable?(signal: AbortSignal): Promise<void>;
  /** Reads a last unfinished unit too (a line without newline): `--once`. Called when idle; then read again. */
  finish?(): void;
  skipped?(): readonly SkippedInput[];
  streamCount?(): number;
  close(): Promise<void>;
}

/** What a push source wants to put, decided synchronously just before the commit (so that checks hold at the put, H3). */
export interface Offering {
  readonly records: readonly FlowRecord[];
  readonly positions?: readonly SourcePosition[];
  /** Records up to these positions that are not among `records`: dropped by an interceptor or set aside (S1). */
  readonly withheldCount?: number;
  /** Durable notes of the source, in the same transaction as the records (the ledger of H2). null removes. */
  readonly notes?: readonly { readonly key: string; readonly value: Uint8Array | null }[];
}

/** Outcome of an offer: in every required channel, or refused because one is full. */
export type OfferOutcome = "committed" | "full";

/** How a push source gives records. */
export interface Intake {
  /**
   * Puts what `prepare` returns, in one transaction; `committed` only after it is durable (or in memory, for
   * memory channels). `prepare` runs once, synchronously before the commit; undefined = nothing to put.
   * `waitMs`: how long to wait for room before `full` (default: the channel's keep-alive). `room`: how much to wait for
   * before a `prepare` function runs (default: one record); what it then returns is put even if it is more.
   * Throws RECORD_TOO_LARGE and LIMIT_EXCEEDED for what can never be put, CANCELLED when stopped before the put.
   */
  offer(
    prepare: Offering | (() => Offering | undefined),
    options?: {
      readonly waitMs?: number;
      readonly signal?: AbortSignal;
      readonly room?: { readonly records: number; readonly bytes: number };
    },
  ): Promise<OfferOutcome>;
  /** True: channels have room now. */
  readonly hasRoom: boolean;
  /** Resolves when channels have room again. */
  whenRoom(signal: AbortSignal): Promise<void>;
  /** `fsync` when every required channel is durable. */
  readonly durability: "fsync" | "volatile";
  /** Durable notes of this source. */
  note(key: string): Uint8Array | undefined;
  notes(prefix: string): ReadonlyMap<string, Uint8Array>;
}

/** A source that records arrive at. It answers its sender only after the offer's outcome. */
export interface PushSource {
  readonly mode: "push";
  start(intake: Intake, signal: AbortSignal): Promise<void>;
  /** Bound addresses, for `--port 0` and status. */
  addresses?(): readonly { readonly name: string; readonly host: string; readonly port: number }[];
  skipped?(): readonly SkippedInput[];
  streamCount?(): number;
  stop(): Promise<void>;
}

/** Either kind of source. */
export type Source = PullSource | PushSource;

/** Changes records on their way to the channels; synchronous. A dropped record is counted by the runner with the reason. */
export interface Interceptor {
  /** The record (changed or not), or a reason to drop it. */
  intercept(record: FlowRecord): FlowRecord | { readonly dropped: string };
}

/** Where a sink's records come from. */
export type Origin =
  | {
      readonly kind: "channel";
      readonly agentId: string;
      readonly agentName: string;
      readonly channelId: string;
      readonly channelName: string;
    }
  | {
      readonly kind: "partition";
      readonly clusterId: string;
      readonly connector: string;
      readonly topicId: string;
      readonly topic: string;
      readonly partition: number;
    };

/** Stable text of an origin, fit as a key and as a file name. */
export function originKey(origin: Origin): string {
  return origin.kind === "channel"
    ? `${origin.agentId}.${origin.channelId}`
    : `${origin.topicId}-${origin.partition}`;
}

/** What a sink is given to deliver. One sink instance serves one origin. */
export interface Assignment {
  readonly origin: Origin;
  /** Task epoch (connector) or number of the agent's start: higher fences lower (C1). */
  readonly epoch: number;
  /** Start history of the agent's directory (L1), oldest first; empty in a connector. */
  readonly starts: readonly string[];
  /** Everything below is delivered according to the channel, with the checkpoint kept with it; 0 and undefined at first. */
  readonly deliveredThrough: number;
  readonly checkpoint: Uint8Array | undefined;
  /** Configuration generation: routing (A5) and buckets (C5) belong to it. */
  readonly generation: number;
  /** True: the origin is a channel in memory, which ends with this process (A2); absent = it does not. */
  readonly isVolatile?: boolean;
}

/** Where a sink stands after opening: the next offset it wants. undefined = where the runner stands. */
export interface Standing {
  readonly resumeFrom: number | undefined;
  /** Leader epoch of the partition's batch before it, checked by the consumer on resume (L4); absent or -1: not known. */
  readonly leaderEpoch?: number;
}

/** Consecutive records of one origin. */
export interface SinkBatch {
  /** First offset covered. */
  readonly from: number;
  /** Offset after the last one covered; offsets without a record between are gaps. */
  readonly to: number;
  readonly records: readonly SinkRecord[];
  /** Leader epoch of the partition's batch (L4); -1 in an agent. */
  readonly leaderEpoch: number;
  /** Records of it that the runner has set aside (a batch that does not decode): the sink's books count them. */
  readonly setAsideCount?: number;
}

/** A destination's own books about one origin, at one moment (S1). Offsets, and counts of records. */
export interface DestinationBooks {
  /** Where delivery began. */
  readonly begun: number;
  /** Everything below is published or set aside. */
  readonly resume: number;
  readonly published: number;
  readonly setAside: number;
  /** Files they were published in; absent where the destination has no files. */
  readonly files?: number;
}

/** What a sink tells its runner while it works. */
export interface SinkFeedback {
  /**
   * Everything below `through` is delivered (or refused and set aside). Monotone. The checkpoint is stored with
   * it in one durable step and handed back at the next open.
   */
  delivered(through: number, checkpoint?: Uint8Array): void;
  /**
   * A record can never be taken: set aside durably (dead letters) with its reason and counted. Await it before
   * anything after it is sent (A5).
   */
  refuse(record: SinkRecord, reason: string): Promise<void>;
  /** The sink broke outside a call: the runner closes it and opens it again after a pause. */
  fail(error: unknown): void;
  /** Everything below is resolved durably: never given again (H2's `resolved through`). */
  readonly resolvedThrough: number;
  onResolved(run: (through: number) => void): () => void;
  /** Offset the next record put into the channel will get: a new routing generation starts there (A5). */
  readonly nextOffset: number;
  /**
   * Small durable notes of the sink (receivers in use H3, routing generations A5). `setNotes` enters the journal
   * before it returns its promise, so it precedes every later put; the promise resolves when it is durable.
   */
  note(key: string): Uint8Array | undefined;
  notes(prefix: string): ReadonlyMap<string, Uint8Array>;
  setNotes(notes: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void>;
}

/** Delivers records. */
export interface Sink {
  /** Fences earlier epochs first, then says where it stands (C1). */
  open(assignment: Assignment, feedback: SinkFeedback, signal: AbortSignal): Promise<Standing>;
  /** Takes a batch over; resolves when it can take the next (back-pressure). Delivery is told by `delivered`. */
  write(batch: SinkBatch, signal: AbortSignal): Promise<void>;
  /** Delivers what it holds now instead of waiting for more (idle pipeline, `--once`, shutdown). */
  flush(signal: AbortSignal): Promise<void>;
  /** Records published ever, from the destination's own books (S1); sinks with standing have it. */
  publishedCount?(): number;
  /** The same with everything else the books say, as one consistent cut. */
  books?(): DestinationBooks;
  /** What status pages tell of it beyond its state, by name. */
  details?(): { readonly [name: string]: string | number };
  close(): Promise<void>;
}

/** What every component gets. */
export interface ComponentContext {
  readonly name: string;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly disk: Disk;
  /** Folder of the component's own, below the data directory; created on demand. */
  readonly workDirectory: string;
  /** Name and id of the agent, or name of the connector. */
  readonly ownerName: string;
  readonly ownerId: string;
  /** Paths no source may read: the data directory, other Millrace directories. */
  readonly protectedPaths: readonly string[];
  /** Default metadata address for components that talk to the cluster. */
  readonly bootstrapServers: readonly string[];
}

/** How sure delivery is, in the words of the reference page. */
export type Guarantee = "exactly-once" | "at-least-once" | "at-most-once";

interface DefinitionBase<Kind extends string, Schema extends z.ZodType> {
  readonly kind: Kind;
  /** Name in configuration; Flume's where Flume has it. Case-insensitive. */
  readonly type: string;
  /** Other names that mean it (Flume class names). */
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** The guarantee and its conditions, for the reference page. */
  readonly guarantee: Guarantee;
  readonly guaranteeNote?: string;
  /** Strict object with described keys: Flume's names where Flume has them. */
  readonly config: Schema;
  /** Turns Flume's flat keys (`filegroups.f1`) into the schema's form; the default splits at dots. */
  readonly fromFlume?: (keys: ReadonlyMap<string, string>) => { readonly [key: string]: unknown };
  readonly examples?: readonly { readonly title: string; readonly yaml: string }[];
}

/** A source type. */
export interface SourceDefinition<Schema extends z.ZodType = z.ZodType>
  extends DefinitionBase<"source", Schema> {
  readonly create: (config: z.output<Schema>, context: ComponentContext) => Source;
}

/** A sink type. */
export interface SinkDefinition<Schema extends z.ZodType = z.ZodType> extends DefinitionBase<"sink", Schema> {
  /** True: the destination knows where it stands (files, topics): a connector may use it exactly once. */
  readonly hasStanding: boolean;
  /** True: it talks to the cluster of the agent's bootstrap servers: it opens once the agent is registered there (L1). */
  readonly needsCluster?: boolean;
  /** True: several instances may take from one channel in turn (A6). */
  readonly canShare: boolean;
  readonly create: (config: z.output<Schema>, context: ComponentContext) => Sink;
}

/** An interceptor type. */
export interface InterceptorDefinition<Schema extends z.ZodType = z.ZodType>
  extends DefinitionBase<"interceptor", Schema> {
  readonly create: (config: z.output<Schema>, context: ComponentContext) => Interceptor;
}

/** Any component type. */
export type ComponentDefinition = SourceDefinition | SinkDefinition | InterceptorDefinition;

/** Declares a source type; the configuration's type follows from the schema. */
export function defineSource<Schema extends z.ZodType>(
  definition: Omit<SourceDefinition<Schema>, "kind">,
): SourceDefinition {
  return { kind: "source", ...definition } as unknown as SourceDefinition;
}

/** Declares a sink type; the configuration's type follows from the schema. */
export function defineSink<Schema extends z.ZodType>(
  definition: Omit<SinkDefinition<Schema>, "kind">,
): SinkDefinition {
  return { kind: "sink", ...definition } as unknown as SinkDefinition;
}

/** Declares an interceptor type; the configuration's type follows from the schema. */
export function defineInterceptor<Schema extends z.ZodType>(
  definition: Omit<InterceptorDefinition<Schema>, "kind">,
): InterceptorDefinition {
  return { kind: "interceptor", ...definition } as unknown as InterceptorDefinition;
}

/** Header that carries a record's stream id through a channel and over a hop; never delivered to the outside. */
export const streamHeader = "__millrace.stream";

/** Finds component types by name; the explicit list of `libs/components`. Loads lazily. */
export interface ComponentRegistry {
  readonly types: (kind: ComponentDefinition["kind"]) => readonly string[];
  source(type: string): Promise<SourceDefinition | undefined>;
  sink(type: string): Promise<SinkDefinition | undefined>;
  interceptor(type: string): Promise<InterceptorDefinition | undefined>;
}
