import { PassThrough, Writable } from "node:stream";
import { systemClock } from "@millrace/runtime";
import { describe, expect, test } from "vitest";
import { Output } from "../output.ts";
import { introductionLines, type Progress, progressLine, Screen } from "./screen.ts";

const introduction = {
  version: "0.1.0",
  nodeVersion: "24.21.0",
  dataDirectory: "./.millrace",
  outputDirectory: "./.millrace/out/logs",
  readyMs: 1_102,
  fileCount: 6,
  readsOwnLog: false,
  topic: "logs",
  partitionCount: 3,
  skipped: ["binary", "compressed", "binary", "unreadable", "compressed", "binary"],
  pid: 4711,
  clientFlags: "",
  again: "npm start",
};

const progress: Progress = {
  in: 12_412,
  published: 12_398,
  inFlight: 14,
  setAside: 0,
  lost: 0,
  doubled: 0,
  channelShare: 0.004,
  fileCount: 3,
  p99Ms: 9.2,
  heldBytes: undefined,
};

describe("the first screen", () => {
  test("is the one of the issue", () => {
    expect([...introductionLines(introduction), progressLine(progress)].join("\n")).toBe(
      `millrace 0.1.0 · node 24.21.0 · data ./.millrace · ready in 1.1 s · fsync before ack: on
  6 files ─▶ agent ─▶ channel ─▶ topic logs (3 partitions) ─▶ connector ─▶ ./.millrace/out/logs
  skipped: 3 binary, 2 compressed, 1 unreadable (run with access, or --tail FILE)
  try   npx millrace consume logs -o end        kill -9 4711, then npm start: it goes on, nothing twice
  12,412 in = 12,398 published + 14 in flight · lost 0 · doubled 0 · channel 0 % · 3 files · p99 9 ms`,
    );
  });

  test("names Millrace's own log, leaves out what there is nothing to say about", () => {
    const lines = introductionLines({ ...introduction, fileCount: 1, readsOwnLog: true, skipped: [] });
    expect(lines[1]).toMatch(/^ {2}1 file and Millrace's own log ─▶ agent/);
    expect(lines).toHaveLength(3);
  });

  test("tells what was set aside, and that the sources wait", () => {
    expect(progressLine({ ...progress, setAside: 2, p99Ms: undefined, heldBytes: 2 ** 30 })).toBe(
      "  12,412 in = 12,398 published + 14 in flight + 2 set aside · lost 0 · doubled 0 · channel 0 % · 3 files · p99 - · sources wait: 1 GiB of topic data and channel in use",
    );
  });
});

/** What a screen writes to a terminal or a pipe. */
function screenOn(isTerminal: boolean): { screen: Screen; written: () => string } {
  let text = "";
  const stdout = Object.assign(
    new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        text += chunk.toString();
        done();
      },
    }),
    isTerminal ? { isTTY: true, columns: 40 } : {},
  );
  const output = new Output({ stdout, stderr: new PassThrough() });
  return { screen: new Screen(output, systemClock), written: () => text };
}

describe("the last line", () => {
  test("is rewritten on a terminal, and never wraps", () => {
    const { screen, written } = screenOn(true);
    screen.line("above");
    screen.progress("one");
    screen.progress("one");
    screen.progress("x".repeat(100));
    screen.final("the whole of it");
    expect(written()).toBe(`above\n\r\u001b[Kone\r\u001b[K${"x".repeat(39)}\r\u001b[Kthe whole of it\n`);
  });

  test("is a line of its own on a pipe, at most every few seconds, and at the end", () => {
    const { screen, written } = screenOn(false);
    screen.progress("one");
    screen.progress("two");
    screen.line("stopping");
    screen.final("three");
    expect(written()).toBe("one\nstopping\nthree\n");
  });
});
