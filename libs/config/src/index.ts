export { z } from "zod";
export { describeProblems, type LoadedConfig, type LoadOptions, loadConfig } from "./load.ts";
export { formatYaml, printConfig, renderReference } from "./print.ts";
export { Secret } from "./secret.ts";
export {
  addressList,
  type Bounds,
  duration,
  formatDuration,
  formatHostPort,
  formatSize,
  type HostPort,
  hostPort,
  parseDuration,
  parseHostPort,
  parseSize,
  port,
  secret,
  size,
} from "./values.ts";
export { type ConfigPath, type PositionedData, parseYamlWithPositions } from "./yaml.ts";
