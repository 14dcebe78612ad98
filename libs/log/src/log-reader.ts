/**
 * Reading a log: from the tail in memory, else from the segment files.
 *
 * What comes from a file is checked (checksum, dense offsets) before it is served. A fault in a file is a stretch of
 * flushed data gone bad: it is quarantined and its readers get RECORD_LOST_ON_DISK (J4); they may go on behind it.
 */
import { AppError, InvariantError } from "@millrace/base";
import { batchSizeAt, decodeBatch, iterateBatches, readBatchHeader } from "@millrace/record";
import { errorCode } from "@millrace/runtime";
import { checkBatch, findNextBatch, type ReadableFile, readFully } from "./batch-walk.ts";
import { readHintsMax } from "./limits.ts";
import type { PartitionLog } from "./partition-log.ts";
import { lostError } from "./quarantine.ts";
import type { Segment } from "./segment.ts";

/** Smallest read from a file; larger than most batches of small producers. */
const readBytesMin = 16_384;
/** Read at a time while looking for the first record of a time. */
const timeScanBytes = 1_048_576;

/** See `Log.read`. */
export async function readLog(
  log: PartitionLog,
  offset: number,
  bytesMax: number,
  upTo: "durable" | "end",
): Promise<Uint8Array[]> {
  for (;;) {
    log.context.checkUsable();
    if (log.failure !== undefined) throw log.failure;
    if (log.changing !== undefined) {
      await log.changing;
      continue;
    }
    if (!(offset >= log.startOffset && offset <= log.endOffset)) {
      throw new AppError(
        "OFFSET_OUT_OF_RANGE",
        `offset ${offset} is not in ${log.label}, which holds ${log.startOffset} to ${log.endOffset - 1}`,
        { metadata: { startOffset: String(log.startOffset), endOffset: String(log.endOffset) } },
      );
    }
    const limit = upTo === "end" ? log.endOffset : log.durableOffset;
    if (offset >= limit) return [];
    const index = log.tail.find(offset);
    if (index !== undefined) return readTail(log, index, bytesMax, limit);
    const found = await readSegment(log, offset, bytesMax, limit);
    if (found !== undefined) return found;
  }
}

function readTail(log: PartitionLog, first: number, bytesMax: number, limit: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (let i = first; ; i++) {
    const batch = log.tail.at(i);
    if (batch === undefined || batch.nextOffset > limit) break;
    if (chunks.length > 0 && bytes + batch.bytes.length > bytesMax) break;
    chunks.push(batch.bytes);
    bytes += batch.bytes.length;
  }
  return chunks;
}

/** The segment that contains `offset`. */
function segmentOf(log: PartitionLog, offset: number): Segment | undefined {
  let low = 0;
  let high = log.segments.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((log.segments[middle] as Segment).baseOffset <= offset) low = middle + 1;
    else high = middle;
  }
  return log.segments[low - 1];
}

/** One chunk from the files; undefined when the log changed under the read or a fault was found: look again. */
async function readSegment(
  log: PartitionLog,
  offset: number,
  bytesMax: number,
  limit: number,
): Promise<Uint8Array[] | undefined> {
  const lost = log.quarantine.find(offset);
  if (lost !== undefined) throw lostError(log.label, lost);
  const segment = segmentOf(log, offset);
  if (segment === undefined) return undefined;
  const isSame = (): boolean => log.segments.includes(segment);
  const scan: Scan = { log, segment, offset, bytesMax, limit, isSame };
  const hint = takeHint(log, offset);
  return log.context.guard(async () => {
    try {
      const start = hint ?? (await segment.index.lookup(offset - segment.baseOffset));
      if (!isSame()) return undefined;
      const run = (from: number): Promise<ScanResult> =>
        log.context.files.use(segment.path, (file) => scanFrom(file, scan, from));
      let result = await run(start);
      if (result === "indexUseless") result = await run(0);
      return result === "indexUseless" ? undefined : result;
    } catch (error) {
      // The files of a segment that was removed under the read may be gone; anything else is the disk's failure.
      if (errorCode(error) !== "ENOENT" || isSame()) throw error;
      return undefined;
    }
  });
}

interface Scan {
  readonly log: PartitionLog;
  readonly segment: Segment;
  readonly offset: number;
  readonly bytesMax: number;
  readonly limit: number;
  /** False once the segment was truncated away or deleted. */
  isSame(): boolean;
}

type ScanResult = Uint8Array[] | undefined | "indexUseless";

async function scanFrom(file: ReadableFile, scan: Scan, start: number): Promise<ScanResult> {
  const { segment, log } = scan;
  let position = start;
  let expected: number | undefined = start === 0 ? segment.baseOffset : undefined;
  let wanted = Math.max(scan.bytesMax, readBytesMin);
  for (;;) {
    const lost = log.quarantine.findAt(segment.baseOffset, position);
    if (lost !== undefined) expected = lost.toOffset;
    if (lost !== undefined && lost.resumePosition > position) {
      position = lost.resumePosition;
      continue;
    }
    const left = segment.writtenBytes - position;
    const bytes = await readFully(file, Math.max(0, Math.min(wanted, left)), position);
    const found = pick(bytes, scan, expected, wanted >= left);
    if (!scan.isSame()) return undefined;
    switch (found.kind) {
      case "chunk":
        addHint(log, { offset: found.nextOffset, segment, position: position + found.to });
        return [bytes.subarray(found.from, found.to)];
      case "more":
        position += found.at;
        expected = found.expected;
        wanted = Math.max(wanted, found.bytes);
        break;
      case "fault":
        if (expected === undefined && found.at === 0) return "indexUseless";
        // a stretch that is known stands between: the next turn steps over it
        if (isKnownFault(log, segment, position + found.at)) {
          position += found.at;
          break;
        }
        await quarantineFault(file, scan, position + found.at, found.expected, found.fault);
        return undefined;
    }
  }
}

function isKnownFault(log: PartitionLog, segment: Segment, position: number): boolean {
  const known = log.quarantine.findAt(segment.baseOffset, position);
  return known !== undefined && known.resumePosition > position;
}

type Picked =
  | { readonly kind: "chunk"; readonly from: number; readonly to: number; readonly nextOffset: number }
  /** The buffer ends before or in the wanted batch: read on from `at`, at least `bytes`. */
  | {
      readonly kind: "more";
      readonly at: number;
      readonly expected: number | undefined;
      readonly bytes: number;
    }
  | { readonly kind: "fault"; readonly at: number; readonly expected: number; readonly fault: string };

/** Steps over batches before the wanted offset, then takes good whole batches up to the limits. */
function pick(bytes: Buffer, scan: Scan, firstExpected: number | undefined, isAtEnd: boolean): Picked {
  let at = 0;
  let expected = firstExpected;
  while (at < bytes.length) {
    const size = batchSizeAt(bytes, at);
    if (size === undefined ? bytes.length - at < 12 : at + size > bytes.length) break;
    const due = expected ?? readableOffset(bytes, at);
    if (due === undefined || due > scan.offset)
      return { kind: "fault", at, expected: expected ?? -1, fault: "no batch" };
    const header = checkBatch(bytes, at, due, { trustsChecksums: true });
    if (typeof header === "string") return { kind: "fault", at, expected: due, fault: header };
    if (header.nextOffset > scan.offset) return take(bytes, scan, at, due);
    at += header.sizeBytes;
    expected = header.nextOffset;
  }
  if (isAtEnd)
    return { kind: "fault", at, expected: expected ?? -1, fault: "the file ends before the batch does" };
  return { kind: "more", at, expected, bytes: batchSizeAt(bytes, at) ?? readBytesMin };
}

function readableOffset(bytes: Buffer, at: number): number | undefined {
  try {
    return readBatchHeader(bytes, at).baseOffset;
  } catch {
    return undefined;
  }
}

function take(bytes: Buffer, scan: Scan, from: number, firstOffset: number): Picked {
  let to = from;
  let nextOffset = firstOffset;
  while (to < bytes.length) {
    const size = batchSizeAt(bytes, to);
    const isNextWhole = size !== undefined && to + size <= bytes.length;
    if (to > from && (!isNextWhole || to + size - from > scan.bytesMax)) break;
    const header = checkBatch(bytes, to, nextOffset, {
      epochAt: (offset) => scan.log.epochs.epochAt(offset),
    });
    if (typeof header === "string") {
      if (to > from) break;
      return { kind: "fault", at: to, expected: nextOffset, fault: header };
    }
    if (header.nextOffset > scan.limit) break;
    to += header.sizeBytes;
    nextOffset = header.nextOffset;
  }
  return { kind: "chunk", from, to, nextOffset };
}

/** Records a stretch of flushed bytes that does not read back. */
async function quarantineFault(
  file: ReadableFile,
  scan: Scan,
  position: number,
  fromOffset: number,
  fault: string,
): Promise<void> {
  const { log, segment } = scan;
  const segmentIndex = log.segments.indexOf(segment);
  const segmentEnd = log.segments[segmentIndex + 1]?.baseOffset ?? segment.writtenOffset;
  const endPosition = segment.writtenBytes;
  const next = await findNextBatch(file, {
    from: position + 1,
    to: endPosition,
    minOffset: fromOffset,
    maxOffset: segmentEnd,
  });
  const toOffset = next?.baseOffset ?? segmentEnd;
  const resumePosition = next?.position ?? endPosition;
  if (toOffset <= fromOffset) {
    const text = `${log.label} has no batch at offset ${scan.offset}, segment ${segment.baseOffset} ends at ${segment.writtenOffset}`;
    log.fail(new InvariantError(text));
    return;
  }
  log.quarantine.add({ fromOffset, toOffset, segmentBase: segment.baseOffset, position, resumePosition });
  const where = `${segment.path} byte ${position}: ${fault}`;
  log.context.emit({ kind: "corruptionQuarantined", log: log.label, fromOffset, toOffset, where });
}

function takeHint(log: PartitionLog, offset: number): number | undefined {
  const index = log.readHints.findIndex((hint) => hint.offset === offset);
  if (index < 0) return undefined;
  const [hint] = log.readHints.splice(index, 1);
  return hint !== undefined && segmentOf(log, offset) === hint.segment ? hint.position : undefined;
}

function addHint(log: PartitionLog, hint: PartitionLog["readHints"][number]): void {
  log.readHints.push(hint);
  if (log.readHints.length > readHintsMax) log.readHints.shift();
}

/** See `Log.offsetForTime`. */
export async function findOffsetForTime(
  log: PartitionLog,
  timestampMs: number,
): Promise<{ offset: number; timestampMs: number } | undefined> {
  const segment = log.segments.find((candidate) => candidate.maxTimestampMs >= timestampMs);
  if (segment === undefined) return undefined;
  const relative = await segment.timeIndex.lookup(timestampMs);
  let offset = Math.max(log.startOffset, segment.baseOffset + relative);
  for (;;) {
    const lost = log.quarantine.find(offset);
    if (lost !== undefined) offset = lost.toOffset;
    const chunks = await readLog(log, offset, timeScanBytes, "durable");
    if (chunks.length === 0) return undefined;
    for (const chunk of chunks) {
      for (const { position, header } of iterateBatches(chunk)) {
        offset = header.nextOffset;
        if (header.maxTimestampMs < timestampMs) continue;
        const found = firstRecordAt(chunk, position, timestampMs, log.startOffset);
        if (found !== undefined) return found;
      }
    }
  }
}

function firstRecordAt(
  chunk: Uint8Array,
  position: number,
  timestampMs: number,
  startOffset: number,
): { offset: number; timestampMs: number } | undefined {
  try {
    const record = decodeBatch(chunk, position).find(
      (candidate) => candidate.timestampMs >= timestampMs && candidate.offset >= startOffset,
    );
    return record === undefined ? undefined : { offset: record.offset, timestampMs: record.timestampMs };
  } catch {
    // A poison batch (design §3) is answered by its header; whoever reads it meets the poison.
    const header = readBatchHeader(chunk, position);
    return { offset: Math.max(header.baseOffset, startOffset), timestampMs: header.maxTimestampMs };
  }
}
