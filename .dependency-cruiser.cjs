/**
 * The layers of the house (docs design §10). The arrows below are the allowed imports between packages; they are
 * transitive. Everything not listed is forbidden. test/tidy/rules.test.ts plants a violation of every rule.
 */
"use strict";

/**
 * `arrows`: library -> the libraries it may import; what those may import, it may too. `pure`: those under libs/core.
 * `owners`: third-party package -> the only places that import it; the rest see the owner's interface.
 */
const { arrows, pure, owners } = require("./scripts/layers.json");

const pathOf = (library) => (pure.includes(library) ? `libs/core/${library}` : `libs/${library}`);

/** Tests beside the code, and their helpers in folders named `testing`: they may use the testkit and reach over layers. */
const besideCode = "(\\.test\\.ts$|/testing/)";
const tests = `(${besideCode}|^test/|^examples/|^libs/testkit/)`;
const sources = "^(libs|services|cli)/";

function reach(library, seen = new Set()) {
  for (const next of arrows[library]) {
    if (seen.has(next)) continue;
    seen.add(next);
    reach(next, seen);
  }
  return seen;
}

const layerRules = Object.keys(arrows).map((library) => {
  const allowed = [library, ...reach(library)].map((name) => `${pathOf(name)}/`);
  return {
    name: `layer-${library}`,
    comment: `${pathOf(library)} may import only ${[...reach(library)].join(", ") || "nothing"} (design §10)`,
    severity: "error",
    from: { path: `^${pathOf(library)}/`, pathNot: besideCode },
    to: { path: sources, pathNot: `^(${allowed.join("|")})` },
  };
});

const ownerRules = Object.entries(owners).map(([name, places]) => ({
  name: `owner-${name.replaceAll(/[^a-z0-9]+/g, "-").replace(/^-/, "")}`,
  comment: `${name} is owned by ${places.join(" and ")}: use what they export`,
  severity: "error",
  from: { path: `${sources}|^examples/`, pathNot: `^(${places.join("|")})/|${besideCode}` },
  to: { path: `(^|node_modules/)${name}(/|$)` },
}));

/** A rule that every file of a package outside of libs, services and cli obeys too. */
const houseRules = [
  {
    name: "no-cycles",
    // A cycle closed by an import of types alone is none when the program runs: a part may name its whole.
    comment: "Two modules that need each other are one module, or miss a third",
    severity: "error",
    from: { pathNot: "^libs/proto/src/" },
    to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
  },
  {
    name: "core-is-pure",
    comment: "libs/core imports no npm package and no Node module: it runs in the simulator",
    severity: "error",
    from: { path: "^libs/core/", pathNot: besideCode },
    to: { dependencyTypesNot: ["local", "localmodule", "aliased", "aliased-workspace"], pathNot: "^libs/core/" },
  },
  {
    name: "only-package-entry",
    comment: "Other packages are imported by name, as @millrace/<lib>: their `exports` decide what is to be seen",
    severity: "error",
    from: { path: "^(libs/core/[^/]+|libs/(?!core/)[^/]+|services/[^/]+|cli|test|examples|scripts)/" },
    to: {
      path: "^(libs/core/[^/]+|libs/(?!core/)[^/]+|services/[^/]+)/",
      pathNot: "^$1/",
      dependencyTypes: ["local"],
      dependencyTypesNot: ["aliased-workspace"],
    },
  },
  {
    name: "testkit-only-in-tests",
    comment: "The testkit simulates disks and clocks: nothing that ships may contain it",
    severity: "error",
    from: { path: `${sources}|^scripts/`, pathNot: tests },
    to: { path: "^libs/testkit/" },
  },
  {
    name: "services-are-strangers",
    comment: "Services talk over gRPC, never by import",
    severity: "error",
    from: { path: "^services/([^/]+)/" },
    to: { path: "^services/", pathNot: "^services/$1/" },
  },
  {
    name: "only-cli-imports-services",
    comment: "The command line starts the services; nothing else knows their code",
    severity: "error",
    from: { pathNot: "^(cli|services|test|examples)/" },
    to: { path: "^services/" },
  },
  {
    name: "cli-imports-services-dynamically",
    comment: "`millrace topic list` must not pay for loading a service: import() it",
    severity: "error",
    from: { path: "^cli/", pathNot: besideCode },
    to: { path: "^services/", dynamic: false, dependencyTypesNot: ["type-only"] },
  },
  {
    name: "nobody-imports-cli",
    comment: "cli is the top; the generator of its reference page alone reads it",
    severity: "error",
    from: { pathNot: "^(cli|test|examples|scripts/generators)/" },
    to: { path: "^cli/" },
  },
  {
    name: "neighbouring-technologies",
    comment: "What two technologies share lives in libs/flow",
    severity: "error",
    from: { path: "^libs/components/src/([^/]+)/", pathNot: besideCode },
    to: { path: "^libs/components/src/[^/]+/", pathNot: "^libs/components/src/$1/" },
  },
  {
    name: "no-test-imports",
    comment: "Code that ships never imports a test",
    severity: "error",
    from: { pathNot: tests },
    to: { path: `${besideCode}|^test/` },
  },
  {
    name: "resolvable",
    comment: "The import leads nowhere",
    severity: "error",
    from: {},
    to: { couldNotResolve: true },
  },
];

/** @type {import("dependency-cruiser").IConfiguration} */
module.exports = {
  forbidden: [...layerRules, ...ownerRules, ...houseRules],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)(dist|coverage)/" },
    // Imports of types alone are edges too.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "types", "default"],
      extensions: [".ts", ".js", ".cjs"],
    },
    skipAnalysisNotInRules: true,
  },
};
