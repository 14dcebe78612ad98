/**
 * YAML with positions, so that every problem can name its line. Bounded: size, depth and alias expansion have limits;
 * a hostile file ends in an error and not in memory (bad input 62).
 */
import { AppError } from "@millrace/base";
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from "yaml";

/** Largest configuration file, in characters. */
const fileCharactersMax = 4 * 1024 * 1024;
/** Deepest nesting. */
const depthMax = 64;
/** Aliases in one file. They are expanded, so few make much. */
const aliasesMax = 100;

/** A path into configuration: keys and list indexes. */
export type ConfigPath = readonly PropertyKey[];

/** Parsed YAML. */
export interface PositionedData {
  /** Plain objects, arrays and scalars; undefined for an empty file. */
  readonly data: unknown;
  /** Line (from 1) of the value at `path`, or of the nearest thing there is on the way. A map entry's is its key's. */
  positionOf(path: ConfigPath): number;
}

/**
 * Parses one YAML document; `name` stands for the file in messages. Throws INVALID_CONFIG, one line a problem, each
 * starting with `name:line`, for syntax errors, duplicate keys, and files past the limits.
 */
export function parseYamlWithPositions(text: string, name = "configuration"): PositionedData {
  if (text.length > fileCharactersMax) fail(name, 1, `is larger than ${fileCharactersMax} characters`);
  checkIndentation(text, name);
  const lineCounter = new LineCounter();
  const document = parseDocument(text, {
    lineCounter,
    uniqueKeys: true,
    strict: true,
    stringKeys: true,
    // Merge keys are a second way to write the same thing, with rules of its own.
    merge: false,
    prettyErrors: false,
  });
  if (document.errors.length > 0) {
    const lines = document.errors.map(
      (error) => `${name}:${lineCounter.linePos(error.pos[0]).line}: ${error.message.split("\n")[0] ?? ""}`,
    );
    throw new AppError("INVALID_CONFIG", lines.join("\n"));
  }
  const lineAt = (node: Node | null): number => (node?.range ? lineCounter.linePos(node.range[0]).line : 1);
  checkNodes(document, name, lineAt);
  return {
    data: (document.toJS({ maxAliasCount: aliasesMax }) as unknown) ?? undefined,
    positionOf: (path) => lineAt(nearestNode(document.contents, path)),
  };
}

/** The parser recurses per level: the depth is bounded before it sees the text. */
function checkIndentation(text: string, name: string): void {
  let open = 0;
  let line = 1;
  for (const character of text) {
    if (character === "\n") line++;
    else if (character === "[" || character === "{") open++;
    else if (character === "]" || character === "}") open = Math.max(0, open - 1);
    if (open > flowOpenMax) fail(name, line, `has more than ${flowOpenMax} open brackets`);
  }
  for (const [index, one] of text.split("\n").entries()) {
    const nesting = /^[ \t]*(?:[-?:][ \t]+)*/.exec(one)?.[0] ?? "";
    // A level of a block costs at least one column.
    if (nesting.length > columnsMax) fail(name, index + 1, `is indented by more than ${columnsMax} columns`);
  }
}

/** Brackets open at once, in quotes or not; above what {@link depthMax} allows, below what a stack stands. */
const flowOpenMax = 500;
const columnsMax = 500;

function checkNodes(document: Document, name: string, lineAt: (node: Node | null) => number): void {
  let aliases = 0;
  visit(document, {
    Node: (_, node, path) => {
      if (path.length > 2 * depthMax) fail(name, lineAt(node), `is nested more than ${depthMax} levels deep`);
      if (!isAlias(node)) return;
      if (++aliases > aliasesMax) fail(name, lineAt(node), `has more than ${aliasesMax} aliases`);
      const target = node.resolve(document);
      if (target === undefined) fail(name, lineAt(node), `there is no anchor &${node.source} before this`);
      if (path.includes(target)) fail(name, lineAt(node), `the anchor &${node.source} contains itself`);
    },
  });
}

function fail(name: string, line: number, text: string): never {
  throw new AppError("INVALID_CONFIG", `${name}:${line}: ${text}`);
}

function nearestNode(root: Node | null, path: ConfigPath): Node | null {
  let node = root;
  let nearest = root;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined) break;
      nearest = isNode(pair.key) ? pair.key : nearest;
      node = isNode(pair.value) ? pair.value : null;
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(step)];
      if (!isNode(item)) break;
      node = item;
      nearest = item;
    } else break;
  }
  return nearest;
}
