export { type MetadataConfig, metadataConfigSchema, metadataOptions } from "./config.ts";
export { defaultPort, type MetadataOptions, type MetadataService, startMetadata } from "./main.ts";
