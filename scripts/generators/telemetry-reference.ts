/**
 * `docs/reference/telemetry.md`: all declared metrics and events. Declarations register themselves when their module
 * loads, so every module that declares something is found by its text and loaded.
 */
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describeDeclarations } from "@millrace/telemetry";
import { generatedNotice } from "../lib/markdown.ts";
import { root } from "../lib/run.ts";
import type { Generator } from "./generator.ts";

const declares = /\bdeclare(Counter|Gauge|Histogram|Event)\(/;

/** The generator of the telemetry page. */
export const telemetryReference: Generator = {
  owns: [],
  async generate() {
    for (const path of await declaringModules()) await import(pathToFileURL(path).href);
    const content = `# Metrics and events

${generatedNotice("the declarations in the code")}

Every process serves \`/metrics\` (Prometheus text), \`/healthz\` and \`/readyz\` on its HTTP port.

${describeDeclarations()}`;
    return [{ path: "docs/reference/telemetry.md", content }];
  },
};

async function declaringModules(): Promise<string[]> {
  const found: string[] = [];
  for await (const name of glob("{libs,services,cli}/**/src/**/*.ts", {
    cwd: root,
    exclude: ["**/node_modules/**"],
  })) {
    if (name.endsWith(".test.ts") || name.includes("/testing/")) continue;
    const path = join(root, name);
    if (declares.test(await readFile(path, "utf8"))) found.push(path);
  }
  return found.sort();
}
