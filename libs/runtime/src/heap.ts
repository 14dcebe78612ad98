/** The heap of a process that moves bytes. */
import { setFlagsFromString } from "node:v8";

/** Growth over what is live before the old space is collected, percent: the factor 4 is V8's own upper bound. */
const heapGrowthPercent = 300;

/**
 * For services: V8 counts buffers against the old space's limit, and sets that limit some 8 MB above what is live in a
 * small heap. A service that has 20 MB live and lets buffers pass then marks its whole heap every 8 MB of them. Measured
 * on the storage service (docs/BENCHMARKS.md): a third of its CPU. Call it before the work begins; it costs up to three
 * times the live heap in memory, so not where a small footprint matters more.
 */
export function letHeapGrow(): void {
  setFlagsFromString(`--heap-growing-percent=${heapGrowthPercent}`);
}
