/**
 * `npm test`: the static checks of `npm run check` (each counts as a test), then every test. The last line is
 * `N passed, N failed, N skipped`, and the exit code says the same.
 *
 * `-- FILTER...`  only the tests that match (arguments of vitest), without the static checks
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./lib/run.ts";
import { runSteps, staticSteps } from "./lib/steps.ts";
import { withTemporaryFolder } from "./lib/temporary.ts";
import { type Totals, totalLine, totalsVariable } from "./lib/total-reporter.ts";

/** A run that hangs must not hang CI with it. */
const testsTimeoutMs = 60 * 60_000;

async function runTests(args: readonly string[]): Promise<Totals> {
  return withTemporaryFolder("millrace-test-", async (folder) => {
    const file = join(folder, "totals.json");
    const result = await run("vitest", ["run", ...args], {
      env: { [totalsVariable]: file },
      inherit: true,
      timeoutMs: testsTimeoutMs,
    });
    const nothing: Totals = { passed: 0, failed: 0, skipped: 0 };
    const totals = await readFile(file, "utf8").then(
      (text) => JSON.parse(text) as Totals,
      () => nothing,
    );
    // A runner that broke down without counting a failure is one.
    return { ...totals, failed: result.ok ? totals.failed : Math.max(1, totals.failed) };
  });
}

async function main(filters: readonly string[]): Promise<void> {
  const checks = filters.length === 0 ? await runSteps(staticSteps()) : { passed: 0, failed: 0 };
  const tests = await runTests(filters);
  const failed = checks.failed + tests.failed;
  console.log(totalLine({ passed: checks.passed + tests.passed, failed, skipped: tests.skipped }));
  process.exitCode = failed === 0 ? 0 : 1;
}

await main(process.argv.slice(2));
