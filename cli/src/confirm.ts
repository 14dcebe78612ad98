/** Questions before something is destroyed: asked on a terminal only, so that scripts never wait for an answer. */
import { createInterface } from "node:readline/promises";

/** True when the user agrees, or when there is nobody to ask. */
export async function confirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
