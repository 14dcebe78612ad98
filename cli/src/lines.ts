/** Lines of a byte stream, as bytes: invalid UTF-8, NUL and CR stay as they are. */
import { AppError } from "@millrace/base";

/** Longest line taken from a file or stdin, bytes. */
export const lineBytesMax = 64 * 1024 * 1024;

/** The lines of a stream in groups, one per chunk that ends any; the last line counts without a newline too. */
export async function* linesOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array[], void, void> {
  let open: Uint8Array[] = [];
  let openBytes = 0;
  let number = 0;
  for await (const chunk of stream) {
    const lines: Uint8Array[] = [];
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      lines.push(Buffer.concat([...open, chunk.subarray(from, at)]));
      open = [];
      openBytes = 0;
      from = at + 1;
    }
    number += lines.length;
    if (from < chunk.length) {
      open.push(chunk.subarray(from));
      openBytes += chunk.length - from;
    }
    if (openBytes > lineBytesMax)
      throw new AppError("RECORD_TOO_LARGE", `line ${number + 1} is longer than ${lineBytesMax} bytes`);
    if (lines.length > 0) yield lines;
  }
  if (open.length > 0) yield [Buffer.concat(open)];
}
