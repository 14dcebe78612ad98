/** The tree of commands: every command explains itself, every example is a valid call, wrong calls are told what was meant. */
import { type Command, CommanderError } from "commander";
import { beforeEach, describe, expect, test } from "vitest";
import { examples } from "./help.ts";
import { buildProgram } from "./program.ts";

let program: Command;
let called: { readonly path: string; readonly args: unknown[] }[];

/** The tree with actions that only note the call. */
beforeEach(() => {
  called = [];
  program = buildProgram();
  for (const command of leaves(program)) {
    command.action((...args: unknown[]) => {
      called.push({ path: pathOf(command), args: args.slice(0, -1) });
    });
  }
});

function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

function pathOf(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) names.unshift(at.name());
  return names.join(" ");
}

function parse(line: string): void {
  program.parse(words(line), { from: "user" });
}

/** The words after `millrace`; quotes keep blanks. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
}

function usageError(line: string): string {
  try {
    parse(line);
  } catch (error) {
    if (error instanceof CommanderError) return error.message;
    throw error;
  }
  throw new Error(`"${line}" was accepted`);
}

const all = leaves(buildProgram()).map((command) => [pathOf(command), command] as const);

describe("every command", () => {
  test.each(all)("%s has a description and examples that are valid calls of it", (path, command) => {
    expect(command.description()).toMatch(/^[A-Z].*\.$/);
    expect(examples(command).length).toBeGreaterThan(0);
    for (const [, line] of examples(command)) {
      const [before = ""] = line.split(" > ");
      const own = before.split(" | ").find((part) => part.startsWith("millrace ")) ?? "";
      parse(own.slice("millrace ".length));
      expect(called.at(-1)?.path, line).toBe(path);
    }
  });

  test.each(all)("%s shows its examples in --help", (_path, command) => {
    let help = "";
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    for (const [purpose, line] of examples(command)) expect(help).toContain(`  # ${purpose}\n  ${line}`);
  });

  test.each(
    all.filter(([, command]) => command.options.some((option) => option.long === "--bootstrap-server")),
  )("%s takes its cluster from the environment when no flag says otherwise", (_path, command) => {
    const option = command.options.find(({ long }) => long === "--bootstrap-server");
    expect(option?.envVar).toBe("MILLRACE_BOOTSTRAP_SERVER");
    expect(option?.defaultValue).toBe("127.0.0.1:9750");
  });
});

describe("a wrong call names the likely meant one", () => {
  test.each([
    ["tpic list", "Did you mean topic?"],
    ["topic crate logs", "Did you mean create?"],
    ["topic create logs --partition 3", "Did you mean --partitions?"],
    ["consume logs --jsn", "Did you mean --json?"],
    ["agent validte x.yaml", "Did you mean validate?"],
  ])("%s: %s", (line, hint) => {
    expect(usageError(line)).toContain(hint);
  });

  test.each([
    ["topic create logs -p 0", "whole number from 1"],
    ["topic create logs -p 1e3", "whole number from 1"],
    ["consume logs -o yesterday", "Use start, end, an offset, or @TIME"],
    ["consume logs -n 0", "whole number from 1 on"],
    ["topic list -o xml", "Allowed choices are table, json, yaml"],
    ["produce", "missing required argument 'topic'"],
    ["topic list logs", "too many arguments"],
  ])("%s: %s", (line, message) => {
    expect(usageError(line)).toContain(message);
  });
});

describe("consume -o", () => {
  test.each([
    ["start", "start"],
    ["end", "end"],
    ["17", 17],
    ["@1767225600000", { timestampMs: 1_767_225_600_000 }],
    ["@2026-01-01T00:00:00Z", { timestampMs: 1_767_225_600_000 }],
  ])("%s", (text, expected) => {
    parse(`consume logs -o ${text}`);
    expect(called[0]?.args[1]).toMatchObject({ offset: expected });
  });
});
