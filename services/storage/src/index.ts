export { type StorageConfig, storageConfigSchema, storageOptions } from "./config.ts";
export type { PartitionStatus } from "./drivers/partitions.ts";
export { type StorageOptions, type StorageService, startStorage } from "./wiring.ts";
