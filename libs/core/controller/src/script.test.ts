/**
 * Data-driven scripts (`testdata/*.txt`): a command, `----`, then the records and answer it must give. `UPDATE=1`
 * rewrites the expectations. Every command is one batch; after each, a replay of all batches and a snapshot round trip
 * must give the same image.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "@millrace/base";
import { describe, expect, it } from "vitest";
import { applyBatch } from "./apply.ts";
import type { Command, DecisionInputs } from "./commands.ts";
import { decide } from "./decide.ts";
import { type ClusterImage, emptyImage } from "./image.ts";
import { type ControllerLimits, defaultLimits } from "./limits.ts";
import type { ListenerAddress, MetadataRecord, NodeRoleName } from "./records.ts";
import { snapshotRecords } from "./snapshot.ts";

const folder = join(import.meta.dirname, "testdata");

interface Block {
  readonly comment: string;
  readonly input: string;
  readonly expected: string;
}

function parse(text: string): Block[] {
  return text
    .split(/\n{2,}/)
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => {
      const lines = part.split("\n");
      const comment = lines.filter((line) => line.startsWith("#")).join("\n");
      const rest = lines.filter((line) => !line.startsWith("#"));
      const divider = rest.indexOf("----");
      const input = rest.slice(0, divider === -1 ? rest.length : divider).join("\n");
      return { comment, input, expected: divider === -1 ? "" : rest.slice(divider + 1).join("\n") };
    });
}

/** `verb key=value key=value`; values have no spaces. */
class Line {
  readonly verb: string;
  readonly #values = new Map<string, string>();

  constructor(text: string) {
    const [verb = "", ...pairs] = text.split(/\s+/);
    this.verb = verb;
    for (const pair of pairs) {
      const [key = "", ...value] = pair.split("=");
      this.#values.set(key, value.join("="));
    }
  }

  text(key: string, fallback = ""): string {
    return this.#values.get(key) ?? fallback;
  }

  number(key: string, fallback = 0): number {
    return Number(this.text(key, String(fallback)));
  }

  list(key: string): string[] {
    return this.text(key) === "" ? [] : this.text(key).split(",");
  }

  pairs(key: string): Record<string, string> {
    return Object.fromEntries(this.list(key).map((pair) => pair.split(":") as [string, string]));
  }
}

function command(line: Line): Command {
  const requestId = line.text("request");
  const name = line.text("name");
  const nodeId = line.text("node");
  switch (line.verb) {
    case "elect":
      return { kind: "electController", controllerId: nodeId };
    case "create-topic":
      return {
        kind: "createTopic",
        ...{ requestId, name, config: line.pairs("config") },
        partitionCount: line.number("partitions"),
        replicationFactor: line.number("replicas"),
      };
    case "delete-topic":
      return { kind: "deleteTopic", requestId, name, topicId: line.text("id") };
    case "alter-topic":
      return { kind: "alterTopic", requestId, name, set: line.pairs("set"), unset: line.list("unset") };
    case "register":
      return {
        kind: "registerNode",
        ...{ requestId, nodeId, role: line.text("role", "storage") as NodeRoleName },
        incarnation: line.text("incarnation", line.list("starts").at(-1) ?? "i1"),
        directoryId: line.text("directory"),
        starts: line.list("starts"),
        listeners: line.list("listeners").map(listener),
        rack: line.text("rack"),
        version: "",
        seenNodeEpoch: line.number("seen-node-epoch"),
        seenProducerId: line.number("seen-producer-id"),
        seenNamedProducerId: line.number("seen-named-producer-id"),
        seenEpochs: line.list("seen").map((text) => {
          const [topicId = "", partition, leaderEpoch] = text.split("/");
          return { topicId, partition: Number(partition), leaderEpoch: Number(leaderEpoch) };
        }),
      };
    case "time-out":
      return { kind: "nodeTimedOut", nodeId, nodeEpoch: line.number("epoch") };
    case "stop":
      return { kind: "stopNode", nodeId, nodeEpoch: line.number("epoch") };
    case "init-producer":
      return { kind: "initProducer", requestId, name, lineage: line.list("lineage") };
    case "allocate-ids":
      return { kind: "allocateProducerIds", count: line.number("count") };
    case "remove-producer":
      return { kind: "removeProducer", requestId, name };
    case "create-connector":
      return {
        kind: "createConnector",
        ...{ requestId, name, topics: line.list("topics") },
        sinkConfigJson: line.text("sink", '{"type":"null"}'),
        reset: line.text("reset") === "true",
      };
    case "delete-connector":
      return { kind: "deleteConnector", requestId, name };
    default:
      throw new Error(`unknown command ${line.verb}`);
  }
}

function listener(text: string): ListenerAddress {
  const [name = "", host = "", port] = text.split("/");
  return { name, host, port: Number(port), tls: false };
}

/** `kind key=value ...`, empty values left out. */
function show(value: object): string {
  return Object.entries(value)
    .filter(([, field]) => field !== "" && !(Array.isArray(field) && field.length === 0))
    .map(([key, field]) => (key === "kind" ? String(field) : `${key}=${compact(field)}`))
    .join(" ");
}

function compact(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value).replaceAll('"', "");
}

class Script {
  readonly #batches: MetadataRecord[][] = [];
  #image: ClusterImage = emptyImage;
  #limits: ControllerLimits = defaultLimits;
  #ids = 0;

  run(text: string): string {
    const line = new Line(text);
    if (line.verb === "limits") {
      this.#limits = { ...this.#limits, ...Object.fromEntries(line.list("set").map((pair) => limit(pair))) };
      return "ok";
    }
    if (line.verb === "raw") return this.#append(JSON.parse(text.slice(4)) as MetadataRecord[]);
    const inputs: DecisionInputs = {
      nowMs: 1000 + this.#batches.length,
      newId: `id-${++this.#ids}`,
      limits: this.#limits,
      defaultPartitionCount: 1,
      defaultReplicationFactor: 1,
    };
    try {
      const { records, answer } = decide(this.#image, command(line), inputs);
      const shown = this.#append([...records]);
      return [shown, answer === undefined ? "no answer" : `answer ${show(answer)}`]
        .filter((part) => part !== "")
        .join("\n");
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      return `${error.reason}: ${error.message}`;
    }
  }

  #append(records: MetadataRecord[]): string {
    if (records.length > 0) {
      this.#batches.push(records);
      this.#image = applyBatch(this.#image, this.#batches.length, records);
      this.#check();
    }
    return records.map(show).join("\n");
  }

  #check(): void {
    const replayed = this.#batches.reduce(
      (image, batch, index) => applyBatch(image, index + 1, batch),
      emptyImage,
    );
    expect(replayed).toEqual(this.#image);
    expect(applyBatch(emptyImage, this.#image.sequence, snapshotRecords(this.#image))).toEqual(this.#image);
  }
}

function limit(pair: string): [string, number] {
  const [key = "", value] = pair.split(":");
  return [key, Number(value)];
}

describe("controller scripts", () => {
  for (const file of readdirSync(folder).sort()) {
    it(file, () => {
      const path = join(folder, file);
      const blocks = parse(readFileSync(path, "utf8"));
      const script = new Script();
      const actual = blocks.map((block) => ({
        ...block,
        expected:
          block.input === ""
            ? ""
            : block.input
                .split("\n")
                .map((line) => script.run(line))
                .join("\n"),
      }));
      const print = (list: readonly Block[]): string =>
        `${list
          .map(({ comment, input, expected }) =>
            [comment, input === "" ? "" : `${input}\n----\n${expected}`]
              .filter((part) => part !== "")
              .join("\n"),
          )
          .join("\n\n")}\n`;
      if (process.env["UPDATE"] === "1") writeFileSync(path, print(actual));
      else expect(print(actual)).toBe(print(blocks));
    });
  }
});
