/**
 * Two projects: `fast` are the tests beside the code and test/tidy, two files at a time; `system` are the tests under
 * test/ that start processes, one file at a time and after the fast ones. `npm run check` runs only `fast`.
 */
import { defineConfig } from "vitest/config";

const never = ["**/node_modules/**", "**/dist/**", "test/bench/**"];

export default defineConfig({
  test: {
    reporters: [["default", { summary: false }], "./scripts/lib/total-reporter.ts"],
    pool: "forks",
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "fast",
          include: ["{libs,services,cli}/**/*.test.ts", "test/tidy/**/*.test.ts"],
          exclude: never,
          testTimeout: 30_000,
          hookTimeout: 30_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "system",
          include: ["{test,examples}/**/*.test.ts"],
          exclude: [...never, "test/tidy/**"],
          testTimeout: 180_000,
          hookTimeout: 60_000,
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
