/**
 * A seeded workload over a data directory on the simulated disk, what it was promised, and what must be there after a
 * crash. Every commit sets the state key `last` to its number, so a recovered directory says itself through which commit it
 * goes: all effects of those, none of the later ones, and nothing acknowledged is among the later ones.
 */
import { Prng } from "@millrace/base";
import {
  type DataDirectory,
  defaultLogConfig,
  type Log,
  type LogConfig,
  type LogId,
  openDataDirectory,
} from "@millrace/log";
import { decodeBatch, encodeBatch, iterateBatches } from "@millrace/record";
import { SimClock, SimDisk, type SimOperation } from "@millrace/testkit";

export const dataPath = "/data";

const config: LogConfig = {
  ...defaultLogConfig,
  segmentBytes: 3000,
  indexIntervalBytes: 300,
  retentionMs: -1,
};

const logIds: readonly LogId[] = [
  { kind: "topic", topicId: "AAAAAAAAAAAAAAAAAAAAAA", topicName: "alpha", partition: 0 },
  { kind: "topic", topicId: "BBBBBBBBBBBBBBBBBBBBBB", topicName: "beta", partition: 3 },
  { kind: "channel", channelId: "channel-1", channelName: "channel-1" },
];

/** Acknowledged once written: a power cut may take its end (J6). */
const osId: LogId = { kind: "topic", topicId: "OOOOOOOOOOOOOOOOOOOOOO", topicName: "os", partition: 0 };

/** A batch a commit put into a log. */
interface Placed {
  readonly log: string;
  readonly baseOffset: number;
  readonly count: number;
}

type Step =
  | { readonly kind: "commit"; readonly number: number; readonly placed: readonly Placed[] }
  | { readonly kind: "osCommit"; readonly baseOffset: number; readonly count: number }
  | { readonly kind: "truncate"; readonly log: string; readonly offset: number }
  | { readonly kind: "start"; readonly log: string; readonly offset: number }
  | { readonly kind: "create" | "delete"; readonly log: string };

/** The disk as a power cut left it, and what had been acknowledged by then. */
export interface CrashImage {
  readonly disk: SimDisk;
  readonly operation: SimOperation;
  readonly seed: number;
  /** Numbers of the steps acknowledged before the cut. */
  readonly acked: ReadonlySet<number>;
  /** Steps begun before the cut. */
  readonly begun: number;
}

export interface WorldOptions {
  readonly seed: number;
  readonly steps: number;
  /** Crash seeds drawn at each operation. */
  readonly survivals: number;
  readonly unsafeSkipFsync?: boolean;
}

/** What one world exercised; a sweep asserts that none stays at zero. */
export interface Exercised {
  commits: number;
  osCommits: number;
  truncations: number;
  deletions: number;
  rolls: number;
  recycled: number;
  dropped: number;
  tornEntries: number;
  replayed: number;
}

/** Opens the directory of a disk. */
export function openOn(
  disk: SimDisk,
  options: { unsafeSkipFsync?: boolean; exercised?: Exercised } = {},
): Promise<DataDirectory> {
  const { exercised } = options;
  return openDataDirectory({
    path: dataPath,
    disk,
    clock: new SimClock(),
    identity: { role: "storage" },
    journalFileBytes: 8192,
    unsafeSkipFsync: options.unsafeSkipFsync === true,
    onEvent: (event) => {
      if (exercised === undefined) return;
      if (event.kind === "segmentRolled") exercised.rolls++;
      if (event.kind === "journalRecycled") exercised.recycled++;
      if (event.kind === "segmentsDeleted") exercised.dropped += event.count;
      if (event.kind === "journalTornEntry") exercised.tornEntries++;
    },
  });
}

function batchOf(number: number, count: number, bytes: number): Uint8Array {
  const records = Array.from({ length: count }, (_, i) => ({
    key: null,
    value: Buffer.from(`${number}:${i}`.padEnd(bytes, ".")),
    headers: [],
    timestampMs: 1_700_000_000_000 + number,
  }));
  return encodeBatch(records, { producerId: 7, producerEpoch: 0, baseSequence: number * 8 });
}

/** Commits go on under a new leader epoch now and then; in every other world never (its file is then rarely written). */
function epochOf(seed: number, number: number): number {
  return seed % 2 === 0 ? 0 : Math.floor(number / 6);
}

function keyOf(id: LogId): string {
  return id.kind === "topic" ? `${id.topicName}-${id.topicId.slice(0, 3)}` : id.channelId;
}

/** One run of a workload with a crash image taken after every operation of the disk. */
export class World {
  readonly images: CrashImage[] = [];
  readonly steps: Step[] = [];
  readonly exercised: Exercised = {
    commits: 0,
    osCommits: 0,
    truncations: 0,
    deletions: 0,
    rolls: 0,
    recycled: 0,
    dropped: 0,
    tornEntries: 0,
    replayed: 0,
  };
  readonly #acked: number[] = [];
  readonly #options: WorldOptions;
  readonly #random: Prng;
  readonly #disk = new SimDisk();
  readonly #clock = new SimClock();
  /** A log that is deleted and made anew under the same name. */
  #gamma: Log | undefined;
  #gammaCount = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#random = new Prng(options.seed);
  }

  /** Runs the workload: phases of steps with clean closes between. */
  async run(): Promise<void> {
    const { seed, survivals, steps } = this.#options;
    const crashSeeds = new Prng(seed * 7919);
    const delays = new Prng(seed * 31);
    this.#disk.delay = () => (delays.chance(0.5) ? undefined : turns(delays.nextInt(1, 3)));
    this.#disk.onOperation = (operation) => {
      const acked = new Set(this.#acked);
      for (let i = 0; i < survivals; i++) {
        const crashSeed = i < 1 ? 0 : crashSeeds.nextInt(2, 1e9);
        this.images.push({
          disk: this.#disk.crash(crashSeed),
          operation,
          seed: crashSeed,
          acked,
          begun: this.steps.length,
        });
      }
    };
    const phases = 2;
    for (let phase = 0; phase < phases; phase++) {
      const directory = await openDataDirectory({
        path: dataPath,
        disk: this.#disk,
        clock: this.#clock,
        identity: { role: "storage" },
        journalFileBytes: 8192,
        unsafeSkipFsync: this.#options.unsafeSkipFsync === true,
        onEvent: (event) => {
          if (event.kind === "segmentRolled") this.exercised.rolls++;
          if (event.kind === "journalRecycled") this.exercised.recycled++;
          if (event.kind === "segmentsDeleted") this.exercised.dropped += event.count;
        },
      });
      const logs: Log[] = [];
      for (const id of logIds) {
        if (phase === 0) this.steps.push({ kind: "create", log: keyOf(id) });
        const number = this.steps.length - 1;
        logs.push(await directory.createLog(id, config));
        if (phase === 0) this.#acked.push(number);
      }
      const osLog = await directory.createLog(osId, { ...config, flushPolicy: "os" });
      this.#gamma = directory.logs.find((log) => log.label === "gamma-0");
      for (let i = 0; i < steps / phases; i++) await this.#step(directory, logs, osLog);
      await directory.close();
    }
  }

  async #step(directory: DataDirectory, logs: readonly Log[], osLog: Log): Promise<void> {
    const random = this.#random;
    const choice = random.nextFloat();
    if (choice < 0.04) await this.#recreate(directory);
    else if (choice < 0.08) await this.#retain(directory, random.pick(logs));
    else if (choice < 0.13) await this.#truncate(random.pick(logs.filter((log) => log.id.kind === "topic")));
    else if (choice < 0.2) this.#advance(random.pick(logs));
    else this.#commit(directory, this.#gamma === undefined ? logs : [...logs, this.#gamma]);
    if (random.chance(0.3)) await directory.flush();
    if (random.chance(0.3)) this.#clock.advance(random.pick([1, 250, 1100]));
    if (random.chance(0.3)) this.#commitOs(directory, osLog);
    await turns(random.nextInt(0, 4));
  }

  #commit(directory: DataDirectory, logs: readonly Log[]): void {
    const random = this.#random;
    const number = this.steps.length;
    const count = random.nextInt(1, 4);
    const chosen = logs.filter(() => random.chance(0.6));
    const batch = batchOf(number, count, random.pick([10, 100, 600]));
    const appends =
      chosen.length === 0 ? [] : [{ logs: chosen, batch, leaderEpoch: epochOf(this.#options.seed, number) }];
    const state = Object.entries(stateOf(number)).map(([key, value]) => ({
      key,
      value: value === null ? null : Buffer.from(value),
    }));
    const { baseOffsets, durable } = directory.commit(appends, state, { lazy: random.chance(0.1) });
    const placed = chosen.map((log, i) => ({
      log: keyOf(log.id),
      baseOffset: baseOffsets[0]?.[i] as number,
      count,
    }));
    this.steps.push({ kind: "commit", number, placed });
    this.exercised.commits++;
    void durable.then(() => this.#acked.push(number));
  }

  #commitOs(directory: DataDirectory, log: Log): void {
    const count = this.#random.nextInt(1, 3);
    const batch = batchOf(this.steps.length, count, this.#random.pick([10, 300]));
    const { baseOffsets } = directory.commit([{ logs: [log], batch, leaderEpoch: 0 }]);
    this.steps.push({ kind: "osCommit", baseOffset: baseOffsets[0]?.[0] as number, count });
    this.exercised.osCommits++;
  }

  async #truncate(log: Log): Promise<void> {
    if (log.endOffset - log.startOffset < 2) return;
    const wanted = this.#random.nextInt(log.startOffset, log.endOffset - 1);
    const [chunk] = await log.read(wanted, 1, "end");
    const offset =
      chunk === undefined ? wanted : ([...iterateBatches(chunk)][0]?.header.baseOffset ?? wanted);
    if (offset < log.startOffset) return;
    const number = this.steps.length;
    this.steps.push({ kind: "truncate", log: keyOf(log.id), offset });
    this.exercised.truncations++;
    await log.truncate(offset);
    this.#acked.push(number);
  }

  #advance(log: Log): void {
    const offset = this.#random.nextInt(log.startOffset, log.durableOffset);
    this.steps.push({ kind: "start", log: keyOf(log.id), offset });
    log.advanceStart(offset);
  }

  async #retain(directory: DataDirectory, log: Log): Promise<void> {
    this.steps.push({ kind: "start", log: keyOf(log.id), offset: log.durableOffset });
    log.alterConfig({ ...config, retentionBytes: this.#random.pick([0, 2000, 5000]) });
    await directory.applyRetention();
    log.alterConfig(config);
  }

  /** Makes the log, or deletes it; the next one has the same name and another id. */
  async #recreate(directory: DataDirectory): Promise<void> {
    const old = this.#gamma;
    const number = this.steps.length;
    if (old === undefined) {
      const id: LogId = {
        kind: "topic",
        topicId: `G${this.#gammaCount++}`.padEnd(22, "G"),
        topicName: "gamma",
        partition: 0,
      };
      this.steps.push({ kind: "create", log: keyOf(id) });
      this.#gamma = await directory.createLog(id, config);
    } else {
      this.#gamma = undefined;
      this.steps.push({ kind: "delete", log: keyOf(old.id) });
      await directory.deleteLog(old);
      this.exercised.deletions++;
    }
    this.#acked.push(number);
  }

  /**
   * Throws with the reason when the recovered directory is not what was promised. Opens the image, checks it, cuts the power
   * again, opens again and expects the same, then appends.
   */
  async verify(image: CrashImage): Promise<void> {
    const where = `world ${this.#options.seed}, after operation ${image.operation.number} (${image.operation.kind} ${image.operation.path}), crash seed ${image.seed}`;
    try {
      const first = await openOn(image.disk, { exercised: this.exercised });
      this.exercised.replayed += first.recovery.replayedEntries;
      const seen = await contentsOf(first);
      this.#check(image, structuredClone(seen));
      if (first.recovery.corruptRanges.length > 0)
        throw new Error("corruption was reported where only power was cut");
      const again = image.disk.crash(0);
      const second = await openOn(again);
      const seenAgain = await contentsOf(second);
      if (JSON.stringify(seen) !== JSON.stringify(seenAgain)) {
        throw new Error(`a second recovery differs:\n${JSON.stringify(seen)}\n${JSON.stringify(seenAgain)}`);
      }
      await appendOne(second);
      await second.close();
    } catch (error) {
      throw new Error(
        `${where}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
        { cause: error },
      );
    }
  }

  #check(image: CrashImage, seen: Contents): void {
    const last = seen.state["last"] === undefined ? -1 : Number(seen.state["last"]);
    for (const number of image.acked) {
      if (number > last && this.steps[number]?.kind === "commit") {
        throw new Error(
          `commit ${number} was acknowledged and is gone: the directory goes through commit ${last}`,
        );
      }
    }
    this.#checkPresence(image, seen);
    this.#checkOs(image, seen, last);
    // A truncation behind the last commit may be there or not, unless it was acknowledged.
    const options = [this.#expected(last, image, false), this.#expected(last, image, true)].map((each) =>
      JSON.stringify(each),
    );
    const found = JSON.stringify(cutToStart(seen, seen));
    const isExpected = options.some(
      (text) => JSON.stringify(cutToStart(JSON.parse(text) as Contents, seen)) === found,
    );
    if (!isExpected)
      throw new Error(`through commit ${last}:\nfound    ${found}\nexpected ${options.join("\n or      ")}`);
    for (const [label, log] of Object.entries(seen.logs)) {
      const asked = this.steps
        .slice(0, image.begun)
        .filter((step) => step.kind === "start" && step.log === label)
        .map((step) => (step.kind === "start" ? step.offset : 0));
      if (log.start > Math.max(0, ...asked))
        throw new Error(`${label} starts at ${log.start}, nobody asked for that`);
    }
  }

  /** J6: what is left of the `os` log is a prefix, and holds all that stands before the last commit in the journal. */
  #checkOs(image: CrashImage, seen: Contents, last: number): void {
    const found = JSON.stringify(seen.logs[keyOf(osId)]?.batches ?? []);
    const steps = [...this.steps.slice(0, image.begun).entries()];
    const all = steps.flatMap(([number, step]) =>
      step.kind === "osCommit" ? [[step.baseOffset, step.count, number] as const] : [],
    );
    const prefixes = all.map((_, i) => all.slice(0, i + 1)).concat([[]]);
    const isPrefix = prefixes.some(
      (prefix) =>
        JSON.stringify(prefix) === found &&
        all.every(([, , number], i) => number > last || i < prefix.length),
    );
    if (!isPrefix)
      throw new Error(`the os log holds ${found} through commit ${last} of ${JSON.stringify(all)}`);
    Reflect.deleteProperty(seen.logs, keyOf(osId));
  }

  /** Logs whose making was acknowledged are there, those whose deletion was are not. */
  #checkPresence(image: CrashImage, seen: Contents): void {
    for (const [index, step] of this.steps.slice(0, image.begun).entries()) {
      if (step.kind !== "create" && step.kind !== "delete") continue;
      const isThere = step.log in seen.logs;
      const isDeleting = this.steps
        .slice(0, image.begun)
        .some((each) => each.kind === "delete" && each.log === step.log);
      if (step.kind === "create" && image.acked.has(index) && !isDeleting && !isThere)
        throw new Error(`${step.log} is missing`);
      if (step.kind === "delete" && image.acked.has(index) && isThere)
        throw new Error(`${step.log} was deleted and is back`);
    }
  }

  /** The contents after all steps through commit `last` and the truncations that must or may follow. */
  #expected(last: number, image: CrashImage, withPending: boolean): Contents {
    const logs: Contents["logs"] = {};
    const state: Contents["state"] = {};
    for (const [index, step] of this.steps.slice(0, image.begun).entries()) {
      if (step.kind === "commit" && index <= last) {
        for (const { log, baseOffset, count } of step.placed) {
          logs[log]?.batches.push([baseOffset, count, step.number]);
        }
        Object.assign(state, stateOf(step.number));
      }
      if (step.kind === "create") logs[step.log] = { start: 0, batches: [] };
      if (step.kind !== "truncate") continue;
      if (index > last && !image.acked.has(index) && !withPending) continue;
      const log = logs[step.log];
      if (log !== undefined) log.batches = log.batches.filter(([baseOffset]) => baseOffset < step.offset);
    }
    for (const [key, value] of Object.entries(state)) if (value === null) Reflect.deleteProperty(state, key);
    return { logs, state };
  }
}

/** What a commit writes into the state table, besides its number. */
function stateOf(number: number): Record<string, string | null> {
  return { last: String(number), [`key-${number % 5}`]: number % 4 === 0 ? null : String(number) };
}

/** What a directory holds: per log [base offset, record count, commit number] of each batch. */
interface Contents {
  readonly logs: Record<string, { readonly start: number; batches: [number, number, number][] }>;
  readonly state: Record<string, string | null>;
}

/** Only what lies at or above the recovered starts, in a comparable form. */
function cutToStart(contents: Contents, seen: Contents): unknown {
  const logs = Object.entries(seen.logs).map(([label, { start }]) => [
    label,
    (contents.logs[label]?.batches ?? []).filter(([baseOffset, count]) => baseOffset + count > start),
  ]);
  return { logs, state: Object.entries(contents.state).sort() };
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function contentsOf(directory: DataDirectory): Promise<Contents> {
  const logs: Contents["logs"] = {};
  for (const log of [...directory.logs].sort((a, b) => keyOf(a.id).localeCompare(keyOf(b.id)))) {
    const batches: [number, number, number][] = [];
    if (log.failure !== undefined) throw log.failure;
    if (log.durableOffset !== log.endOffset) throw new Error(`${log.label} serves more than is durable`);
    let offset = log.startOffset;
    while (offset < log.endOffset) {
      for (const chunk of await log.read(offset, 1000)) {
        for (const { position, header } of iterateBatches(chunk)) {
          if (batches.length > 0 && header.baseOffset !== offset)
            throw new Error(`${log.label} has a gap at ${offset}`);
          const records = decodeBatch(chunk, position);
          const numbers = new Set(
            records.map(
              (record) =>
                Buffer.from(record.value ?? [])
                  .toString()
                  .split(":")[0],
            ),
          );
          if (numbers.size !== 1) throw new Error(`${log.label} has a mixed batch at ${offset}`);
          const epoch = log.epochAt(Math.max(header.baseOffset, log.startOffset));
          if (log.id.kind === "topic" && epoch !== header.leaderEpoch) {
            throw new Error(
              `${log.label} gives epoch ${epoch} for the batch of epoch ${header.leaderEpoch} at ${offset}`,
            );
          }
          batches.push([header.baseOffset, header.recordCount, Number([...numbers][0])]);
          offset = header.nextOffset;
        }
      }
    }
    checkProducer(log, batches.at(-1));
    await checkTimes(log, batches);
    logs[keyOf(log.id)] = { start: log.startOffset, batches };
  }
  const state: Contents["state"] = {};
  for (const key of directory.stateKeys(""))
    state[key] = Buffer.from(directory.getState(key) ?? []).toString();
  return { logs, state };
}

/** The first and last batch of a log are found by their time; each has its own. */
async function checkTimes(log: Log, batches: readonly [number, number, number][]): Promise<void> {
  for (const [baseOffset, , number] of new Set(
    [batches[0], batches.at(-1)].filter((batch) => batch !== undefined),
  )) {
    const found = await log.offsetForTime(1_700_000_000_000 + number);
    if (found?.offset !== Math.max(baseOffset, log.startOffset)) {
      throw new Error(
        `${log.label}: time of commit ${number} gives ${JSON.stringify(found)}, not ${baseOffset}`,
      );
    }
  }
}

/** P4: the producer's state is that of the last batch in the log. */
function checkProducer(log: Log, last: [number, number, number] | undefined): void {
  if (log.id.kind !== "topic" || last === undefined) return;
  const [baseOffset, count, number] = last;
  const [info] = log.producers();
  if (info?.lastOffset !== baseOffset + count - 1 || info.lastSequence !== number * 8 + count - 1) {
    throw new Error(
      `${log.label}: producer state ${JSON.stringify(info)} after batch ${JSON.stringify(last)}`,
    );
  }
}

async function appendOne(directory: DataDirectory): Promise<void> {
  const logs = directory.logs;
  if (logs.length === 0) return;
  const batch = batchOf(9999, 2, 20);
  const { baseOffsets, durable } = directory.commit([{ logs, batch, leaderEpoch: 9999 }]);
  await durable;
  for (const [i, log] of logs.entries()) {
    const offset = baseOffsets[0]?.[i] as number;
    const [chunk] = await log.read(offset, 1000);
    const value = chunk === undefined ? undefined : decodeBatch(chunk)[1]?.value;
    if (value === undefined || value === null || !Buffer.from(value).toString().startsWith("9999:1")) {
      throw new Error(`${log.label} does not give back what was appended at ${offset}`);
    }
  }
}
