/**
 * Producer state of a log at start and after a truncation (P4): the newest intact snapshot, then the batches behind it.
 */
import { join } from "node:path";
import type { BatchHeader } from "@millrace/record";
import { readWholeFile } from "@millrace/runtime";
import { asBuffer, readUint64 } from "./bytes.ts";
import { listBases } from "./log-files.ts";
import type { PartitionLog } from "./partition-log.ts";
import { decodeProducerSnapshot } from "./producer-snapshot.ts";
import { segmentFileName } from "./segment.ts";
import { removedProducerPrefix } from "./state-table.ts";
import { walkStored } from "./stored-walk.ts";

/**
 * Rebuilds the state as of the log's end. `firstWalked` is the index of the first segment whose content was just
 * established; snapshots above its base are not believed unless all were closed cleanly. Returns keys of the state
 * table that say nothing any more.
 */
export async function restoreProducers(
  log: PartitionLog,
  firstWalked: number,
  isClean: boolean,
): Promise<string[]> {
  if (log.id.kind === "channel") return [];
  const { clock } = log.context;
  const believedTo = isClean ? log.endOffset : (log.segments[firstWalked]?.baseOffset ?? log.endOffset);
  const snapshotOffset = await restoreSnapshot(log, believedTo);
  const from = Math.max(
    0,
    log.segments.findLastIndex((segment) => segment.baseOffset <= snapshotOffset),
  );
  await applyHeaders(log, from, log.segments.length, (header) => {
    if (header.nextOffset > snapshotOffset)
      log.producerStates.apply(header, header.baseOffset, clock.nowMs());
  });
  return dropRemoved(log, snapshotOffset);
}

/** Loads the newest intact snapshot at or below `believedTo`; returns its offset, the log's first when there is none. */
async function restoreSnapshot(log: PartitionLog, believedTo: number): Promise<number> {
  const { disk, clock } = log.context;
  const offsets = await listBases(disk, log.directory, ".snapshot");
  for (const offset of offsets.filter((each) => each <= believedTo).reverse()) {
    const bytes = await readWholeFile(disk, join(log.directory, segmentFileName(offset, ".snapshot")));
    const entries = bytes === undefined ? undefined : decodeProducerSnapshot(bytes);
    if (entries === undefined) continue;
    log.producerStates.restore(entries, clock.nowMs());
    return offset;
  }
  log.producerStates.restore([], clock.nowMs());
  return log.segments[0]?.baseOffset ?? 0;
}

/** Sees the headers of the batches in a range of segments, stepping over quarantined stretches. */
export async function applyHeaders(
  log: PartitionLog,
  fromSegment: number,
  toSegment: number,
  visit: (header: BatchHeader) => void,
): Promise<void> {
  for (const segment of log.segments.slice(fromSegment, toSegment)) {
    if (!segment.isOnDisk) continue;
    const range = { to: segment.writtenBytes, trustsChecksums: true };
    await log.context.files.use(segment.path, (file) =>
      walkStored(log, segment, file, range, (header) => {
        visit(header);
        return undefined;
      }),
    );
  }
}

/** Producers removed by name (P1) that the batches brought back, unless they wrote again since. */
function dropRemoved(log: PartitionLog, snapshotOffset: number): string[] {
  const prefix = removedProducerPrefix(log.number);
  const obsolete: string[] = [];
  for (const key of log.context.stateKeys(prefix)) {
    const producerId = Number(key.slice(prefix.length));
    const removedAt = readUint64(asBuffer(log.context.getState(key) as Uint8Array), 0);
    const lastOffset = log.producerStates.lastOffsetOf(producerId);
    if (lastOffset !== undefined && lastOffset < removedAt) log.producerStates.remove(producerId);
    if (snapshotOffset > removedAt) obsolete.push(key);
  }
  return obsolete;
}

/** Removes snapshots that no segment begins at: those of clean closes and of cut segments. */
export async function removeStraySnapshots(log: PartitionLog): Promise<void> {
  const bases = new Set(log.segments.map((segment) => segment.baseOffset));
  for (const offset of await listBases(log.context.disk, log.directory, ".snapshot")) {
    if (bases.has(offset)) continue;
    await log.context.disk.removeFile(join(log.directory, segmentFileName(offset, ".snapshot")));
  }
}
