/**
 * `npm run check`: every static check, then the fast tests; one line for each.
 *
 * `-- libs/log ...`  only what concerns these folders
 */
import { existsSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { root } from "./lib/run.ts";
import { fastTests, narrowSteps, runSteps, staticSteps } from "./lib/steps.ts";

async function main(folders: readonly string[]): Promise<number> {
  const missing = folders.find((folder) => !existsSync(join(root, folder)));
  if (missing !== undefined) {
    console.log(`There is no folder ${missing} in the repository.`);
    return 2;
  }
  const started = performance.now();
  const steps = folders.length === 0 ? staticSteps() : folders.flatMap(narrowSteps);
  const checks = await runSteps(steps);
  const tests = await runSteps(folders.length === 0 ? [fastTests(undefined)] : folders.map(fastTests));
  const failed = checks.failed + tests.failed;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${failed === 0 ? "All checks passed" : `${failed} checks failed`} in ${seconds} s`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2).map((folder) => relative(root, resolve(folder))));
