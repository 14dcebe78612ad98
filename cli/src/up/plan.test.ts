import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { planOf } from "./plan.ts";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(await realpath(tmpdir()), "millrace-plan-"));
  await writeFile(join(folder, "app.log"), "");
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const port = 9750;

describe("the plan of up", () => {
  test("without flags: the machine's logs, their last part, ports next to each other", () => {
    const plan = planOf({ port }, {}, folder);
    expect(plan).toMatchObject({
      dataDirectory: join(folder, ".millrace"),
      tails: [],
      from: "last",
      isOnce: false,
      httpPort: 9751,
      again: "npx millrace up",
    });
    expect(plan.clientFlags(9750)).toBe("");
    expect(plan.clientFlags(1234)).toBe(" --bootstrap-server 127.0.0.1:1234");
  });

  test("--tail is read from its start, unless told otherwise", () => {
    expect(planOf({ port, tail: ["app.log"] }, {}, folder)).toMatchObject({
      tails: [join(folder, "app.log")],
      from: "start",
      again: "npx millrace up --tail app.log",
    });
    expect(planOf({ port, tail: ["app.log"], from: "end" }, {}, folder).from).toBe("end");
  });

  test("under npm start, paths are relative to where the user is; the default directory is the package's", () => {
    const env = { npm_lifecycle_event: "start", INIT_CWD: folder };
    const plan = planOf({ port: 0, tail: ["*.log"], data: "d d" }, env, "/clone");
    expect(plan).toMatchObject({
      tails: [join(folder, "*.log")],
      dataDirectory: join(folder, "d d"),
      httpPort: 0,
    });
    expect(plan.again).toBe("npm start -- --data 'd d' --tail '*.log' --port 0");
    expect(planOf({ port }, env, "/clone").dataDirectory).toBe("/clone/.millrace");
  });

  test("--once with a file that is not there is refused; a glob may match nothing", () => {
    expect(() => planOf({ port, tail: ["none.log"], once: true }, {}, folder)).toThrow(
      /there is no such file/,
    );
    expect(planOf({ port, tail: ["none*.log"], once: true }, {}, folder).isOnce).toBe(true);
    expect(planOf({ port, tail: ["none.log"] }, {}, folder).tails).toEqual([join(folder, "none.log")]);
  });
});
