export { SimClock } from "./sim-clock.ts";
export { SimDisk, type SimDiskOptions, type SimOperation } from "./sim-disk.ts";
