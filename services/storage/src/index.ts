export { type StorageConfig, storageConfigSchema, storageOptions } from "./config.ts";
export { startStorage, type StorageOptions, type StorageService } from "./wiring.ts";
