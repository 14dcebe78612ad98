export { type StorageConfig, storageConfigSchema } from "./config.ts";
export { startStorage, type StorageOptions, type StorageService } from "./wiring.ts";
