/** Type-aware lint. Formatting is Biome's, layers are dependency-cruiser's, dead code is knip's. */
import { builtinModules } from "node:module";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

const tests = [
  "**/*.test.ts",
  "**/testing/**/*.ts",
  "test/**/*.ts",
  "libs/testkit/**/*.ts",
  "examples/**/*.ts",
];

/** libs/core is pure: a function of its inputs, so that the simulator can replay it. Its tests may do anything. */
const pureGlobals = [
  ...["Date", "performance", "setTimeout", "setInterval", "setImmediate", "queueMicrotask", "clearTimeout"],
  ...[
    "clearInterval",
    "clearImmediate",
    "process",
    "Buffer",
    "Promise",
    "crypto",
    "fetch",
    "console",
    "globalThis",
  ],
];

const pureSyntax = [
  [":function[async=true]", "no async functions"],
  ["AwaitExpression", "no await"],
  ["ForOfStatement[await=true]", "no for await"],
  ["ImportExpression", "no dynamic import"],
  ["MemberExpression[object.name='Math'][property.name='random']", "no Math.random: take a Prng"],
];

export default defineConfig(
  {
    ignores: ["**/node_modules/", "**/dist/", "libs/proto/src/", ".millrace/", "bench-results/", "coverage/"],
  },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        // A default branch that throws is a good answer to values from the wire.
        { considerDefaultExhaustiveForUnions: true, allowDefaultCaseForExhaustiveSwitch: true },
      ],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      // Numbers and bigints of counters are joined into messages everywhere; only objects print badly.
      "@typescript-eslint/restrict-plus-operands": ["error", { allowNumberAndString: true }],
      // `() => fire()` is the usual shape of a callback; the value is void either way.
      "@typescript-eslint/no-confusing-void-expression": "off",
      // Invariants check what the types already promise: values come from disks and peers.
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: true }],
      // An interface may ask for a promise where one implementation needs none.
      "@typescript-eslint/require-await": "off",
      // `_` marks what a signature asks for and the body does not need.
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // Empty callbacks and classes are legitimate defaults; the rule only asks for a comment in them.
      "@typescript-eslint/no-empty-function": "off",
      // `while (true)` with a return reads better than a flag.
      "no-constant-condition": ["error", { checkLoops: false }],
      "no-console": "error",
      "max-lines": ["error", { max: 500 }],
      "max-lines-per-function": ["error", { max: 70, skipBlankLines: true, skipComments: true }],
      complexity: ["error", 15],
      eqeqeq: "error",
      "prefer-const": "error",
      "no-restricted-exports": ["error", { restrictDefaultExports: { direct: true, named: true } }],
    },
  },
  {
    files: ["libs/core/**/*.ts"],
    ignores: ["**/*.test.ts", "**/testing/**"],
    rules: {
      "no-restricted-globals": [
        "error",
        ...pureGlobals.map((name) => ({ name, message: "libs/core is pure" })),
      ],
      "no-restricted-syntax": [
        "error",
        ...pureSyntax.map(([selector, message]) => ({ selector, message: `libs/core is pure: ${message}` })),
      ],
      "no-restricted-imports": [
        "error",
        {
          paths: builtinModules,
          patterns: [{ group: ["node:*"], message: "libs/core is pure: no Node modules" }],
        },
      ],
    },
  },
  {
    files: tests,
    rules: {
      "max-lines": ["error", { max: 800 }],
      // A describe block is one function; so is a long scenario.
      "max-lines-per-function": "off",
      // `!` in a test fails the test, which is what it is for.
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
  {
    // The command line's output, and tools whose product is what they print.
    files: ["cli/src/output/**/*.ts", "scripts/**/*.ts", "test/bench/**/*.ts", "examples/**/*.ts"],
    rules: { "no-console": "off" },
  },
  {
    // Their tools ask for a default export.
    files: ["*.config.ts", "scripts/lib/total-reporter.ts"],
    rules: { "no-restricted-exports": "off" },
  },
  {
    files: ["**/*.js", "**/*.cjs"],
    rules: {
      "prefer-const": "error",
      eqeqeq: "error",
      "no-undef": "off",
      "max-lines": ["error", { max: 500 }],
    },
  },
);
