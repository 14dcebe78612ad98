/** Records through a file channel: putters put and wait for the fsync, one taker takes and commits. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { makeRecords, openAgentParts } from "../agent-parts.ts";
import type { BenchCase, BenchContext, Figure } from "../bench.ts";
import { rateOf } from "../measure.ts";

interface Setting {
  readonly batch: number;
  readonly putters: number;
  /** Records taken and committed per second. */
  readonly goal: number;
}

/** Flume, one putter, batch 1: 2.2k. */
const settings: readonly Setting[] = [
  { batch: 1, putters: 1, goal: 2_640 },
  { batch: 1, putters: 64, goal: 20_000 },
  { batch: 100, putters: 4, goal: 220_000 },
  { batch: 1000, putters: 4, goal: 300_000 },
];

const takeBytesMax = 1_000_000;

async function passThrough(
  folder: string,
  seconds: number,
  { batch, putters, goal }: Setting,
): Promise<Figure> {
  await mkdir(folder);
  const parts = await openAgentParts(folder, "c");
  const { channel, putPath } = parts;
  const records = makeRecords(batch);
  const stopping = new AbortController();
  let takenCount = 0;
  let isOver = false;
  const putting = Array.from({ length: putters }, async () => {
    while (!isOver) {
      const outcome = await putPath.offer({ records }, { waitMs: Infinity, signal: stopping.signal });
      if (outcome !== "committed") throw new Error(`a put was ${outcome}`);
    }
  });
  const taking = (async () => {
    while (!stopping.signal.aborted) {
      const take = await channel.take(Math.max(batch, putters), takeBytesMax);
      if (take === undefined) {
        await channel.whenTakable(stopping.signal);
        continue;
      }
      channel.commit(take.from, take.to);
      takenCount += take.records.length;
    }
  })();
  const { perSecond } = await rateOf(() => takenCount, seconds);
  isOver = true;
  await Promise.all(putting);
  stopping.abort();
  await taking;
  await parts.close();
  const who = putters === 1 ? "1 putter" : `${putters} putters`;
  return { name: `file channel, batch ${batch}, ${who}`, value: perSecond, unit: "records/s", goal };
}

/** All settings. */
export const channelCase: BenchCase = {
  name: "channel",
  summary: "500 B records through a file channel: put, fsync, take, commit",
  run: async ({ folder, seconds }: BenchContext) => {
    const figures: Figure[] = [];
    for (const setting of settings) {
      const own = join(folder, `${setting.batch}-${setting.putters}`);
      figures.push(await passThrough(own, seconds, setting));
    }
    return figures;
  },
};
