/**
 * The rules bite: for each layer rule and each lint rule we rely on, a planted violation is reported by that rule and
 * clean code is not. Layers are tried on a copy of the house in a temporary folder, lint on texts that stand in for
 * existing files (type-aware rules need a file that the project knows).
 */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { ESLint } from "eslint";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import layers from "../../scripts/layers.json" with { type: "json" };
import { manifests, root } from "./files.ts";

interface Cruise {
  readonly summary: {
    readonly violations: readonly { readonly from: string; readonly rule: { readonly name: string } }[];
  };
}

/** Planted file -> its text and the rule that must report it. */
const planted: readonly { path: string; code: string; rule: string }[] = [
  ...Object.keys(layers.arrows)
    .filter((library) => library !== "replication" && library !== "testkit")
    .map((library) => ({
      path: `libs/${layers.pure.includes(library) ? `core/${library}` : library}/src/planted-layer.ts`,
      // The testkit is at the far end: no arrow leads there. Types are edges like values.
      code: 'import type { thing } from "@millrace/testkit"; export type Planted = typeof thing;',
      rule: `layer-${library}`,
    })),
  ...Object.keys(layers.owners).map((name) => ({
    path: `libs/flow/src/planted-${name.replaceAll(/\W/g, "-")}.ts`,
    code: `import { thing } from "${name}"; export const planted = thing;`,
    rule: `owner-${name.replaceAll(/[^a-z0-9]+/g, "-").replace(/^-/, "")}`,
  })),
  ...[
    { path: "libs/record/src/planted-up.ts", module: "@millrace/log", rule: "layer-record" },
    { path: "libs/telemetry/src/planted-side.ts", module: "@millrace/config", rule: "layer-telemetry" },
    { path: "libs/core/base/src/planted-node.ts", module: "node:fs", rule: "core-is-pure" },
    { path: "libs/core/controller/src/planted-npm.ts", module: "zod", rule: "core-is-pure" },
    {
      path: "libs/log/src/planted-inside.ts",
      module: "../../record/src/inside.ts",
      rule: "only-package-entry",
    },
    {
      path: "services/storage/src/planted-generated.ts",
      module: "../../../libs/proto/src/inside.ts",
      rule: "only-package-entry",
    },
    {
      path: "services/agent/src/planted-testkit.ts",
      module: "@millrace/testkit",
      rule: "testkit-only-in-tests",
    },
    {
      path: "services/agent/src/planted-neighbour.ts",
      module: "@millrace/service-storage",
      rule: "services-are-strangers",
    },
    {
      path: "libs/flow/src/planted-service.ts",
      module: "@millrace/service-agent",
      rule: "only-cli-imports-services",
    },
    {
      path: "cli/src/planted-static.ts",
      module: "@millrace/service-agent",
      rule: "cli-imports-services-dynamically",
    },
    {
      path: "services/metadata/src/planted-cli.ts",
      module: "../../../cli/src/index.ts",
      rule: "nobody-imports-cli",
    },
    {
      path: "libs/components/src/netcat/planted-neighbour.ts",
      module: "../taildir/inside.ts",
      rule: "neighbouring-technologies",
    },
    { path: "libs/log/src/planted-test.ts", module: "./inside.test.ts", rule: "no-test-imports" },
    { path: "libs/log/src/planted-testing.ts", module: "./testing/allowed.ts", rule: "no-test-imports" },
    { path: "libs/log/src/planted-deep.ts", module: "@millrace/record/src/inside.ts", rule: "resolvable" },
    { path: "libs/log/src/planted-nowhere.ts", module: "@millrace/nowhere", rule: "resolvable" },
    { path: "libs/log/src/planted-cycle.ts", module: "./planted-cycle.ts", rule: "no-cycles" },
  ].map(({ path, module, rule }) => ({
    path,
    code: `import { thing } from "${module}"; export { thing };`,
    rule,
  })),
];

/** What the same places may do: none of it may be reported. */
const allowed: readonly { path: string; code: string }[] = [
  { path: "libs/log/src/allowed-transitive.ts", code: 'export { thing } from "@millrace/base";' },
  {
    path: "libs/record/src/allowed-node.ts",
    code: 'import "node:fs"; export { thing } from "@node-rs/crc32";',
  },
  { path: "services/agent/src/allowed-subpath.ts", code: 'export { thing } from "@millrace/proto/common";' },
  { path: "libs/log/src/allowed.test.ts", code: 'export { thing } from "@millrace/testkit";' },
  { path: "libs/log/src/testing/allowed.ts", code: 'export { thing } from "@millrace/testkit";' },
  { path: "libs/core/base/src/allowed.test.ts", code: 'import "node:fs";' },
  {
    path: "cli/src/allowed-dynamic.ts",
    code: 'export const load = () => import("@millrace/service-agent");',
  },
  { path: "libs/components/src/netcat/allowed.ts", code: 'export { thing } from "../limits.ts";' },
];

const stubs = [
  "libs/record/src/inside.ts",
  "libs/proto/src/millrace/common/v1/common.ts",
  "libs/proto/src/inside.ts",
  "libs/log/src/inside.test.ts",
  "cli/src/index.ts",
];
const componentStubs = ["libs/components/src/taildir/inside.ts", "libs/components/src/limits.ts"];
const stub = "export const thing = 1;\n";

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

/** The house with empty rooms: real package.json files, one-line entries, packages linked as npm links them. */
async function buildHouse(house: string): Promise<void> {
  const tools = ["tsconfig.json", "tsconfig.base.json", ".dependency-cruiser.cjs", "scripts/layers.json"];
  for (const name of tools) await cp(join(root, name), join(house, name));
  const packages = manifests.filter((manifest) => /^(libs|services|cli)/.test(manifest.folder));
  for (const { folder, path, name } of packages) {
    await cp(join(root, path), join(house, path));
    await put(join(house, folder, "src/index.ts"), stub);
    const link = join(house, "node_modules", name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(relative(dirname(link), join(house, folder)), link);
  }
  for (const name of Object.keys(layers.owners)) {
    await put(join(house, "node_modules", name, "package.json"), JSON.stringify({ name, main: "index.js" }));
    await put(join(house, "node_modules", name, "index.js"), stub);
  }
  for (const path of [...stubs, ...componentStubs]) await put(join(house, path), stub);
  for (const { path, code } of [...planted, ...allowed]) await put(join(house, path), `${code}\n`);
}

function cruise(house: string): Promise<Cruise> {
  const cli = join(root, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs");
  const args = [cli, "--output-type", "json", "cli", "libs", "services"];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd: house, maxBuffer: 64 << 20 }, (_error, stdout, stderr) => {
      // A found violation is an exit code, too; only output that is no report is a failure.
      if (stdout.startsWith("{")) resolve(JSON.parse(stdout) as Cruise);
      else reject(new Error(stderr || stdout));
    });
  });
}

describe("layers", () => {
  let house = "";
  const reported = new Map<string, Set<string>>();

  beforeAll(async () => {
    house = await mkdtemp(join(await realpath(tmpdir()), "millrace-rules-"));
    await buildHouse(house);
    for (const { from, rule } of (await cruise(house)).summary.violations) {
      reported.set(from, (reported.get(from) ?? new Set()).add(rule.name));
    }
  });

  afterAll(async () => {
    await rm(house, { recursive: true, force: true });
  });

  test.for(planted)("$rule reports $path", ({ path, rule }) => {
    expect([...(reported.get(path) ?? [])]).toContain(rule);
  });

  test.for(allowed)("nothing is said about $path", ({ path }) => {
    expect([...(reported.get(path) ?? [])]).toEqual([]);
  });

  test("only planted files are reported: the house itself is in order", () => {
    const paths = new Set(planted.map(({ path }) => path));
    expect([...reported.keys()].filter((path) => !paths.has(path))).toEqual([]);
  });
});

describe("lint", () => {
  const pure = "libs/core/base/src/prng.ts";
  const service = "libs/runtime/src/clock.ts";
  const exported = (body: string): string => `export function planted(): unknown {\n  ${body}\n}\n`;
  const many = (count: number, line: string): string => Array.from({ length: count }, () => line).join("\n");

  const cases: readonly { what: string; file: string; code: string; rule: string }[] = [
    {
      what: "a floating promise",
      file: service,
      code: "async function go(): Promise<void> {}\nexport function planted(): void {\n  go();\n}\n",
      rule: "@typescript-eslint/no-floating-promises",
    },
    {
      what: "a switch that forgets a case",
      file: service,
      code: 'export function planted(kind: "a" | "b"): void {\n  switch (kind) {\n    case "a":\n  }\n}\n',
      rule: "@typescript-eslint/switch-exhaustiveness-check",
    },
    {
      what: "any",
      file: service,
      code: "export const planted: any = 1;\n",
      rule: "@typescript-eslint/no-explicit-any",
    },
    {
      what: "console in a library",
      file: service,
      code: exported('console.log("x"); return 1;'),
      rule: "no-console",
    },
    { what: "a default export", file: service, code: "export default 1;\n", rule: "no-restricted-exports" },
    { what: "501 lines", file: service, code: many(501, "export {};"), rule: "max-lines" },
    {
      what: "a function of 80 lines",
      file: service,
      code: exported(many(80, "void 0;")),
      rule: "max-lines-per-function",
    },
    {
      what: "16 branches",
      file: service,
      code: exported(many(16, "if (Number(1) > 2) return 1;")),
      rule: "complexity",
    },
    {
      what: "async in the core",
      file: pure,
      code: "export async function planted() {}\n",
      rule: "no-restricted-syntax",
    },
    {
      what: "Math.random in the core",
      file: pure,
      code: exported("return Math.random();"),
      rule: "no-restricted-syntax",
    },
    {
      what: "Date in the core",
      file: pure,
      code: exported("return Date.now();"),
      rule: "no-restricted-globals",
    },
    {
      what: "a timer in the core",
      file: pure,
      code: exported("return setTimeout(planted, 1);"),
      rule: "no-restricted-globals",
    },
    {
      what: "process in the core",
      file: pure,
      code: exported("return process.pid;"),
      rule: "no-restricted-globals",
    },
    {
      what: "node: in the core",
      file: pure,
      code: 'export { readFileSync } from "node:fs";\n',
      rule: "no-restricted-imports",
    },
  ];

  let eslint: ESLint;
  beforeAll(() => {
    eslint = new ESLint({ cwd: root });
  });

  test.for(cases)("$what is reported by $rule", async ({ file, code, rule }) => {
    const [result] = await eslint.lintText(code, { filePath: join(root, file) });
    expect(result?.messages.map((message) => message.ruleId)).toContain(rule);
  });

  test("clean code is not reported", async () => {
    const code = "export function planted(count: number): string {\n  return `${count} records`;\n}\n";
    for (const file of [pure, service]) {
      const [result] = await eslint.lintText(code, { filePath: join(root, file) });
      expect(result?.messages).toEqual([]);
    }
  });
});
