#!/usr/bin/env node
/**
 * The launcher: plain JavaScript that any Node >= 18 parses. On Node >= 24 it runs the command line right here;
 * otherwise it starts the pinned Node that came as an optional dependency, and behaves as if it were that process:
 * signals go through, exit code and signal come back, and the child never outlives it, not even a kill -9 (the
 * channel between them closes, and the child ends itself as after SIGTERM).
 *
 * npm and npx put a shell between themselves and this process, which dies of a SIGTERM and passes nothing on: under
 * them, a parent that is gone counts as SIGTERM.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import module, { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const nodeMajorMin = 24;
const launchedVariable = "MILLRACE_LAUNCHED";
/** Milliseconds between two looks whether npm is still there. */
const parentPollMs = 250;

/** The command line: the source in a clone, the compiled code in the published package. */
function entry() {
  const source = new URL("../src/main.ts", import.meta.url);
  return existsSync(source) ? source : new URL("../dist/cli/src/main.js", import.meta.url);
}

function canRunHere() {
  const [major] = process.versions.node.split(".");
  const needsStripping = entry().pathname.endsWith(".ts");
  return Number(major) >= nodeMajorMin && (!needsStripping || Boolean(process.features.typescript));
}

/** Runs `end` when npm or its shell, which started this process, is gone. */
function onNpmGone(end) {
  if (process.env.npm_command === undefined) return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    end();
  }, parentPollMs);
  timer.unref();
}

async function runHere() {
  onNpmGone(() => process.kill(process.pid, "SIGTERM"));
  if (process.env[launchedVariable] !== undefined) {
    delete process.env[launchedVariable];
    process.once("disconnect", () => process.kill(process.pid, "SIGTERM"));
    process.channel?.unref();
  }
  // Compiled code is kept in the user's own cache: half the start time of a short command.
  const caches = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  module.enableCompileCache?.(join(caches, "millrace"));
  await import(entry().href);
}

/** Path of the Node that an optional dependency brought, if it runs on this machine and is new enough. */
function pinnedNode() {
  try {
    const manifest = createRequire(import.meta.url).resolve(
      `node-${process.platform}-${process.arch}/package.json`,
    );
    const { version } = JSON.parse(readFileSync(manifest, "utf8"));
    const binary = join(dirname(manifest), "bin", "node");
    return Number(version.split(".")[0]) >= nodeMajorMin && existsSync(binary) ? binary : undefined;
  } catch {
    return undefined;
  }
}

function runThere(node) {
  const forward = (signal) => child.kill(signal);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, forward);
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, [launchedVariable]: "1" },
  });
  onNpmGone(() => child.kill("SIGTERM"));
  child.on("error", (error) => fail(`${node} does not start: ${error.message}`));
  child.on("exit", (code, signal) => {
    for (const name of signals) process.off(name, forward);
    if (signal === null) process.exitCode = code;
    else process.kill(process.pid, signal);
  });
}

function fail(message) {
  process.stderr.write(`millrace: ${message}\n`);
  process.exitCode = 1;
}

const pinned = pinnedNode();
if (process.platform === "win32") fail("Windows is supported through WSL2 or Docker only.");
else if (canRunHere()) await runHere();
else if (pinned !== undefined) runThere(pinned);
else
  fail(
    `Node ${nodeMajorMin} or newer is needed, this is ${process.version}: install it from https://nodejs.org.`,
  );
