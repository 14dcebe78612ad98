/**
 * All generators. To add one, write a module in this folder that exports a `Generator` and list it here; `npm run
 * generate` writes its files and `npm run check` fails when they are out of date. They are loaded one by one, so that
 * a page whose code does not load yet keeps nothing else from being written: generated code least of all.
 */
import type { Generator } from "./generator.ts";

/** In the order they run: generated code first, because pages are read from code that imports it. */
export const generators: readonly { readonly name: string; readonly load: () => Promise<Generator> }[] = [
  { name: "protobuf code", load: async () => (await import("./proto.ts")).protoGenerator },
  { name: "errors reference", load: async () => (await import("./errors-reference.ts")).errorsReference },
  {
    name: "configuration reference",
    load: async () => (await import("./config-reference.ts")).configReference,
  },
  {
    name: "components reference",
    load: async () => (await import("./component-reference.ts")).componentReference,
  },
  { name: "command line reference", load: async () => (await import("./cli-reference.ts")).cliReference },
  {
    name: "telemetry reference",
    load: async () => (await import("./telemetry-reference.ts")).telemetryReference,
  },
];
