/** Splits a buffer into lines at LF. Bytes stay as they are: CR, NUL and invalid UTF-8 included. */

const lineFeed = 10;

/** Lines found in a buffer, as views, and how many bytes they took (their newlines included). */
export interface SplitLines {
  readonly lines: readonly Uint8Array[];
  readonly consumedBytes: number;
}

/** Up to `linesMax` whole lines from the beginning of `bytes`. */
export function splitLines(bytes: Buffer, linesMax: number): SplitLines {
  const lines: Uint8Array[] = [];
  let start = 0;
  while (lines.length < linesMax) {
    const end = bytes.indexOf(lineFeed, start);
    if (end < 0) break;
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return { lines, consumedBytes: start };
}
