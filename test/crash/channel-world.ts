/**
 * A seeded workload on two file channels of one source, with a crash image after every disk operation, and the check of
 * an image. Used by channel-crash.test.ts.
 *
 * What a crash may do: lose offers nobody was answered for, whole and from the end; move take positions back to what was
 * announced as resolved. What it may not: everything else.
 */
import assert from "node:assert/strict";
import { Prng } from "@millrace/base";
import {
  DeadLetters,
  type FileChannel,
  type FlowRecord,
  openFileChannel,
  PutPath,
  type SinkRecord,
  type Take,
} from "@millrace/flow";
import { type DataDirectory, openDataDirectory } from "@millrace/log";
import { createTelemetry } from "@millrace/telemetry";
import { SimClock, SimDisk } from "@millrace/testkit";

const path = "/data";
const limits = {
  records: 100_000,
  bytes: 64 * 1024 * 1024,
  transactionRecords: 1_000,
  recordBytes: 1024 * 1024,
  keepAliveMs: 1_000,
};
const telemetry = createTelemetry({ service: "test", node: "test", destination: "silent" });
const never = new AbortController().signal;

/** What was true when an image was taken. */
interface Truth {
  /** Records in offers that were answered `committed`. */
  readonly acked: number;
  /** Ends of the offers begun, ascending. */
  readonly offerEnds: readonly number[];
  /** Per channel: take position, what was committed in all, what was announced as resolved. */
  readonly takers: readonly {
    readonly position: number;
    readonly committed: ReadonlySet<number>;
    readonly resolved: number;
  }[];
  /** Letters whose `add` resolved. */
  readonly letters: number;
}

/** A disk as a crash left it. */
export interface Image {
  readonly disk: SimDisk;
  readonly truth: Truth;
  readonly operation: string;
}

interface Taker {
  readonly channel: FileChannel;
  readonly outstanding: Take[];
  readonly committed: Set<number>;
  resolved: number;
}

export interface ChannelWorldOptions {
  readonly seed: number;
  readonly steps: number;
  readonly unsafeSkipFsync?: boolean;
}

/** See the file's comment. */
export class ChannelWorld {
  readonly images: Image[] = [];
  /** What the run must have met for its verdict to mean something. */
  readonly exercised = {
    unanswered: 0,
    unresolved: 0,
    outOfOrder: 0,
    recycled: 0,
    segmentsDeleted: 0,
    tornCut: 0,
  };
  readonly #options: ChannelWorldOptions;
  readonly #random: Prng;
  readonly #clock = new SimClock();
  readonly #texts: string[] = [];
  readonly #offerEnds: number[] = [];
  #takers: Taker[] = [];
  #acked = 0;
  #letters = 0;

  constructor(options: ChannelWorldOptions) {
    this.#options = options;
    this.#random = new Prng(options.seed);
  }

  async run(): Promise<void> {
    const disk = new SimDisk();
    const parts = await this.#open(disk);
    this.#takers = parts.channels.map((channel) => {
      const taker: Taker = { channel, outstanding: [], committed: new Set(), resolved: 0 };
      channel.onResolved((through) => {
        taker.resolved = through;
      });
      return taker;
    });
    let images = 0;
    disk.onOperation = ({ kind, path: where }) => {
      images++;
      this.images.push({
        disk: disk.crash(this.#options.seed * 100_000 + images),
        truth: this.#truth(),
        operation: `${images}: ${kind} ${where}`,
      });
    };
    const pending: Promise<void>[] = [];
    for (let step = 0; step < this.#options.steps; step++) {
      if (this.#random.chance(0.7)) pending.push(this.#offer(parts.putPath));
      if (this.#random.chance(0.1)) pending.push(this.#letter(parts.deadLetters));
      for (const taker of this.#takers) await this.#takeSome(taker, taker === this.#takers[0]);
      if (this.#random.chance(0.6)) await turns(this.#random.nextInt(1, 12));
      if (this.#random.chance(0.4)) this.#clock.advance(this.#random.nextInt(1, 1_200));
    }
    await this.#whileTimePasses(Promise.all(pending));
    disk.onOperation = undefined;
    await this.#whileTimePasses(this.#close(parts));
  }

  async #open(disk: SimDisk) {
    const directory = await openDataDirectory({
      path,
      disk,
      clock: this.#clock,
      identity: { role: "agent" },
      journalFileBytes: 64 * 1024,
      onEvent: (event) => {
        if (event.kind === "journalRecycled") this.exercised.recycled++;
        if (event.kind === "segmentsDeleted") this.exercised.segmentsDeleted++;
        if (event.kind === "tornTailCut" || event.kind === "journalTornEntry") this.exercised.tornCut++;
      },
      ...(this.#options.unsafeSkipFsync === true ? { unsafeSkipFsync: true } : {}),
    });
    const common = { directory, clock: this.#clock, telemetry };
    const channels: FileChannel[] = [];
    for (const name of ["c1", "c2"]) {
      channels.push(await openFileChannel({ ...common, name, limits, segmentBytes: 16 * 1024 }));
    }
    const putPath = new PutPath({ ...common, source: "r1", required: channels, optional: [] });
    const deadLetters = new DeadLetters({ ...common, component: "k1", disk });
    return { directory, channels, putPath, deadLetters };
  }

  async #close(parts: {
    directory: DataDirectory;
    channels: readonly FileChannel[];
    deadLetters: DeadLetters;
  }) {
    await Promise.all(parts.channels.map((channel) => channel.close()));
    await parts.deadLetters.close();
    await parts.directory.close();
  }

  /** Timers of the simulated clock run while `work` goes on. */
  async #whileTimePasses<T>(work: Promise<T>): Promise<T> {
    const state = { isDone: false };
    const done = work.finally(() => {
      state.isDone = true;
    });
    done.catch(() => undefined);
    for (let turn = 0; !state.isDone && turn < 10_000; turn++) {
      await turns(1);
      this.#clock.advance(50);
    }
    return done;
  }

  async #offer(putPath: PutPath): Promise<void> {
    const count = this.#random.pick([1, 1, 2, 7, 40]);
    const first = this.#texts.length;
    const records = Array.from({ length: count }, (_, i): FlowRecord => {
      const text = `${first + i}:${"x".repeat(this.#random.pick([0, 10, 200, 1_500]))}`;
      this.#texts.push(text);
      return { key: null, value: Buffer.from(text), headers: [], timestampMs: first + i, streamId: "s" };
    });
    const end = this.#texts.length;
    this.#offerEnds.push(end);
    const offering = {
      records,
      positions: [{ key: "list", order: end, value: String(end) }],
      notes: [{ key: "offers", value: Buffer.from(String(this.#offerEnds.length)) }],
    };
    const outcome = await putPath.offer(offering, { waitMs: 0, signal: never });
    assert.equal(outcome, "committed");
    this.#acked = Math.max(this.#acked, end);
  }

  async #letter(deadLetters: DeadLetters): Promise<void> {
    const record = { key: null, value: Buffer.from("bad"), headers: [], timestampMs: 0 };
    await deadLetters.add({ record, reason: "test", coordinates: {} });
    this.#letters++;
  }

  /** Takes, commits (in order with a checkpoint, or not), rolls back. */
  async #takeSome(taker: Taker, inOrder: boolean): Promise<void> {
    const { channel, outstanding } = taker;
    if (outstanding.length < 4 && this.#random.chance(0.6)) {
      const take = await channel.take(this.#random.nextInt(1, 60), 20_000);
      if (take !== undefined) {
        this.#checkRecords(take.records, take.from);
        outstanding.push(take);
      }
    }
    if (outstanding.length === 0 || this.#random.chance(0.4)) return;
    const [take] = outstanding.splice(inOrder ? 0 : this.#random.nextInt(0, outstanding.length - 1), 1);
    const { from, to } = take as Take;
    if (!inOrder && this.#random.chance(0.3)) {
      channel.rollback(from, to);
      return;
    }
    if (from > channel.position) this.exercised.outOfOrder++;
    channel.commit(from, to, inOrder ? { sink: "k1", bytes: Buffer.from(`at ${to}`) } : undefined);
    for (let sequence = from; sequence < to; sequence++) taker.committed.add(sequence);
  }

  #truth(): Truth {
    const begun = this.#offerEnds.at(-1) ?? 0;
    if (this.#acked < begun) this.exercised.unanswered++;
    return {
      acked: this.#acked,
      offerEnds: [...this.#offerEnds],
      takers: this.#takers.map(({ channel, committed, resolved }) => {
        if (resolved < channel.position) this.exercised.unresolved++;
        return { position: channel.position, committed: new Set(committed), resolved };
      }),
      letters: this.#letters,
    };
  }

  #checkRecords(records: readonly SinkRecord[], from: number): void {
    records.forEach((record, i) => {
      assert.equal(record.offset, from + i);
      assert.equal(Buffer.from(record.value ?? []).toString(), this.#texts[from + i]);
      assert.equal(record.streamId, "s");
    });
  }

  /** Recovers an image, checks it, goes on with it, and recovers what that leaves. */
  async verify({ disk, truth }: Image): Promise<void> {
    const parts = await this.#whileTimePasses(this.#open(disk));
    const end = this.#checkPuts(parts, truth);
    const [first, second] = parts.channels.map((channel, i) => this.#checkTakes(channel, truth.takers[i]));
    await this.#checkLetters(disk, parts.deadLetters, truth);
    for (const channel of parts.channels) await this.#checkDelivery(channel, end);
    await this.#whileTimePasses(this.#close(parts));
    const again = await this.#whileTimePasses(this.#open(disk));
    for (const channel of again.channels) {
      assert.equal(channel.position, end, "what was delivered stays delivered");
      assert.equal(channel.figures.depthBytes, 0);
    }
    await this.#whileTimePasses(this.#close(again));
    assert.ok(first !== undefined && second !== undefined);
  }

  /** A1, A3: offers are whole, in both channels, with their position and note; every answered one is there. */
  #checkPuts(
    { channels, putPath }: { channels: readonly FileChannel[]; putPath: PutPath },
    truth: Truth,
  ): number {
    const ends = new Set(channels.map((channel) => channel.endSequence));
    assert.equal(ends.size, 1, `A3: in both channels or in none: ${[...ends].join(", ")}`);
    const [end = 0] = ends;
    assert.ok(end >= truth.acked, `answered and gone: ends at ${end}, ${truth.acked} were answered`);
    const offers = truth.offerEnds.indexOf(end) + 1;
    assert.ok(end === 0 || offers > 0, `an offer is whole: ends at ${end}`);
    assert.equal(
      Number(putPath.books.positions.get("list") ?? 0),
      end,
      "A1: the position is that of the records",
    );
    const note = putPath.books.note("offers");
    assert.equal(
      note === undefined ? 0 : Number(Buffer.from(note).toString()),
      offers,
      "notes are part of it",
    );
    return end;
  }

  /** J5: positions go back at most to what was announced; nothing is committed that was not. */
  #checkTakes(channel: FileChannel, taker: Truth["takers"][number] | undefined): number {
    const { position, committed, resolved } = taker ?? {
      position: 0,
      committed: new Set<number>(),
      resolved: 0,
    };
    assert.ok(channel.position >= resolved, `${channel.position} was resolved through ${resolved}`);
    assert.ok(channel.position <= position, `${channel.position} was at ${position}`);
    const free = channel.endSequence - channel.position - channel.figures.depthCount;
    const known = [...committed].filter((sequence) => sequence >= channel.position).length;
    assert.ok(free <= known, "nothing counts as committed that was not");
    const checkpoint = channel.checkpoint("k1");
    if (channel.name === "c1" && checkpoint !== undefined) {
      assert.equal(
        Buffer.from(checkpoint).toString(),
        `at ${channel.position}`,
        "the checkpoint is that of the position",
      );
    }
    assert.ok(channel.startSequence <= channel.position, "nothing undelivered was removed");
    return channel.position;
  }

  async #checkLetters(disk: SimDisk, deadLetters: DeadLetters, truth: Truth): Promise<void> {
    const record = { key: null, value: Buffer.from("last"), headers: [], timestampMs: 0 };
    await this.#whileTimePasses(deadLetters.add({ record, reason: "test", coordinates: {} }));
    const file = await disk.open(deadLetters.path, "read");
    const bytes = Buffer.alloc(await file.size());
    await file.read(bytes, 0, bytes.length, 0);
    await file.close();
    const lines = bytes.toString().trimEnd().split("\n");
    for (const line of lines) JSON.parse(line);
    assert.ok(
      lines.length - 1 >= truth.letters,
      `A5: ${truth.letters} letters were durable, ${lines.length - 1} are there`,
    );
  }

  /** Everything from the position on is given, in order, once; then the channel is empty to the byte. */
  async #checkDelivery(channel: FileChannel, end: number): Promise<void> {
    let next = channel.position;
    while (channel.position < end) {
      const take = await channel.take(1_000, 1_000_000);
      assert.ok(take !== undefined, `takable at ${channel.position} of ${end}`);
      assert.ok(take.from >= next, "in order");
      next = take.to;
      this.#checkRecords(take.records, take.from);
      channel.commit(take.from, take.to);
    }
    assert.equal(await channel.take(1, 1), undefined);
    assert.deepEqual([channel.figures.depthCount, channel.figures.depthBytes], [0, 0]);
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
