/**
 * `npm run pack`: what is published, as tarballs in dist/. `-- @millrace/client` packs only that.
 *
 * A published package holds the compiled code of every workspace it needs, in the same folders as here (dist/libs/log/src/...),
 * with imports of `@millrace/x` rewritten to relative paths: nothing of ours is a dependency of it, and two
 * published packages never have to agree on a third. Type declarations come along.
 */
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { root, run } from "./lib/run.ts";
import { closureOf, readWorkspaces, type Workspace } from "./lib/workspaces.ts";

interface Product {
  readonly name: string;
  /** Where compilation starts, relative to the package's folder: everything reached from there is packed. */
  readonly entry: string;
  /** What the written package.json adds for programs that use the package. */
  readonly manifest: (entry: string) => Readonly<Record<string, unknown>>;
  readonly withNode: boolean;
}

const products: readonly Product[] = [
  {
    name: "millrace",
    entry: "src/main.ts",
    manifest: () => ({
      bin: { millrace: "./bin/millrace.js" },
      exports: { "./package.json": "./package.json" },
      files: ["bin", "dist", "NOTICE"],
    }),
    withNode: true,
  },
  {
    name: "@millrace/client",
    entry: "src/index.ts",
    manifest: (entry) => ({
      exports: {
        ".": { types: `./${entry}.d.ts`, default: `./${entry}.js` },
        "./package.json": "./package.json",
      },
      types: `./${entry}.d.ts`,
      files: ["dist", "NOTICE"],
    }),
    withNode: false,
  },
];

const output = join(root, "dist");

async function must(command: string, args: readonly string[], cwd = root): Promise<string> {
  const result = await run(command, args, { cwd });
  if (!result.ok) throw new Error(`${command} ${args.join(" ")} failed:\n${result.output}`);
  return result.output;
}

/**
 * Compiles what is reachable from the entry into `stage`/dist, folders as in the repository. The compiler emits only
 * what it is told to, not what it finds through node_modules, so it is asked first what it finds.
 */
async function compile(product: Product, workspace: Workspace, stage: string): Promise<void> {
  const project = join(stage, "tsconfig.json");
  const write = (files: readonly string[]): Promise<void> => {
    const compilerOptions = {
      noEmit: false,
      noEmitOnError: true,
      declaration: true,
      rootDir: root,
      outDir: join(stage, "dist"),
    };
    return writeFile(
      project,
      JSON.stringify({ extends: join(root, "tsconfig.base.json"), compilerOptions, files }),
    );
  };
  await write([join(root, workspace.folder, product.entry)]);
  const reached = (await must("tsc", ["--project", project, "--listFilesOnly"])).trim().split("\n");
  await write(reached.filter((file) => !relative(root, file).startsWith("node_modules")));
  await must("tsc", ["--project", project]);
  await rm(project);
}

/** What is no code but is read at run time, next to the code that reads it; and versions, which the code may ask for. */
async function copyAssets(closure: readonly Workspace[], stage: string): Promise<void> {
  for (const { folder, name, version } of closure) {
    const names = await readdir(join(root, folder, "src"), { recursive: true }).catch(() => []);
    for (const asset of names.filter((path) => path.endsWith(".binpb"))) {
      await cp(join(root, folder, "src", asset), join(stage, "dist", folder, "src", asset));
    }
    await mkdir(join(stage, "dist", folder), { recursive: true });
    const manifest = { name, version, private: true, type: "module" };
    await writeFile(
      join(stage, "dist", folder, "package.json"),
      `${JSON.stringify(manifest, undefined, 2)}\n`,
    );
  }
}

/**
 * Rewrites `@millrace/x` and `@millrace/x/sub` in one emitted file to the relative path of what x exports there, and
 * in declarations `./x.ts` to `./x.js` (the compiler does that in code only).
 */
function rewriteImports(
  text: string,
  file: string,
  packages: ReadonlyMap<string, Workspace>,
  dist: string,
): string {
  const local = text.replaceAll(/(\bfrom |\bimport\()(["'])(\.{1,2}\/[^"']+)\.ts\2/g, "$1$2$3.js$2");
  return local.replaceAll(
    /(\bfrom |\bimport\(|\bimport )(["'])(@millrace\/[\w-]+)((?:\/[\w.-]+)*)\2/g,
    (_match, before: string, quote: string, name: string, rest: string) => {
      const workspace = packages.get(name);
      const target = workspace?.exports[`.${rest}`];
      if (workspace === undefined || target === undefined) {
        throw new Error(`${relative(root, file)} imports ${name}${rest}, which no package of ours exports`);
      }
      const path = relative(dirname(file), join(dist, workspace.folder, target.replace(/\.ts$/, ".js")));
      return `${before}${quote}${path.startsWith(".") ? path : `./${path}`}${quote}`;
    },
  );
}

async function rewriteAll(stage: string, packages: ReadonlyMap<string, Workspace>): Promise<void> {
  const dist = join(stage, "dist");
  for (const name of await readdir(dist, { recursive: true })) {
    if (!/\.(js|d\.ts)$/.test(name)) continue;
    const file = join(dist, name);
    const text = await readFile(file, "utf8");
    await writeFile(file, rewriteImports(text, file, packages, dist));
  }
}

/** Third-party dependencies of everything packed, with their exact versions. */
function thirdParty(closure: readonly Workspace[]): Record<string, string> {
  const all = closure.flatMap((workspace) => Object.entries(workspace.dependencies));
  const ours = new Set(closure.map((workspace) => workspace.name));
  return Object.fromEntries(all.filter(([name]) => !ours.has(name)).sort(([a], [b]) => a.localeCompare(b)));
}

async function pack(product: Product, packages: ReadonlyMap<string, Workspace>): Promise<string> {
  const closure = closureOf(product.name, packages);
  const [workspace] = closure;
  if (workspace === undefined) throw new Error(`There is no package ${product.name}`);
  const stage = join(output, product.name.replace("@", "").replace("/", "-"));
  await rm(stage, { recursive: true, force: true });
  await mkdir(stage, { recursive: true });
  await compile(product, workspace, stage);
  await copyAssets(closure, stage);
  await rewriteAll(stage, packages);

  const rootManifest = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    engines: object;
    optionalDependencies: object;
  };
  const entry = `dist/${workspace.folder}/${product.entry.replace(/\.ts$/, "")}`;
  const manifest = {
    name: product.name,
    version: workspace.version,
    description: workspace.description,
    license: "Apache-2.0",
    type: "module",
    engines: rootManifest.engines,
    ...product.manifest(entry),
    dependencies: thirdParty(closure),
    ...(product.withNode ? { optionalDependencies: rootManifest.optionalDependencies } : {}),
  };
  await writeFile(join(stage, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
  for (const name of ["LICENSE", "NOTICE"]) await cp(join(root, name), join(stage, name));
  const own = join(root, workspace.folder, "README.md");
  await cp(existsSync(own) ? own : join(root, "README.md"), join(stage, "README.md"));
  const bin = join(root, workspace.folder, "bin");
  await cp(bin, join(stage, "bin"), { recursive: true }).catch(() => undefined);
  const packed = await must("npm", ["pack", "--pack-destination", output, "--loglevel", "error"], stage);
  return packed.trim().split("\n").at(-1) ?? "";
}

const packages = await readWorkspaces();
const wanted = process.argv.slice(2);
for (const product of products) {
  if (wanted.length > 0 && !wanted.includes(product.name)) continue;
  console.log(`dist/${await pack(product, packages)}`);
}
