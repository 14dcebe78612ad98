/**
 * All generators. To add one, write a module in this folder that exports a `Generator` and list it here; `npm run
 * generate` writes its files and `npm run check` fails when they are out of date.
 */
import { errorsReference } from "./errors-reference.ts";
import type { Generator } from "./generator.ts";
import { protoGenerator } from "./proto.ts";
import { telemetryReference } from "./telemetry-reference.ts";

/** In the order they run: generated code first, because reference pages may be read from it. */
export const generators: readonly Generator[] = [protoGenerator, errorsReference, telemetryReference];
