/** The files of the repository, read once: what tidiness is checked on. Paths are relative to the root, with `/`. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Absolute path of the repository root. */
export const root = join(import.meta.dirname, "..", "..");

const skippedFolders = new Set([
  "node_modules",
  ".git",
  "dist",
  "coverage",
  "bench-results",
  ".millrace",
  ".cache",
]);

function* walk(folder: string): Generator<string> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      if (!skippedFolders.has(entry.name)) yield* walk(path);
    } else if (entry.isFile()) yield path;
  }
}

/** Every file of the working tree that could be committed. */
export const files: readonly string[] = [...walk("")].sort();

/** The text of a file. */
export function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** A package.json, as far as the checks look at it. */
export interface Manifest {
  readonly path: string;
  readonly folder: string;
  readonly name: string;
  readonly license?: string;
  readonly type?: string;
  readonly private?: boolean;
  readonly description?: string;
  readonly workspaces?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** All package.json files of the workspace; examples stand alone and are not among them. */
export const manifests: readonly Manifest[] = files
  .filter((path) => path.endsWith("package.json") && !path.startsWith("examples/"))
  .map((path) => ({
    ...(JSON.parse(read(path)) as Omit<Manifest, "path" | "folder">),
    path,
    folder: path.replace(/\/?package\.json$/, ""),
  }));

/** All dependencies of a manifest, of every kind. */
export function dependenciesOf(manifest: Manifest): [string, string][] {
  const kinds = [manifest.dependencies, manifest.devDependencies, manifest.optionalDependencies];
  return kinds.flatMap((kind) => Object.entries(kind ?? {}));
}
