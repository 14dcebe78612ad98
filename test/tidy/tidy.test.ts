/** Tidiness that no linter sees. Each test names the offending files, so the fix is in the message. */
import { existsSync } from "node:fs";
import { join, matchesGlob } from "node:path";
import { describe, expect, test } from "vitest";
import layers from "../../scripts/layers.json" with { type: "json" };
import { dependenciesOf, files, manifests, read, root } from "./files.ts";

const self = "test/tidy/tidy.test.ts";
const generatedFolder = "libs/proto/src/";
const textFiles = files.filter(
  (path) => /\.(ts|js|cjs|json|md|yaml|yml|proto|conf|sh|txt)$|^\.ci\/|^[A-Z]+$/.test(path) && path !== self,
);
const ownText = textFiles.filter((path) => path !== "package-lock.json" && !path.startsWith(generatedFolder));
const markdown = files.filter((path) => path.endsWith(".md"));

/** `path:line` of every line that matches. */
function linesThatMatch(paths: readonly string[], pattern: RegExp): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split("\n")
      .flatMap((line, index) =>
        pattern.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 100)}`] : [],
      ),
  );
}

/** Markdown without its fenced code, so that a shell comment is no title. */
function prose(text: string): string {
  return text.replaceAll(/^(```|~~~)[^]*?^\1/gm, "");
}

describe("packages", () => {
  const workspaces = manifests.find((manifest) => manifest.folder === "")?.workspaces ?? [];
  const packages = manifests.filter((manifest) => manifest.folder !== "");

  test("every package folder is a workspace, and every workspace pattern names a package", () => {
    const strangers = packages.filter(({ folder }) => !workspaces.some((glob) => matchesGlob(folder, glob)));
    expect(strangers.map((manifest) => manifest.folder)).toEqual([]);
    const idle = workspaces.filter((glob) => !packages.some(({ folder }) => matchesGlob(folder, glob)));
    expect(idle).toEqual([]);
  });

  test("every package says what it is, is ESM, Apache-2.0 and private until packed", () => {
    const bad = packages.filter(
      (manifest) =>
        manifest.type !== "module" ||
        manifest.license !== "Apache-2.0" ||
        manifest.private !== true ||
        (manifest.description ?? "").length < 10,
    );
    expect(bad.map((manifest) => manifest.path)).toEqual([]);
  });

  test("every dependency is pinned exactly, and everywhere to the same version", () => {
    const versions = new Map<string, string>();
    const problems: string[] = [];
    for (const manifest of manifests) {
      for (const [name, version] of dependenciesOf(manifest)) {
        if (!/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)) problems.push(`${manifest.path}: ${name} ${version}`);
        const other = versions.get(name) ?? version;
        if (other !== version)
          problems.push(`${manifest.path}: ${name} is ${version} here and ${other} elsewhere`);
        versions.set(name, version);
      }
    }
    expect(problems).toEqual([]);
  });

  test("a library's declared dependencies follow the arrows of design §10", () => {
    const arrows: Readonly<Record<string, readonly string[]>> = layers.arrows;
    const reach = (library: string): string[] =>
      (arrows[library] ?? []).flatMap((next) => [next, ...reach(next)]);
    const problems = packages
      .filter((manifest) => manifest.folder.startsWith("libs/"))
      .flatMap((manifest) => {
        const library = manifest.name.replace("@millrace/", "");
        if (arrows[library] === undefined) return [`${manifest.folder} has no arrows in scripts/layers.json`];
        const allowed = new Set(reach(library));
        return Object.keys(manifest.dependencies ?? {})
          .filter((name) => name.startsWith("@millrace/") && !allowed.has(name.replace("@millrace/", "")))
          .map((name) => `${manifest.folder} -> ${name}`);
      });
    expect(problems).toEqual([]);
  });

  test("a package entry holds named re-exports only", () => {
    const entries = files.filter((path) => /^(libs|services)\/.*\/src\/index\.ts$/.test(path));
    const bad = entries.filter((path) => {
      const code = read(path).replaceAll(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, "");
      return code.replaceAll(/export (type )?\{[^}]*\} from "[^"]+";/g, "").trim() !== "";
    });
    expect(bad).toEqual([]);
  });
});

describe("files", () => {
  test("names are kebab-case", () => {
    const code = files.filter(
      (path) => /\.(ts|js|cjs|proto)$/.test(path) && !path.startsWith(generatedFolder),
    );
    const pattern = /^\.?[a-z0-9]+([-_.][a-z0-9]+)*$/;
    expect(code.filter((path) => !pattern.test(path.split("/").at(-1) ?? ""))).toEqual([]);
  });

  test("nothing is left to do without an issue number", () => {
    expect(linesThatMatch(ownText, /\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))/)).toEqual([]);
  });

  test("nothing depends on the machine it was written on", () => {
    expect(linesThatMatch(textFiles, /(^|[\s"'`(=:])\/(work|root|home\/\w+)\//)).toEqual([]);
  });

  test("nothing tells how it was written", () => {
    expect(linesThatMatch(ownText, /\b(language model|AI[- ]assist\w*|chat ?bot|system prompt)\b/i)).toEqual(
      [],
    );
  });

  test("no test is switched on alone, or off other than by context.skip(reason)", () => {
    const tests = files.filter((path) => path.endsWith(".test.ts") && path !== self);
    expect(linesThatMatch(tests, /\b(test|it|describe)\.(only|skip|todo|skipIf|runIf)\(/)).toEqual([]);
  });
});

describe("documents", () => {
  test("every Markdown file has exactly one title, on its first line", () => {
    const bad = markdown.filter((path) => {
      const text = prose(read(path));
      return !text.startsWith("# ") || (text.match(/^# /gm) ?? []).length !== 1;
    });
    expect(bad).toEqual([]);
  });

  test("relative links and the paths of docs/ARCHITECTURE.md lead somewhere", () => {
    const missing: string[] = [];
    for (const path of markdown) {
      for (const [, target = ""] of prose(read(path)).matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)) {
        if (!existsSync(join(root, path, "..", target))) missing.push(`${path}: ${target}`);
      }
    }
    const architecture = "docs/ARCHITECTURE.md";
    if (files.includes(architecture)) {
      const rows = read(architecture)
        .split("\n")
        .filter((line) => line.startsWith("|"));
      const paths = rows.flatMap((row) =>
        [...row.matchAll(/`([\w.@-]+\/[\w./@-]*)`/g)].map(([, path = ""]) => path),
      );
      expect(paths.length, `${architecture} has no "where is" table with paths in backticks`).toBeGreaterThan(
        5,
      );
      missing.push(
        ...paths.filter((path) => !existsSync(join(root, path))).map((path) => `${architecture}: ${path}`),
      );
    }
    expect(missing).toEqual([]);
  });

  test("decisions are numbered without gaps and say when, how firm and what was measured", () => {
    const records = files.filter((path) => /^docs\/adr\/(?!README)/.test(path));
    const problems = records.flatMap((path, index) => {
      const number = String(index + 1).padStart(4, "0");
      const text = read(path);
      const wrong: string[] = [];
      if (!new RegExp(`^docs/adr/${number}-[a-z0-9-]+\\.md$`).test(path))
        wrong.push(`file name (${number}-title.md)`);
      if (!text.startsWith(`# ${number}. `)) wrong.push(`title (# ${number}. Title)`);
      if (!/^\| Date \| \d{4}-\d{2}-\d{2} \|$/m.test(text)) wrong.push("row | Date | YYYY-MM-DD |");
      if (!/^\| Status \| (Proposed|Accepted|Superseded by \d{4}) \|$/m.test(text))
        wrong.push("row | Status | ... |");
      for (const section of ["Context", "Decision", "Measured"]) {
        if (!text.includes(`\n## ${section}\n`)) wrong.push(`section ${section}`);
      }
      return wrong.map((what) => `${path}: ${what}`);
    });
    expect(problems).toEqual([]);
  });
});
