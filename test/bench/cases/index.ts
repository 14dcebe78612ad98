import type { BenchCase } from "../bench.ts";
import { channelCase } from "./channel.ts";
import { diskCase } from "./disk.ts";
import { hopCase } from "./hop.ts";
import { latencyCase, produceCase, produceSmallCase } from "./topic.ts";
import { servicesCase, upCase } from "./up.ts";

/** Every benchmark, in the order they run. */
export const cases: readonly BenchCase[] = [
  diskCase,
  produceCase,
  produceSmallCase,
  latencyCase,
  channelCase,
  hopCase,
  upCase,
  servicesCase,
];
