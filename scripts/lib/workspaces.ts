/** The packages of the workspace as npm sees them: folder, manifest, and what each needs of the others. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { root, run } from "./run.ts";

/** One package of the workspace. `folder` is relative to the root. */
export interface Workspace {
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** All packages by name. */
export async function readWorkspaces(): Promise<ReadonlyMap<string, Workspace>> {
  const listed = await run("npm", ["query", ".workspace"]);
  if (!listed.ok) throw new Error(listed.output);
  const rows = JSON.parse(listed.output.slice(listed.output.indexOf("["))) as { location: string }[];
  const workspaces = new Map<string, Workspace>();
  for (const { location } of rows) {
    const manifest = JSON.parse(
      await readFile(join(root, location, "package.json"), "utf8"),
    ) as Partial<Workspace>;
    const { name = "", version = "", description = "", exports = {}, dependencies = {} } = manifest;
    workspaces.set(name, { folder: location, name, version, description, exports, dependencies });
  }
  return workspaces;
}

/** A package and all workspaces it needs, itself first. */
export function closureOf(name: string, workspaces: ReadonlyMap<string, Workspace>): Workspace[] {
  const found = new Set<Workspace>();
  const visit = (next: string): void => {
    const workspace = workspaces.get(next);
    if (workspace === undefined || found.has(workspace)) return;
    found.add(workspace);
    for (const dependency of Object.keys(workspace.dependencies)) visit(dependency);
  };
  visit(name);
  return [...found];
}
