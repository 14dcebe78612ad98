/**
 * The millrace sink: from an agent's channel into a topic, exactly once through any crash (rules A4, A5, P1-P5).
 *
 *   take --> route (pure: routing.ts) --> one batch builder a partition --> partition writers --> acks
 *        --> contiguous acked prefix --> `delivered(through, counters)`: stored in one step
 *
 * Nothing is stored before a send. After a crash the same records are taken again from the take position; the
 * counters kept with it give each the producer sequence it had, and the leader recognises what it holds. Batches
 * are cut where the leader's knowledge ends, so a batch is either all there or all new.
 */
import { AppError, fromWireSequence, invariant, RangeSet, toWireSequence } from "@millrace/base";
import { Client, type PartitionWriter, type TopicInfo } from "@millrace/client";
import type {
  Assignment,
  ComponentContext,
  Sink,
  SinkBatch,
  SinkFeedback,
  SinkRecord,
  Standing,
} from "@millrace/flow";
import { BatchBuilder, batchBytesMaxDefault } from "@millrace/record";
import { ByteBudget } from "@millrace/runtime";
import type { MillraceConfig } from "./config.ts";
import { type CounterCheckpoint, counterKey, SequenceCounters } from "./counters.ts";
import {
  generationAt,
  keyOf,
  partitionOf,
  pruned,
  type RoutingGeneration,
  type RoutingHistory,
  withGeneration,
  withoutTopic,
} from "./routing.ts";
import { logBehind, topicReplaced } from "./telemetry.ts";

/** Bytes sent and not acknowledged. */
const inFlightBytesMax = 16 * 1024 * 1024;

const routingNote = "routing";
const refusedNote = "refused/";

/** One partition that records are sent to. */
interface Target {
  readonly key: string;
  readonly writer: PartitionWriter;
  /** Sequences below are in the leader's log: batches are cut here. */
  readonly held: number;
  builder: BatchBuilder | undefined;
  /** Producer sequence of the builder's first record, int64. */
  firstPosition: number;
  /** Channel sequences of the builder's records. */
  runs: RangeSet;
  /** P5: the leader is behind what was acknowledged; the first batch says so. */
  mustReset: boolean;
}

export class MillraceSink implements Sink {
  readonly #config: MillraceConfig;
  readonly #context: ComponentContext;
  readonly #targets = new Map<string, Target>();
  readonly #refused = new Set<number>();
  readonly #budget = new ByteBudget(inFlightBytesMax);
  #client: Client | undefined;
  #feedback!: SinkFeedback;
  #history!: RoutingHistory;
  #counters!: SequenceCounters;
  #acked = new RangeSet();
  #agentId = "";
  #producerId = -1;
  #producerEpoch = -1;
  /** P2: the id before this one; the leaders go on from its last sequences. 0 = none. */
  #previousProducerId = 0;
  /** The topic's max.message.bytes: a record that does not fit a batch of this size is refused. */
  #recordBytesMax = 0;
  #inFlight = new Set<Promise<void>>();
  #failure: AppError | undefined;

  constructor(config: MillraceConfig, context: ComponentContext) {
    this.#config = config;
    this.#context = context;
  }

  async open(assignment: Assignment, feedback: SinkFeedback, signal: AbortSignal): Promise<Standing> {
    const { origin } = assignment;
    if (origin.kind !== "channel")
      throw new AppError("INVALID_CONFIG", "the millrace sink delivers from an agent's channel only");
    this.#feedback = feedback;
    this.#client = await Client.open({
      bootstrapServers: this.#bootstrap(),
      clientId: this.#context.ownerName,
      signal,
    });
    const takePosition = await this.#settleRouting(assignment.deliveredThrough);
    this.#counters = new SequenceCounters(
      takePosition,
      parseCheckpoint(assignment.checkpoint, origin.agentId),
    );
    this.#agentId = origin.agentId;
    await this.#loadRefused(takePosition);
    const producer = await this.#client.admin.initProducer(
      `${origin.agentId}.${origin.channelId}`,
      assignment.starts,
    );
    this.#producerId = producer.producerId;
    this.#producerEpoch = producer.producerEpoch;
    this.#previousProducerId = producer.previousProducerId;
    return { resumeFrom: takePosition };
  }

  async write(batch: SinkBatch, signal: AbortSignal): Promise<void> {
    for (const record of batch.records) {
      this.#throwFailure();
      if (this.#refused.has(record.offset)) this.#pass(record.offset);
      else await this.#append(record, signal);
    }
    for (const target of this.#targets.values()) await this.#send(target, signal);
    this.#report();
  }

  async flush(): Promise<void> {
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
    this.#throwFailure();
  }

  async close(): Promise<void> {
    for (const target of this.#targets.values()) target.writer.close();
    await Promise.all(this.#inFlight);
    this.#targets.clear();
    this.#client?.close();
    this.#client = undefined;
  }

  details(): { readonly producerId: number; readonly producerEpoch: number } {
    return { producerId: this.#producerId, producerEpoch: this.#producerEpoch };
  }

  #bootstrap(): string[] {
    return this.#config.bootstrapServers.length > 0
      ? this.#config.bootstrapServers
      : [...this.#context.bootstrapServers];
  }

  /** Sequences refused before the crash that will be taken again; notes below the take position have served. */
  async #loadRefused(takePosition: number): Promise<void> {
    const keys = [...this.#feedback.notes(refusedNote).keys()];
    const isPassed = (key: string): boolean => Number(key.slice(refusedNote.length)) < takePosition;
    for (const key of keys) if (!isPassed(key)) this.#refused.add(Number(key.slice(refusedNote.length)));
    const passed = keys.filter(isPassed).map((key) => ({ key, value: null }));
    if (passed.length > 0) await this.#feedback.setNotes(passed);
  }

  /** Finds the topic, settles the routing generations durably, and returns the take position they leave (A5, L3). */
  async #settleRouting(deliveredThrough: number): Promise<number> {
    const topic = await this.#findOrCreateTopic();
    this.#recordBytesMax = Number(topic.config["max.message.bytes"] ?? batchBytesMaxDefault);
    const wanted = {
      topic: topic.name,
      topicId: topic.topicId,
      partitionCount: topic.partitions.length,
      keyHeader: this.#config.keyHeader,
    };
    const saved = this.#feedback.note(routingNote);
    let history =
      saved === undefined ? undefined : (JSON.parse(Buffer.from(saved).toString()) as RoutingHistory);
    let takePosition = Math.max(deliveredThrough, history?.generations[0]?.start ?? 0);
    for (const generation of history?.generations ?? []) {
      if (generation.topicId === topic.topicId || !(await this.#isDeleted(generation.topicId))) continue;
      history = withoutTopic(history as RoutingHistory, generation.topicId, wanted, takePosition);
      this.#context.telemetry.emit(topicReplaced, {
        topic: generation.topic,
        deletedId: generation.topicId,
        newId: topic.topicId,
        fromSequence: takePosition,
      });
    }
    takePosition = Math.max(takePosition, deliveredThrough);
    // read and written without waiting in between: no put can come first
    const settled = pruned(
      withGeneration(history, wanted, { first: deliveredThrough, later: this.#feedback.nextOffset }),
      takePosition,
    );
    if (settled !== history)
      await this.#feedback.setNotes([{ key: routingNote, value: Buffer.from(JSON.stringify(settled)) }]);
    this.#history = settled;
    return takePosition;
  }

  async #findOrCreateTopic(): Promise<TopicInfo> {
    const { admin } = this.#opened();
    const { topic: name, partitions } = this.#config;
    try {
      return await admin.describeTopic(name);
    } catch (error) {
      if (AppError.from(error).reason !== "TOPIC_NOT_FOUND" || partitions === 0) throw error;
    }
    try {
      return await admin.createTopic({ name, partitions });
    } catch (error) {
      if (AppError.from(error).reason !== "TOPIC_ALREADY_EXISTS") throw error;
      return admin.describeTopic(name);
    }
  }

  async #isDeleted(topicId: string): Promise<boolean> {
    try {
      await this.#opened().metadata.refresh(topicId);
      return false;
    } catch (error) {
      const { reason } = AppError.from(error);
      if (reason === "TOPIC_NOT_FOUND" || reason === "UNKNOWN_TOPIC_ID") return true;
      throw error;
    }
  }

  async #append(record: SinkRecord, signal: AbortSignal): Promise<void> {
    const generation = generationAt(this.#history, record.offset);
    const target = await this.#target(generation, partitionOf(record, generation));
    const position = this.#counters.nextOf(target.key);
    if (target.builder !== undefined && position === target.held) await this.#send(target, signal);
    const sent =
      keyOf(record, generation) === record.key ? record : { ...record, key: keyOf(record, generation) };
    try {
      if (!this.#builderOf(target, position).append(sent)) {
        await this.#send(target, signal);
        invariant(
          this.#builderOf(target, position).append(sent),
          "a record that fits no batch is refused by the builder",
        );
      }
    } catch (error) {
      const { reason, message } = AppError.from(error);
      if (reason !== "RECORD_TOO_LARGE" && reason !== "INVALID_RECORD") throw error;
      await this.#refuse(record, message);
      return;
    }
    this.#counters.route(record.offset, target.key);
    target.runs.add(record.offset, record.offset + 1);
    if ((target.builder?.sizeBytes ?? 0) >= this.#config.batchBytes) await this.#send(target, signal);
  }

  #builderOf(target: Target, position: number): BatchBuilder {
    if (target.builder === undefined) {
      target.builder = new BatchBuilder({
        bytesMax: this.#recordBytesMax,
        compression: this.#config.compression,
        ...(this.#config.unsafeNoIdentity ? {} : this.#identityAt(position)),
      });
      target.firstPosition = position;
    }
    return target.builder;
  }

  #identityAt(position: number): { producerId: number; producerEpoch: number; baseSequence: number } {
    const [producerId, producerEpoch] = [this.#producerId, this.#producerEpoch];
    return { producerId, producerEpoch, baseSequence: toWireSequence(position) };
  }

  /** A5: noted durably before anything after it is sent, so that a replay leaves it out of the sequences too. */
  async #refuse(record: SinkRecord, reason: string): Promise<void> {
    await this.#feedback.refuse(record, reason);
    await this.#feedback.setNotes([{ key: refusedNote + record.offset, value: Buffer.from(reason) }]);
    this.#refused.add(record.offset);
    this.#pass(record.offset);
  }

  /** The record needs no sending. */
  #pass(sequence: number): void {
    this.#counters.skip(sequence);
    this.#acked.add(sequence, sequence + 1);
  }

  async #target(generation: RoutingGeneration, partition: number): Promise<Target> {
    const key = counterKey(generation.topicId, partition);
    const target = this.#targets.get(key);
    if (target !== undefined) return target;
    const client = this.#opened();
    const counted = this.#counters.nextOf(key);
    const known = await this.#producerState(client, generation.topicId, partition);
    const held =
      known === undefined || known.lastSequence < 0 ? 0 : fromWireSequence(known.lastSequence, counted) + 1;
    const isBehind = held < counted && !this.#config.unsafeNoIdentity;
    if (isBehind) this.#reportBehind(generation, partition, counted - held);
    const opened: Target = {
      key,
      writer: client.partitionWriter({
        topicId: generation.topicId,
        partition,
        previousProducerId: this.#previousProducerId,
      }),
      held,
      builder: undefined,
      firstPosition: 0,
      runs: new RangeSet(),
      mustReset: isBehind,
    };
    this.#targets.set(key, opened);
    return opened;
  }

  /** What the leader has of this channel: under its id or, where that has not written yet, the one before (P2). */
  async #producerState(
    client: Client,
    topicId: string,
    partition: number,
  ): Promise<Awaited<ReturnType<Client["describeProducer"]>>> {
    const known = await client.describeProducer(topicId, partition, this.#producerId);
    if (known !== undefined || this.#previousProducerId === 0) return known;
    return client.describeProducer(topicId, partition, this.#previousProducerId);
  }

  /** P5: the leader lost acknowledged records (os flush policy, unclean election); the channel has let them go. */
  #reportBehind(generation: RoutingGeneration, partition: number, lostCount: number): void {
    this.#context.telemetry.emit(logBehind, { topic: generation.topic, partition, lostCount });
    this.#context.telemetry.discarded(this.#context.name, "log_behind", lostCount);
  }

  async #send(target: Target, signal: AbortSignal): Promise<void> {
    const { builder, runs, mustReset } = target;
    if (builder === undefined || builder.count === 0) return;
    target.builder = undefined;
    target.runs = new RangeSet();
    target.mustReset = false;
    const bytes = builder.build();
    await this.#budget.acquire(bytes.byteLength, signal);
    const work = target.writer.write(bytes, { resetSequence: mustReset }).then(
      () => {
        for (const run of runs.ranges) this.#acked.add(run.from, run.to);
        this.#report();
      },
      (error: unknown) => this.#fail(AppError.from(error)),
    );
    const settled = work.finally(() => {
      this.#budget.release(bytes.byteLength);
      this.#inFlight.delete(settled);
    });
    this.#inFlight.add(settled);
  }

  /** Tells how far everything is acknowledged, with the counters as of there. */
  #report(): void {
    const from = this.#counters.takePosition;
    const through = this.#acked.endOfRunAt(from);
    if (through === from || this.#failure !== undefined) return;
    const checkpoint = this.#counters.advance(through);
    this.#acked.removeBelow(through);
    this.#feedback.delivered(through, Buffer.from(JSON.stringify({ ...checkpoint, agentId: this.#agentId })));
  }

  #fail(error: AppError): void {
    if (this.#failure !== undefined || error.reason === "CANCELLED") return;
    this.#failure = error;
    this.#feedback.fail(error);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #opened(): Client {
    invariant(this.#client !== undefined, "the sink is open");
    return this.#client;
  }
}

/** The counters; those of an agent whose directory has got a new identity since (L1) are of another producer. */
function parseCheckpoint(bytes: Uint8Array | undefined, agentId: string): CounterCheckpoint | undefined {
  if (bytes === undefined) return undefined;
  const saved = JSON.parse(Buffer.from(bytes).toString()) as CounterCheckpoint & {
    readonly agentId?: string;
  };
  return saved.agentId === undefined || saved.agentId === agentId ? saved : undefined;
}
