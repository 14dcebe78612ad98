export { type StorageConfig, storageConfigSchema, storageOptions } from "./config.ts";
export type { PartitionStatus } from "./drivers/partitions.ts";
export { startStorage, type StorageOptions, type StorageService } from "./wiring.ts";
