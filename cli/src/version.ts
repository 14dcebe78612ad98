/** The version of this software, from its package.json (in a clone and in the published package). */
import { readFileSync } from "node:fs";

function readVersion(): string {
  for (const path of ["../package.json", "../../../package.json"]) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as {
        readonly name?: string;
        readonly version?: string;
      };
      if (manifest.name === "millrace" && manifest.version !== undefined) return manifest.version;
    } catch {
      // the other place
    }
  }
  return "unknown";
}

/** `0.1.0` */
export const version: string = readVersion();
