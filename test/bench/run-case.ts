/** One case, once, in this process: `node run-case.ts NAME FOLDER SECONDS`. Its figures go to the parent, or to stdout. */
import { cases } from "./cases/index.ts";

const [name, folder, seconds] = process.argv.slice(2);
const found = cases.find((each) => each.name === name);
if (found === undefined || folder === undefined) throw new Error(`no benchmark ${name}, or no folder`);

// A parent that is gone ends the case; what it started goes with its own channel.
process.once("disconnect", () => process.exit(1));
const figures = await found.run({ folder, seconds: Number(seconds ?? 1) });
if (process.send === undefined) {
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  process.exit(0);
}
process.send(figures, () => process.exit(0));
