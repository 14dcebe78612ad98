/**
 * The vitest reporter behind the last line of a test run, `N passed, N failed, N skipped`: prints what was skipped and
 * why, then the total. Under `scripts/test.ts` the static checks count too, so it hands the figures over in the file
 * that MILLRACE_TEST_TOTALS names and leaves the last line to it.
 */
import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/** Figures of a test run. */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The environment variable that names the file for the figures (JSON of {@link Totals}). */
export const totalsVariable = "MILLRACE_TEST_TOTALS";

/** The last line of a run; the form is fixed, tools read it. */
export function totalLine(totals: Totals): string {
  return `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`;
}

/** Counts tests, and as one failure each: a file that does not load, an error outside of any test. */
export default class TotalReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    let passed = 0;
    let failed = unhandled.length;
    const skipped: string[] = [];
    for (const module of modules) {
      const broken = [module, ...module.children.allSuites()].filter((part) => part.errors().length > 0);
      failed += broken.length;
      const silence = broken.length > 0 ? "its setup failed" : "no reason given";
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed") passed += 1;
        else if (result.state === "failed") failed += 1;
        else {
          const note = result.state === "skipped" ? result.note : undefined;
          skipped.push(`  ${module.relativeModuleId} > ${test.fullName}: ${note ?? silence}`);
        }
      }
    }
    if (skipped.length > 0) console.log(`Skipped:\n${skipped.join("\n")}`);
    const totals: Totals = { passed, failed, skipped: skipped.length };
    const file = process.env[totalsVariable];
    if (file === undefined) console.log(totalLine(totals));
    else writeFileSync(file, JSON.stringify(totals));
  }
}
