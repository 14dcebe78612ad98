import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  addressList,
  duration,
  hostPort,
  loadConfig,
  parseYamlWithPositions,
  port,
  printConfig,
  renderReference,
  secret,
  size,
  z,
} from "./index.ts";

const schema = z.strictObject({
  dataDir: z.string().meta({ description: "Where data lies." }),
  listen: z
    .strictObject({
      port: port().default(9760).meta({ description: "Port; 0 = any." }),
      host: z.string().default("127.0.0.1"),
    })
    .prefault({}),
  sessionTimeout: duration({ min: 1000 }).default(3000),
  journalSize: size().default(64 * 1024 ** 2),
  verbose: z.boolean().default(false),
  replicas: z.int().min(1).default(1),
  policy: z.enum(["fsync", "os"]).default("fsync"),
  servers: z.array(z.string()).default([]),
  peers: addressList({ defaultPort: 9750 }).optional(),
  advertised: hostPort().optional(),
  password: secret().optional(),
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "millrace-config-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, "c.yaml");
  writeFileSync(path, text);
  return path;
}

const load = (options: Partial<Parameters<typeof loadConfig<typeof schema>>[0]> = {}) =>
  loadConfig({ schema, name: "storage", envPrefix: "MILLRACE_T_", env: {}, ...options });

function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).reason).toBe("INVALID_CONFIG");
    return (error as AppError).message.split("\n");
  }
  throw new Error("nothing was refused");
}

describe("loadConfig", () => {
  it("takes flag over environment over file over default, and says where each came from", () => {
    const path = file("dataDir: /file\nsessionTimeout: 5s\nlisten:\n  port: 1\nservers: [a:1]\n");
    const loaded = load({
      file: path,
      env: {
        MILLRACE_T_SESSION_TIMEOUT: "7s",
        MILLRACE_T_LISTEN_PORT: "2",
        MILLRACE_T_SERVERS: "b:1, c:2",
        MILLRACE_T_REPLICAS: "3",
        OTHER: "x",
      },
      flags: { "listen-port": "3", verbose: "yes", "data-dir": undefined, peers: ["a", "b:1"] },
    });
    expect(loaded.config).toEqual({
      dataDir: "/file",
      listen: { port: 3, host: "127.0.0.1" },
      sessionTimeout: 7000,
      journalSize: 64 * 1024 ** 2,
      verbose: true,
      replicas: 3,
      policy: "fsync",
      servers: ["b:1", "c:2"],
      peers: [
        { host: "a", port: 9750 },
        { host: "b", port: 1 },
      ],
    });
    expect(Object.fromEntries(loaded.sources)).toMatchObject({
      dataDir: `${path}:1`,
      sessionTimeout: "environment MILLRACE_T_SESSION_TIMEOUT",
      "listen.port": "flag --listen-port",
      journalSize: "default",
    });
  });

  it("reports every problem at once, with its line, the key and the likely meant key", () => {
    const path = file(
      "dataDir: 5\nsesionTimeout: 5s\nlisten:\n  prot: 1\n  port: 70000\njournalSize: big\nservers:\n  - ok\n  - 7\npolicy: fsink\n",
    );
    const problems = problemsOf(() =>
      load({
        file: path,
        env: { MILLRACE_T_VERBSE: "true", MILLRACE_T_REPLICAS: "many" },
        flags: { "session-timeout": "1ms", datadir: "x" },
      }),
    );
    expect(problems).toEqual([
      "environment MILLRACE_T_VERBSE: storage has no such setting; did you mean MILLRACE_T_VERBOSE?",
      "flag --datadir: storage has no such setting; did you mean --data-dir?",
      `${path}:1: dataDir is wrong: Invalid input: expected string, received number`,
      `${path}:5: listen.port is not a port: use 0 to 65535`,
      `${path}:4: unknown key listen.prot; did you mean port?`,
      "flag --session-timeout: sessionTimeout is too small: at least 1s",
      `${path}:6: journalSize is not a size such as 64KiB, 64MiB or 1GB`,
      "environment MILLRACE_T_REPLICAS: replicas is wrong: Invalid input: expected number, received string",
      `${path}:10: policy is wrong: Invalid option: expected one of "fsync"|"os"`,
      `${path}:9: servers.1 is wrong: Invalid input: expected string, received number`,
      `${path}:2: unknown key sesionTimeout; did you mean sessionTimeout?`,
    ]);
  });

  it("names a required setting that is missing, and a file that is not a map or absent", () => {
    expect(problemsOf(() => load())).toEqual(["storage: dataDir is required"]);
    const list = file("- a\n");
    expect(problemsOf(() => load({ file: list, flags: { "listen-port": "1" } }))[0]).toMatch(
      new RegExp(`^${list}:1: is wrong: .*expected object`),
    );
    expect(problemsOf(() => load({ file: join(folder, "none.yaml") }))[0]).toMatch(
      /none.yaml: cannot be read \(ENOENT\)/,
    );
    expect(problemsOf(() => load({ file: folder }))[0]).toMatch(/cannot be read \(EISDIR\)/);
  });

  it("takes an empty file", () => {
    expect(load({ file: file("# nothing\n"), flags: { "data-dir": "/d" } }).config.dataDir).toBe("/d");
  });
});

describe("what is shown", () => {
  it("prints the effective values with their sources and without secrets (bad input 106)", () => {
    const secretFile = join(folder, "s");
    writeFileSync(secretFile, "hunter2\n");
    const path = file(`dataDir: "/a: b"\npassword: {file: ${secretFile}}\n`);
    const loaded = load({ file: path, flags: { peers: "a,[::1]:2" } });
    expect(loaded.config.password?.reveal()).toBe("hunter2");
    const printed = printConfig(loaded);
    expect(printed).toBe(`dataDir: "/a: b"  # ${path}:1
listen:
  port: 9760  # default
  host: 127.0.0.1  # default
sessionTimeout: 3s  # default
journalSize: 64MiB  # default
verbose: false  # default
replicas: 1  # default
policy: fsync  # default
servers: []  # default
peers: a:9750,"[::1]:2"  # flag --peers
advertised:   # default
password: [redacted]  # ${path}:2, file ${secretFile}
`);
    expect(JSON.stringify(loaded.config)).not.toContain("hunter2");
  });

  it("renders a reference table with every name of a setting", () => {
    const page = renderReference(schema, "Storage", { envPrefix: "MILLRACE_T_" });
    expect(page).toContain("## Storage\n\n| Key | Flag | Environment | Type | Default | What it does |\n");
    expect(page).toContain(
      "| `listen.port` | `--listen-port` | `MILLRACE_T_LISTEN_PORT` | port | `9760` | Port; 0 = any. |",
    );
    expect(page).toContain(
      "| `dataDir` | `--data-dir` | `MILLRACE_T_DATA_DIR` | text | **required** | Where data lies. |",
    );
    expect(page).toContain("| duration | `3s` |");
    expect(page).toContain("| `fsync`, `os` | `fsync` |");
    expect(page).toContain("| whole number | `1` |");
    expect(renderReference(schema, "T")).toContain("| `journalSize` | size | `64MiB` |  |");
  });
});

describe("YAML with positions", () => {
  it("gives plain data and the line of every path", () => {
    const parsed = parseYamlWithPositions("a: 1\nb:\n  - x: 1\n  - y: |\n      text\n", "f.yaml");
    expect(parsed.data).toEqual({ a: 1, b: [{ x: 1 }, { y: "text\n" }] });
    expect(
      [["a"], ["b"], ["b", 1, "y"], ["b", 1, "none"], ["none"], []].map((path) => parsed.positionOf(path)),
    ).toEqual([1, 2, 4, 4, 1, 1]);
    expect(parseYamlWithPositions("").data).toBeUndefined();
  });

  const bomb = `a: &a [${"x,".repeat(20)}]\n${"bcdefgh"
    .split("")
    .map((name, i) => `${name}: &${name} [${`*${"abcdefg"[i]},`.repeat(20)}]`)
    .join("\n")}\n`;
  it.each([
    ["a duplicate key", "a: 1\nb: 2\na: 2\n", "f.yaml:3: Map keys must be unique"],
    ["a syntax error", "a: 1\nb: [1\n", "f.yaml:"],
    ["an unknown alias", "a: *b\n", "f.yaml:1: there is no anchor &b before this"],
    ["an anchor within itself", "a: 1\nb: &b [*b]\n", "f.yaml:2: the anchor &b contains itself"],
    ["deep brackets", `a: ${"[".repeat(100_000)}${"]".repeat(100_000)}`, "open brackets"],
    ["deep nesting", `${"[".repeat(200)}${"]".repeat(200)}`, "nested more than 64 levels"],
    ["deep blocks", Array.from({ length: 2000 }, (_, i) => `${" ".repeat(i)}a:`).join("\n"), "columns"],
    ["deep compact lists", `${"- ".repeat(10_000)}x`, "columns"],
    ["a bomb of aliases", bomb, "more than 100 aliases"],
    ["a file too large", "x".repeat(5 * 1024 * 1024), "larger than"],
    ["two documents", "a: 1\n---\nb: 2\n", "f.yaml:"],
    ["a tab", "a:\n\t- b\n", "f.yaml:"],
  ])("refuses %s (bad input 62)", (_, text, message) => {
    expect(problemsOf(() => parseYamlWithPositions(text, "f.yaml")).join("\n")).toContain(message);
  });

  it("keeps __proto__ and constructor as data and does not merge", () => {
    const { data } = parseYamlWithPositions("__proto__: {polluted: true}\nconstructor: 1\n<<: {x: 1}\n");
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    expect(Object.keys(data as object)).toEqual(["__proto__", "constructor", "<<"]);
    expect(problemsOf(() => load({ file: file("dataDir: /d\n__proto__: {verbose: true}\n") }))[0]).toContain(
      ":2: unknown key __proto__",
    );
  });
});
