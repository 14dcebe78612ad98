export { defaultPort, type MetadataOptions, type MetadataService, startMetadata } from "./main.ts";
