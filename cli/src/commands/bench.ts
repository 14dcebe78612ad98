/** `millrace bench`: how fast a running cluster takes and gives records, in the columns of Kafka's perf tests. */
import type { Command } from "commander";
import { type ClusterOptions, type FormatOptions, withClient, withCluster, withFormat } from "../cluster.ts";
import { addExamples } from "../help.ts";
import { wholeNumber } from "../numbers.ts";
import { Output } from "../output.ts";

/** Adds `bench` and what is below it. */
export function addBenchCommands(program: Command): void {
  const bench = program.command("bench").description("Measure a running cluster.");
  addProduce(bench);
  addConsume(bench);
}

/** Options of `bench produce`. */
export interface BenchProduceOptions extends ClusterOptions, FormatOptions {
  readonly records: number;
  readonly size: number;
  readonly rate: number;
  readonly batchBytes: number;
  readonly linger: number;
}

function addProduce(bench: Command): void {
  const command = bench
    .command("produce")
    .description("Produce random records and measure throughput and the time to the ack.")
    .argument("<topic>", "name; create it before")
    .option("--records <count>", "records to send", wholeNumber(1), 500_000)
    .option("--size <bytes>", "bytes of each value", wholeNumber(1, 16_000_000), 1024)
    .option("--rate <records>", "records per second at most; 0 = as fast as it goes", wholeNumber(0), 0)
    .option("--batch-bytes <bytes>", "size at which a batch is sent", wholeNumber(1, 16_000_000), 256 * 1024)
    .option("--linger <ms>", "time a batch waits for more", wholeNumber(0, 60_000), 5)
    .action(async (topic: string, options: BenchProduceOptions) => {
      const { benchProduce } = await import("../bench.ts");
      await withClient(options, async (client) =>
        new Output().print(await benchProduce(client, topic, options), options.output),
      );
    });
  addExamples(withFormat(withCluster(command)), [
    ["1 KB records as fast as they go", "millrace bench produce logs"],
    ["latency at 10 MB/s", "millrace bench produce logs --rate 10000 --records 100000"],
  ]);
}

/** Options of `bench consume`. */
export interface BenchConsumeOptions extends ClusterOptions, FormatOptions {
  readonly records: number;
}

function addConsume(bench: Command): void {
  const command = bench
    .command("consume")
    .description("Read a topic from its start and measure throughput.")
    .argument("<topic>", "name")
    .option("--records <count>", "records to read", wholeNumber(1), 500_000)
    .action(async (topic: string, options: BenchConsumeOptions) => {
      const { benchConsume } = await import("../bench.ts");
      await withClient(options, async (client) =>
        new Output().print(await benchConsume(client, topic, options), options.output),
      );
    });
  addExamples(withFormat(withCluster(command)), [
    ["a million records", "millrace bench consume logs --records 1000000"],
  ]);
}
