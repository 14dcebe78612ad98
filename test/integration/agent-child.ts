/** An agent as a child process: started by agent-process.ts, asked over IPC, killed without a word. */
import { type Clock, systemClock } from "@millrace/runtime";
import { runAgent } from "./test-agent.ts";

/** What the parent tells the child in the variable AGENT. */
export interface ChildOptions {
  readonly name: string;
  readonly folder: string;
  readonly yaml: string;
  readonly bootstrapServers: readonly string[];
  readonly journalFileBytes?: number;
  /** The wall clock is this much ahead, ms. */
  readonly aheadMs: number;
}

const { aheadMs, ...options } = JSON.parse(process.env["AGENT"] ?? "") as ChildOptions;
/** The system's clock with the wall clock moved; timers run in real time. */
const clock: Clock = {
  nowMs: () => systemClock.nowMs() + aheadMs,
  monotonicMs: () => systemClock.monotonicMs(),
  after: (delayMs, run) => systemClock.after(delayMs, run),
  sleep: (delayMs, signal) => systemClock.sleep(delayMs, signal),
};
const { pipeline, directory, telemetry } = await runAgent({ ...options, clock, flushIdleMs: 100 });

process.on("message", (question: unknown) => {
  void answer(question);
});
// a test that is itself killed leaves nobody behind
process.once("disconnect", () => process.exit(0));
process.send?.("ready");

async function answer(question: unknown): Promise<void> {
  if (question === "stop") {
    await pipeline.stop(500);
    await directory.close();
    process.disconnect();
    return;
  }
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  process.send?.({
    status: pipeline.status(),
    port: pipeline.addresses[0]?.port ?? 0,
    metrics: await telemetry.metrics.text(),
    memoryBytes: heapUsed + arrayBuffers,
    rssBytes: rss,
  });
}
