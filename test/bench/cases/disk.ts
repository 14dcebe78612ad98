import { open } from "node:fs/promises";
import { join } from "node:path";
import type { BenchCase } from "../bench.ts";

const blockBytes = 256 * 1024;
const fileBytes = 64 * 1024 * 1024;

/** What this disk gives to a loop that does nothing else, in the same minutes: the other figures are to be read beside it. */
export const diskCase: BenchCase = {
  name: "disk",
  summary: "write of 256 KiB and fdatasync in a bare loop, for comparison",
  run: async ({ folder, seconds }) => {
    const file = await open(join(folder, "bare"), "w");
    const block = Buffer.alloc(blockBytes, 1);
    for (let at = 0; at < fileBytes; at += blockBytes) await file.write(block, 0, blockBytes, at);
    await file.sync();
    let bytes = 0;
    const start = performance.now();
    while (performance.now() - start < seconds * 500) {
      await file.writev([block], bytes % fileBytes);
      await file.datasync();
      bytes += blockBytes;
    }
    const elapsedSeconds = (performance.now() - start) / 1000;
    await file.close();
    return [{ name: "bare disk: 256 KiB + fdatasync", value: bytes / 1e6 / elapsedSeconds, unit: "MB/s" }];
  },
};
